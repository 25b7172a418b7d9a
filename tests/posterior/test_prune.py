"""A pruned net computes what the median-probability model does."""

import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from pyro.nn import PyroModule
from torch import nn

from bnn_pyro import fit, prune
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.nodes.attention import Attention
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.pruning.cutting import InputSelection
from tests.posterior.test_guide import posterior_of
from tests.pruning.masks import close, set_gates, size
from tests.test_network import INPUTS_STAY, NETS, inputs, network


# ---- prune -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("which", ["some", "first", "all", "none"])
@pytest.mark.parametrize(
    ("name", "select_inputs"),
    [(name, select) for name in NETS for select in (False, True) if not (select and name in INPUTS_STAY)],
)
def test_pruned_net_is_the_median_model(name: str, select_inputs: bool, which: str) -> None:
    posterior = posterior_of(name, select_inputs=select_inputs)
    close(posterior, which)
    small, x = prune(posterior), inputs(40)
    torch.testing.assert_close(small(x), posterior.median_model()(x), rtol=0, atol=1e-12)
    assert (size(small) == size(posterior.model.net)) == (which == "none")
    assert not any(module.training for module in small.modules())


def test_pruned_net_does_not_depend_on_the_inputs_if_all_gates_are_closed() -> None:
    posterior = posterior_of(select_inputs=True)
    close(posterior, "all")
    small = prune(posterior)
    assert size(small) == 3 and torch.equal(small(inputs()), small.get_parameter("network.output.bias").expand(12, 3))


def test_number_of_parameters() -> None:
    """6-8-7-3 becomes 4-5-2-3."""
    posterior = posterior_of(select_inputs=True)
    kept = {"inputs": 4, "hidden1": 5, "hidden2": 2}
    set_gates(
        posterior, {name: torch.arange(group.size) < kept[name] for name, group in posterior.model.groups.items()}
    )
    assert size(prune(posterior)) == (4 * 5 + 5) + (5 * 2 + 2) + (2 * 3 + 3)


@pytest.mark.parametrize("name", ["mlp", "stream", "concat", "convolutions", "residual convolutions", "transformer"])
def test_pruned_net_is_plain_and_can_be_exported(name: str) -> None:
    posterior = posterior_of(name, select_inputs=name not in INPUTS_STAY)
    small = prune(posterior)
    own = {type(module) for module in NETS[name]().modules()} | {InputSelection, Attention, nn.Sequential}
    assert {type(module) for module in small.modules()} <= own
    assert not any(isinstance(module, PyroModule) for module in small.modules())
    assert all(type(parameter) is nn.Parameter and not vars(parameter) for parameter in small.parameters())
    exported = torch.export.export(small, (inputs(),), strict=False).module()
    torch.testing.assert_close(exported(inputs()), small(inputs()), rtol=0, atol=1e-12)


def test_given_masks_open_and_close() -> None:
    posterior = posterior_of(select_inputs=True)
    keep = {"hidden1": ~posterior.keep()["hidden1"]}
    small, x = prune(posterior, keep=keep), inputs()
    torch.testing.assert_close(small(x), posterior.median_model(keep=keep)(x), rtol=0, atol=1e-12)
    assert (small(x) - posterior.median_model()(x)).abs().max() > 1e-3
    layer = small.get_submodule("network.hidden1")
    assert layer.out_features == int(keep["hidden1"].sum()) and layer.in_features == int(
        posterior.keep()["inputs"].sum()
    )


def test_channels_can_be_rounded_up() -> None:
    posterior = posterior_of("convolutions")
    small = prune(posterior, multiple=4)
    torch.testing.assert_close(small(inputs(40)), posterior.median_model()(inputs(40)), rtol=0, atol=1e-12)
    assert small.get_parameter("1.weight").shape[0] == 4
    with pytest.raises(ValueError, match="multiple must be at least 1"):
        prune(posterior, multiple=0)


def test_points_are_cut() -> None:
    posterior = posterior_of("mlp", bayesian=lambda name, _: name.endswith("weight"))
    small, keep = prune(posterior), posterior.keep()["hidden1"]
    start = posterior.model.net.get_parameter("hidden1.bias")
    assert torch.equal(small.get_parameter("hidden1.bias"), start[keep])


def test_what_is_left_can_be_trained_on() -> None:
    """But for what was frozen in the net."""
    small = prune(posterior_of(select_inputs=True))
    assert all(parameter.requires_grad for parameter in small.parameters())
    small(inputs()).sum().backward()
    frozen = posterior_of("mlp", bayesian=lambda name, _: name.endswith("weight"))
    frozen.model.net.get_parameter("hidden1.bias").requires_grad_(False)
    left = [name for name, parameter in prune(frozen).named_parameters() if not parameter.requires_grad]
    assert left == ["hidden1.bias"]


def test_a_guide_of_pyro_can_be_pruned() -> None:
    model = network(select_inputs=True)
    guide = AutoNormal(model.prior, init_loc_fn=lambda site: torch.rand(site["fn"].shape()).to(inputs()))
    guide()
    posterior = GuidePosterior(model, guide)
    small = prune(posterior)
    torch.testing.assert_close(small(inputs()), posterior.median_model()(inputs()), rtol=0, atol=1e-12)
    assert size(small) < size(model.net)
    with pytest.raises(ValueError, match="guide must be an AutoSpikeSlab or AutoCentered to be shrunk, got AutoNormal"):
        posterior.shrink()


def test_a_pruned_net_can_be_the_start_of_another() -> None:
    first = posterior_of(select_inputs=True)
    small = prune(first)
    posterior = posterior_of(small, select_inputs=False)
    assert all(name.startswith("network.") for name in posterior.model.groups)
    again = prune(posterior)
    torch.testing.assert_close(again(inputs()), posterior.median_model()(inputs()), rtol=0, atol=1e-12)
    shrunk = posterior.shrink()
    torch.testing.assert_close(shrunk.median_model()(inputs()), again(inputs()), rtol=0, atol=1e-12)


def test_a_pruned_network_is_fitted_and_pruned_again() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=generator, dtype=torch.float64)
    y = (x[:, 0] > 0).long()
    net: nn.Module = mlp(6, (12,), 2).double()
    schedule, rates = Schedule(hold=5, freeze=5), LearningRates(slab_locs=1e-2, slab_scales=1e-2, gates=5e-2)
    sizes = []
    for _ in range(2):
        model = SparseNetwork(
            net, x[:2], prior=SpikeSlab(Gaussian(), inclusion=0.01), likelihood=Categorical(), num_data=80
        )
        posterior = fit(model, (x, y), epochs=60, batch_size=20, kl_weight=0.3, schedule=schedule, rates=rates, seed=0)
        net = prune(posterior)
        sizes.append(sum(parameter.numel() for parameter in net.parameters()))
        torch.testing.assert_close(net(x).detach(), posterior.median_model()(x))
    assert 0 < sizes[1] <= sizes[0] < 12 * 9 + 2
    assert float((net(x).argmax(1) == y).double().mean()) > 0.8
