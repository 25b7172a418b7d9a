"""Training data at the door: its forms, its faults, held-out rows."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import TensorDataset

from bnn_pyro.inference.checks import as_pair, check_against, split_rows, warn_of_scales
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, SpikeSlab
from tests.test_network import inputs, labels, network

X, Y = inputs(), labels()


@pytest.mark.parametrize("data", [(X, Y), [X, Y], TensorDataset(X, Y), SimpleNamespace(x=X, y=Y)])
def test_forms_of_data(data: Any) -> None:
    x, y = as_pair("data", data)
    assert torch.equal(x, X) and torch.equal(y, Y)


@pytest.mark.parametrize(
    "run",
    [
        lambda device: fit(network(), (X, Y), device=device),
        lambda device: fit_sghmc(network(prior=Gaussian()), (X, Y), epochs=4, device=device),
        lambda device: sample(network(), (X, Y), device=device),
        lambda device: sample(lambda x: None, (X,), device=device),
        lambda device: train_dense(network().net, (X, Y), likelihood=Categorical(), device=device),
    ],
)
def test_a_device_that_is_not_there(run: Callable[[str], object]) -> None:
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, mps, xpu.*got 'meta'"):
        run("meta")


def test_a_device_by_name() -> None:
    x, y = as_pair("data", (X, Y), device="cpu")
    assert torch.equal(x, X) and torch.equal(y, Y)


def test_real_observations_have_the_dtype_of_the_inputs() -> None:
    assert as_pair("data", (X.float(), X[:, 0]))[1].dtype == torch.float32
    assert as_pair("data", (X.float(), Y))[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, r"train must be a pair \(x, y\)"),
        (
            (X, Y, Y),
            r"train must be a pair \(x, y\) for a likelihood without weights, got a third part for that of the",
        ),
        ((X, Y, Y, Y), r"train must be a pair \(x, y\) .* got tuple"),
        (TensorDataset(X), r"train must be a pair \(x, y\) .* got tuple"),
        ((X, Y[0]), r"train must be a pair \(x, y\)"),
        (None, "got NoneType"),
        ((X[:0], Y[:0]), "train must have as many rows in y as in x, and one at least, got 0 and 0"),
        ((X, Y[:5]), "got 12 and 5"),
        ((X.long(), Y), "train must have floating-point inputs, got torch.int64"),
        ((X / 0, Y), "train must be finite, got NaN or infinite values in x"),
        ((X, X[:, 0] / 0), "train must be finite, got NaN or infinite values in y"),
    ],
)
def test_bad_data(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_pair("train", data)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (inputs(12, 5), Y, r"train must have inputs of shape \(rows, 6\), got \(12, 5\)"),
        (X, Y + 1, "train does not fit the likelihood: y must hold labels in 0 ... 2, got 1 ... 3"),
        (X, Y.int(), "train does not fit the likelihood: .* torch.int64"),
        (X, X[:, 0], "train does not fit the likelihood: .* torch.int64"),
        (X, Y.unsqueeze(1), r"train does not fit the likelihood: y must have shape \(12,\)"),
    ],
)
def test_data_that_does_not_fit(x: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_against("train", network(), x, y)


def test_checking_leaves_the_net_in_its_mode() -> None:
    model = network()
    model.net.train()
    model.net.get_submodule("activation1").eval()
    before = [module.training for module in model.net.modules()]
    check_against("train", model, X, Y)
    assert [module.training for module in model.net.modules()] == before


def test_split() -> None:
    train, held_out = split_rows(40, 0.25, torch.Generator().manual_seed(0))
    assert len(train) == 30 and len(held_out) == 10
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(40))
    assert train.tolist() != sorted(train.tolist())


@pytest.mark.parametrize(("rows", "fraction"), [(40, 0.0), (40, 1.0), (40, -0.1), (4, 0.1), (1, 0.5)])
def test_bad_split(rows: int, fraction: float) -> None:
    with pytest.raises(ValueError, match="validation must be a fraction"):
        split_rows(rows, fraction, torch.Generator())


# ---- scales ----------------------------------------------------------------------------------------------------------
def test_targets_of_normal_likelihoods_alone_have_a_scale(caplog: pytest.LogCaptureFixture) -> None:
    warn_of_scales(X, Y * 1000, Categorical())
    warn_of_scales(X, Y.double(), GaussianNoise())
    assert not caplog.records
    warn_of_scales(X, Y.double() * 1000, HeteroscedasticNoise())
    warn_of_scales(X * 1000, Y.double() * 1000, GaussianNoise())
    assert [record.getMessage().split()[0] for record in caplog.records] == ["targets", "inputs", "targets"]
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def unscaled() -> tuple[torch.Tensor, torch.Tensor]:
    """A table as people have it: two inputs and a price, on scales of their own."""
    z = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    return z * torch.tensor([20.0, 900.0]) + torch.tensor([100.0, 5000.0]), 200_000 + 80_000 * z[:, 0]


def priced(x: torch.Tensor) -> SparseNetwork:
    prior = SpikeSlab(Gaussian(), inclusion=0.5)
    return SparseNetwork(mlp(2, (3,), 1), x[:2], prior=prior, likelihood=GaussianNoise(), num_data=len(x))


SLOWLY = OneShot(sampler=Sampler(lr=1e-6), cycles=1)
PLAN = SamplingPlan(chains=1, warmup=2, draws=4, kernel="mclmc", thinning=1)
CALLS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "fit": lambda x, y: fit(priced(x), (x, y), epochs=1, seed=0),
    "fit_sghmc": lambda x, y: fit_sghmc(priced(x), (x, y), SLOWLY, epochs=1, seed=0),
    "sample": lambda x, y: sample(priced(x), (x, y), PLAN, seed=0),
    "train_dense": lambda x, y: train_dense(mlp(2, (3,), 1), (x, y), likelihood=GaussianNoise(), epochs=1, seed=0),
}


@pytest.mark.parametrize("name", CALLS)
def test_scales_that_are_far_from_1_are_warned_of(name: str, caplog: pytest.LogCaptureFixture) -> None:
    x, y = unscaled()
    CALLS[name](x, y)
    assert "inputs are far from unit scale" in caplog.text and "targets are far from unit scale" in caplog.text
    caplog.clear()
    CALLS[name]((x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std())
    assert "unit scale" not in caplog.text
