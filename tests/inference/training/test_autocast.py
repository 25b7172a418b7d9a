"""In lower precision the network's outputs move by its rounding, and nothing else moves at all."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import fit
from bnn_pyro.inference.svi.elbo import SparseELBO, elbo_terms
from bnn_pyro.inference.training.autocast import PRECISIONS, computing
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian, SpikeSlab
from guides import AutoSpikeSlab
from tests.inference.svi.test_fit import FAST, STILL, state
from tests.test_network import inputs, labels, network

X, Y = torch.randn(16, 2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 3
BF16 = 2**-8  # relative spacing of bfloat16
OPTIONS: dict[str, Any] = {"epochs": 3, "batch_size": 8, "rates": FAST, "seed": 0, "kl_weight": 1e-3}


def images() -> SparseNetwork:
    """A small net of convolutions in float32."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.SiLU(), nn.Flatten(), nn.Linear(96, 3))
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(net, X[:2], prior=prior, likelihood=Categorical(), num_data=16)


@pytest.mark.parametrize("local", [False, True])
def test_the_divergence_is_the_same_and_the_likelihood_close(local: bool) -> None:
    model = images()
    guide = AutoSpikeSlab(model.prior)
    found = []
    for precision in PRECISIONS:
        torch.manual_seed(1)
        with computing(model.net, precision):
            found.append(elbo_terms(model, guide, X, Y, local_reparameterization=False if not local else "exact"))
    full, low = found
    assert torch.equal(low.kl, full.kl) and low.kl.dtype == low.log_likelihood.dtype == torch.float32
    error = float((low.log_likelihood / full.log_likelihood - 1).abs().detach())
    assert 0 < error < (3 * BF16 if not local else 1)


def test_the_network_is_as_it_was() -> None:
    net = nn.Sequential(nn.Linear(3, 2), nn.Softplus())
    with computing(net, "bf16"):
        inside = net(torch.ones(1, 3))
    outside = net(torch.ones(1, 3))
    assert inside.dtype == torch.float32 and not net._forward_hooks and not net._forward_pre_hooks
    assert not torch.equal(inside, outside) and not torch.is_autocast_enabled("cpu")
    torch.testing.assert_close(inside, outside, rtol=3 * BF16, atol=3 * BF16)


def test_an_error_in_the_network_ends_it() -> None:
    net = nn.Sequential(nn.Linear(3, 2))
    with pytest.raises(RuntimeError), computing(net, "bf16"):
        net(torch.ones(1, 4))
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_a_run_in_bf16_is_close_to_one_in_float32(engine: Any) -> None:
    full, low = (
        fit(
            images(),
            (X, Y),
            compute=Compute(engine=engine, precision=precision),
            elbo=SparseELBO(local_reparameterization=False),
            **OPTIONS,
        )
        for precision in PRECISIONS
    )
    losses = [torch.tensor([record["loss"] for record in run.history]) for run in (full, low)]
    assert 0 < float((losses[1] / losses[0] - 1).abs().max()) < 5 * BF16
    assert all(value.dtype != torch.bfloat16 for value in state(low).values())


def test_outputs_that_are_drawn_run_in_bf16_too() -> None:
    run = fit(
        images(), (X, Y), elbo=SparseELBO(local_reparameterization=True), compute=Compute(precision="bf16"), **OPTIONS
    )
    assert run.history[-1]["loss"] < run.history[0]["loss"]


def test_channels_last_gives_the_same() -> None:
    runs, seen = [], []
    for channels_last in (False, True):
        model = images()
        with pytest.MonkeyPatch.context() as patch:
            call = type(model).call_net

            def noting(self: Any, values: Any, x: Tensor, call: Any = call) -> Tensor:
                seen.append(x.is_contiguous(memory_format=torch.channels_last))
                result: Tensor = call(self, values, x)
                return result

            patch.setattr(type(model), "call_net", noting)
            options = {**OPTIONS, "rates": STILL}
            runs.append(
                fit(
                    model,
                    (X, Y),
                    compute=Compute(channels_last=channels_last),
                    elbo=SparseELBO(local_reparameterization=False),
                    **options,
                )
            )
        assert seen[1] == channels_last  # the first call checks the data
        seen.clear()
    losses = [[record["loss"] for record in run.history] for run in runs]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "bf16"}, "precision='bf16' needs inputs in float32, got torch.float64"),
        ({"channels_last": True}, r"channels_last needs images of shape .* got inputs of shape \(12, 6\)"),
    ],
)
def test_what_does_not_fit_the_inputs(options: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fit(network(), (inputs(), labels()), epochs=1, compute=Compute(**options))
