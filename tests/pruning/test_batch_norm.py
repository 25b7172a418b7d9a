"""Running statistics fit the network that is evaluated."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import prune
from bnn_pyro.networks import mlp
from bnn_pyro.pruning.batch_norm import evenly_spread, recompute_batch_norm, running_statistics
from tests.posterior.test_guide import posterior_of
from tests.test_network import inputs


def convolution() -> nn.Sequential:
    """Two convolutions with BatchNorms and dropout between them."""
    return nn.Sequential(
        *(nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Sigmoid()),
        *(nn.Conv2d(3, 2, 2), nn.BatchNorm2d(2, affine=False, momentum=0.3)),
    ).double()


def images(rows: int = 12) -> Tensor:
    return torch.randn(rows, 2, 5, 5, dtype=torch.float64)


def moments(h: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance of each channel."""
    return h.mean((0, 2, 3)), h.var((0, 2, 3))


def buffers(net: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in net.named_buffers()}


def test_statistics_are_those_of_the_inputs() -> None:
    net, x = convolution(), images()
    fresh: Any = recompute_batch_norm(net.train(), x)
    first = net[0](x)
    mean, variance = moments(first)
    torch.testing.assert_close(fresh[1].running_mean, mean)
    torch.testing.assert_close(fresh[1].running_var, variance)
    biased = first.var((0, 2, 3), unbiased=False)
    normed = (first - mean[:, None, None]) / (biased + 1e-5).sqrt()[:, None, None]
    mean, variance = moments(net[4](normed.sigmoid()))  # without dropout
    torch.testing.assert_close(fresh[5].running_mean, mean)
    torch.testing.assert_close(fresh[5].running_var, variance)


def test_batches_are_averaged_alike() -> None:
    net, x = convolution()[:2], images(10)
    fresh: Any = recompute_batch_norm(net, x, batch_size=4)
    found = [moments(net[0](rows)) for rows in x.split([4, 3, 3])]
    torch.testing.assert_close(fresh[1].running_mean, torch.stack([mean for mean, _ in found]).mean(0))
    torch.testing.assert_close(fresh[1].running_var, torch.stack([variance for _, variance in found]).mean(0))


def test_the_net_is_left_alone_and_the_copy_has_its_modes() -> None:
    net, x = convolution().train(), images()
    net[1].eval()
    before = buffers(net)
    fresh: Any = recompute_batch_norm(net, x)
    assert all(torch.equal(value, before[name]) for name, value in net.named_buffers())
    assert [module.training for module in fresh.modules()] == [module.training for module in net.modules()]
    assert (fresh[1].momentum, fresh[5].momentum) == (0.1, 0.3)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), fresh.parameters(), strict=True))


def test_there_may_be_no_statistics() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False))
    fresh = recompute_batch_norm(net, torch.randn(4, 2))
    assert fresh is not net and not list(fresh.buffers())


def test_running_statistics_are_found_by_name() -> None:
    net = convolution()
    found = running_statistics(net)
    assert list(found) == ["1.running_mean", "1.running_var", "5.running_mean", "5.running_var"]
    assert all(value is net.get_buffer(name) for name, value in found.items())
    assert list(running_statistics(net, frozen=["1"])) == ["5.running_mean", "5.running_var"]
    assert list(running_statistics(nn.BatchNorm1d(2))) == ["running_mean", "running_var"]


def test_rows_are_evenly_spread() -> None:
    x = torch.arange(10)
    assert torch.equal(evenly_spread(x, 10), x)
    assert evenly_spread(x, 4).tolist() == [0, 3, 6, 9] and evenly_spread(x[:0], 4).tolist() == []


def test_a_pruned_net_gets_its_own_statistics() -> None:
    posterior = posterior_of("convolutions")
    small, x = prune(posterior), inputs(40)
    expected = recompute_batch_norm(posterior.median_model(), x)
    torch.testing.assert_close(recompute_batch_norm(small, x)(x), expected(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("rows", "batch_size"), [(0, 4), (3, 0)])
def test_bad_batches_are_refused(rows: int, batch_size: int) -> None:
    message = f"x must have a row and batch_size be at least 1, got {rows} rows and {batch_size}"
    with pytest.raises(ValueError, match=message):
        recompute_batch_norm(mlp(2, (3,), 1), torch.zeros(rows, 2), batch_size=batch_size)
