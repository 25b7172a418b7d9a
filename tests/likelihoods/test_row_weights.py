"""Weights of rows: a row of weight 2 is two rows, of any likelihood, in fits and in scores."""

from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from bnn_pyro import Compute, fit, fit_sghmc, networks, train_dense
from bnn_pyro.likelihoods import Categorical, Likelihood, MultiOutputNoise, Poisson, RowWeights, with_weights
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian

ROWS = 12
X = torch.randn(ROWS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.arange(ROWS).double() % 3
LABELS = (X[:, 0] > 0).long()
CASES: dict[str, tuple[RowWeights, int, Tensor]] = {
    "classes": (RowWeights(Categorical()), 2, LABELS),
    "counts": (RowWeights(Poisson()), 1, (3 * X[:, 0].abs()).floor()),
    "several": (RowWeights(MultiOutputNoise(2), (2,)), 2, X[:, :2]),
}
every_likelihood = pytest.mark.parametrize(("likelihood", "outputs", "y"), CASES.values(), ids=CASES.keys())


@every_likelihood
def test_density_is_multiplied_by_the_weight(likelihood: RowWeights, outputs: int, y: Tensor) -> None:
    output, latent = X[:, :outputs], torch.ones(2, dtype=torch.float64)
    both = with_weights(y, WEIGHT)
    assert torch.equal(likelihood.targets(both), y) and likelihood.targets(y) is y
    plain = likelihood.base.distribution(output, latent).log_prob(y)
    weighted = likelihood.distribution(output, latent)
    torch.testing.assert_close(weighted.log_prob(both), plain * WEIGHT)
    torch.testing.assert_close(weighted.log_prob(y), plain)
    likelihood.check(output, both)
    likelihood.check(output, y)
    drawn = weighted.expand(torch.Size([ROWS])).sample()
    assert drawn.shape == both.shape and (drawn[:, -1] == 1).all()


@every_likelihood
def test_a_weighted_fit_is_scored_with_its_weights(likelihood: RowWeights, outputs: int, y: Tensor) -> None:
    net = networks.mlp(3, (4,), outputs).double()
    model = SparseNetwork(net, X[:2], prior=Gaussian(), likelihood=likelihood, num_data=ROWS)
    posterior = fit(model, (X, with_weights(y, WEIGHT)), epochs=1, seed=0)
    median = posterior.evaluate_median(X, with_weights(y, WEIGHT))
    assert posterior.history[0]["train_nll"] == pytest.approx(median["nll"])
    twice = torch.arange(ROWS).repeat_interleave(WEIGHT.long())
    assert median == pytest.approx(posterior.evaluate_median(X[twice], y[twice]), rel=1e-5, abs=1e-6)
    assert median == posterior.evaluate_median((X, y, WEIGHT)) == posterior.evaluate_median(X, y, weight=WEIGHT)
    assert median["nll"] != pytest.approx(posterior.evaluate_median(X, y)["nll"])
    assert posterior.is_classification == isinstance(likelihood.base, Categorical)


def test_rows_of_weight_two_are_two_rows() -> None:
    net = networks.mlp(3, (4,), 2).double()
    options: dict[str, Any] = {"epochs": 20, "batch_size": 100, "weight_decay": 0.0, "seed": 0}
    twice = torch.arange(ROWS).repeat_interleave(WEIGHT.long())
    plain: Likelihood = Categorical()
    expected = train_dense(net, (X[twice], LABELS[twice]), likelihood=plain, **options)
    found = train_dense(net, (X, with_weights(LABELS, WEIGHT)), likelihood=RowWeights(plain), **options)
    torch.testing.assert_close(found(X), expected(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (WEIGHT[:3], r"weight must have shape \(12,\), one for each row, got \(3,\)"),
        (-WEIGHT, "weight must be at least 0 and finite"),
        (WEIGHT / 0, "weight must be at least 0 and finite"),
    ],
)
def test_weights_are_checked(weight: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        with_weights(LABELS, weight)


def test_targets_are_checked_by_the_likelihood() -> None:
    with pytest.raises(ValueError, match="y must hold labels in 0"):
        RowWeights(Categorical()).check(X[:, :2], with_weights(LABELS + 5, WEIGHT))
    broken = with_weights(LABELS, WEIGHT)
    broken[0, -1] = -1
    with pytest.raises(ValueError, match="weight must be at least 0"):
        RowWeights(Categorical()).check(X[:, :2], broken)
    assert isinstance(RowWeights(Categorical()).base.distribution(X[:, :2]), dist.Categorical)


def test_data_may_have_weights_as_a_third_part() -> None:
    """Every way to train takes them, as pairs with the weights beside the targets."""
    net, likelihood = networks.mlp(3, (4,), 2).double(), RowWeights(Categorical())
    beside, third = (X, with_weights(LABELS, WEIGHT)), (X, LABELS, WEIGHT)
    model = SparseNetwork(net, X[:2], prior=Gaussian(), likelihood=likelihood, num_data=ROWS)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 5, "seed": 0}
    compute = Compute(engine="eager")
    fits = [fit(model, data, validation=third, compute=compute, **options) for data in (beside, third)]
    assert fits[0].history[-1]["loss"] == fits[1].history[-1]["loss"]
    loader = DataLoader(TensorDataset(*third), batch_size=4)
    assert fit(model, loader, compute=compute, **options).history[-1]["loss"] == fits[0].history[-1]["loss"]
    trained = [train_dense(net, data, likelihood=likelihood, **options) for data in (beside, third)]
    assert torch.equal(trained[0](X), trained[1](X))
    snapshots = [fit_sghmc(model, data, engine="eager", **options | {"epochs": 4}) for data in (beside, third)]
    assert torch.equal(*(posterior.predict(X) for posterior in snapshots))


def test_weights_are_for_a_likelihood_that_takes_them() -> None:
    net = networks.mlp(3, (4,), 2).double()
    message = r"data must be a pair \(x, y\) for a likelihood without weights, got a third part for Categorical: make"
    model = SparseNetwork(net, X[:2], prior=Gaussian(), likelihood=Categorical(), num_data=ROWS)
    with pytest.raises(ValueError, match=message):
        fit(model, (X, LABELS, WEIGHT), epochs=1)
    with pytest.raises(ValueError, match=message):
        train_dense(net, (X, LABELS, WEIGHT), likelihood=Categorical(), epochs=1)
    with pytest.raises(ValueError, match=r"data: weight must have shape \(12,\)"):
        train_dense(net, (X, LABELS, WEIGHT[:3]), likelihood=RowWeights(Categorical()), epochs=1)
