"""The pseudo-prior: its moments, its density, and what it learns from draws that count."""

import pytest
import torch
from torch import Size, Tensor
from torch.distributions import Normal

from bnn_pyro.inference.mcmc.pseudo_prior import PseudoPrior
from bnn_pyro.inference.mcmc.running_moments import Moments
from tests.models import DOUBLE
from tests.monte_carlo import assert_mean

LIKE = torch.empty(0, dtype=DOUBLE)
SHAPES = {"a": Size((2,)), "b": Size((1, 1))}
LOC, SCALE = torch.tensor([1.0, -2.0, 0.5], dtype=DOUBLE), torch.tensor([0.1, 3.0, 1.0], dtype=DOUBLE)


def draw() -> dict[str, Tensor]:
    entries = LOC + SCALE * torch.randn(3)  # in single precision where a guide is
    return {"other": torch.zeros(7), "a": entries[:2].float(), "b": entries[2:].reshape(1, 1).float()}


def test_takes_median_and_quartiles_of_draws() -> None:
    """Within 10 % of a standard deviation for 4,000 draws: five standard errors."""
    found = PseudoPrior.of(draw, SHAPES, LIKE, draws=4000)
    assert found.loc.dtype == DOUBLE
    assert ((found.loc - LOC).abs() < 0.1 * SCALE).all() and ((found.scale / SCALE - 1).abs() < 0.1).all()


@pytest.mark.parametrize(("shape", "message"), [((3,), "of shape \\(2,\\), got \\(3,\\)"), (None, "got none")], ids=str)
def test_draws_must_have_the_slabs(shape: tuple[int, ...] | None, message: str) -> None:
    values = {"b": torch.zeros(1, 1)} if shape is None else {"a": torch.zeros(shape), "b": torch.zeros(1, 1)}
    with pytest.raises(ValueError, match=f"pseudo_prior must draw the slab 'a' .*{message}"):
        PseudoPrior.of(lambda: values, SHAPES, LIKE)


def test_draws_and_density_are_those_of_the_normals() -> None:
    prior, entries = PseudoPrior(LOC, SCALE), torch.tensor([2, 0])
    draws = prior.sample((4000,), entries)
    assert_mean(draws, LOC[entries])
    assert_mean((draws - LOC[entries]).square(), SCALE[entries].square())
    torch.testing.assert_close(prior.log_prob(draws, entries), Normal(LOC[entries], SCALE[entries]).log_prob(draws))
    assert prior.sample((2, 5)).shape == (2, 5, 3)


def test_follows_the_draws_that_count() -> None:
    """As if five draws of its own moments were among them."""
    prior, values = PseudoPrior(LOC, SCALE), 7 + 0.01 * torch.randn(500, 3, dtype=DOUBLE)
    moments = Moments(LOC)
    counts = torch.tensor([True, False, True]).expand(500, 3)
    moments.add(values, counts)
    found = prior.followed(moments)
    own = LOC[2] + SCALE[2] * torch.tensor([-1.25, -0.5, 0.0, 0.5, 1.25], dtype=DOUBLE) / 0.8515
    both = torch.cat([values[:, 2], own])
    torch.testing.assert_close(found.loc[2], both.mean())
    torch.testing.assert_close(found.scale[2], both.std(correction=0), rtol=1e-4, atol=0)
    assert (found.loc[1], found.scale[1]) == (LOC[1], SCALE[1])
