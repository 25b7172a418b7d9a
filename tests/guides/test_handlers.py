"""The messengers answer each site, so that its quantiles are known where they have a closed form."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive

from bnn_pyro.priors import gate, slab
from guides import AutoCentered, AutoSpikeSlab
from tests.guides.test_program import GUIDES, Guide, double, mixed
from tests.models import DOUBLE, data, hints, perturbed


# ---- quantiles -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("guide", GUIDES)
def test_quantiles_where_they_are_defined(guide: Guide) -> None:
    """Gates, scales, entries with a support of their own, and slabs of a known posterior; against 20,000 draws."""

    def model() -> None:
        s = pyro.sample("s", dist.HalfNormal(double(1)))
        gate("z", double(0.3), size=3)
        pyro.sample("known", dist.Normal(double(1), double(2)).expand((3,)).to_event(1), infer=hints(gates={"z": -1}))
        slab("unknown", (3,), scale=s.unsqueeze(-1) * torch.ones(1, dtype=DOUBLE))
        pyro.sample("share", dist.Beta(double(2, 3), double(2, 2)).to_event(1))
        pyro.sample(
            "below", dist.TransformedDistribution(dist.Exponential(double(1)), dist.transforms.AffineTransform(1, -1))
        )
        pyro.sample("simplex", dist.Dirichlet(torch.ones(3, dtype=DOUBLE)))

    answer = perturbed(guide(model))
    levels = [0.1, 0.5, 0.8]
    found = answer.quantiles(levels)
    expected = {"s", "z", "known", "share", "below"} | ({"unknown"} if guide is AutoCentered else set())
    assert set(found) == expected
    draws = Predictive(model, guide=answer, num_samples=20_000, parallel=True)()
    for name, value in found.items():
        sample = draws[name].reshape(20_000, *value.shape[1:])
        assert value.shape[0] == 3
        for level, quantile in zip(levels, value, strict=True):
            below, at_most = ((sample < quantile).double().mean(0), (sample <= quantile).double().mean(0))
            assert ((below <= level + 0.02) & (at_most >= level - 0.02)).all(), name
    assert answer.quantiles(torch.tensor([0.5]))["s"].shape == (1,)


@pytest.mark.parametrize("guide", GUIDES)
def test_medians_of_sites_with_a_joint_distribution_lie_in_their_support(guide: Guide) -> None:
    """Vectors of positive numbers, and of numbers below 1, whose distribution is that of a vector as a whole."""
    correlated = dist.MultivariateNormal(double(0, 1), double(1, 0.5, 0.5, 1).reshape(2, 2))
    falling = [dist.transforms.ExpTransform(), dist.transforms.AffineTransform(1, -1)]

    def model() -> None:
        pyro.sample("above 0", dist.TransformedDistribution(correlated, dist.transforms.ExpTransform()))
        pyro.sample("below 1", dist.TransformedDistribution(correlated, falling))

    answer = perturbed(guide(model))
    draws, median = Predictive(model, guide=answer, num_samples=20_000, parallel=True)(), answer.median()
    for name, value in median.items():
        torch.testing.assert_close((draws[name] < value).double().mean(0), double(0.5, 0.5), rtol=0, atol=0.02)


def test_quantiles_of_relaxed_gates() -> None:
    def model() -> None:
        gate("z", double(0.3, 0.6))

    answer = AutoSpikeSlab(model, gates="relaxed", init_inclusion=None)
    levels = double(0.2, 0.7)
    found = answer.quantiles(levels)["z"]
    base = dist.Logistic(double(0), double(1))
    for gamma, quantiles in zip((0.3, 0.6), found.T, strict=True):
        noise = 0.5 * torch.logit(quantiles) - torch.logit(double(gamma))
        torch.testing.assert_close(base.cdf(noise), levels)


@pytest.mark.parametrize("levels", [[-0.1, 0.5], [0.5, 1.5], [float("nan")]])
def test_quantiles_must_be_probabilities(levels: list[float]) -> None:
    with pytest.raises(ValueError, match=r"quantiles must lie in \[0, 1\], got"):
        AutoSpikeSlab(mixed, *data()).quantiles(levels, *data())
