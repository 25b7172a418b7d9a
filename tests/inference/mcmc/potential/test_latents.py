"""Which sites of a model are latent, and how they lie in a vector."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine

from bnn_pyro.inference.mcmc.potential.latents import is_deterministic, laid_out, sample_sites


def model() -> None:
    scale = pyro.sample("scale", dist.HalfCauchy(torch.ones(2)).to_event(1))
    shares = pyro.sample("shares", dist.Dirichlet(torch.ones(3)))
    pyro.deterministic("sum", scale.sum())
    with pyro.plate("rows", 4):
        pyro.sample("y", dist.Normal(shares[0], scale[0]), obs=torch.zeros(4))


def found(program: Any) -> Any:
    return poutine.trace(program).get_trace()


def test_sites_of_a_model() -> None:
    sites = sample_sites(found(model))
    assert list(sites) == ["scale", "shares", "sum", "y"]
    assert [name for name, site in sites.items() if is_deterministic(site)] == ["sum"]


def test_layout_is_of_unconstrained_values() -> None:
    """A simplex of three entries has two."""
    sites = {name: site for name, site in sample_sites(found(model)).items() if not site["is_observed"]}
    latents = laid_out(sites)
    assert {name: tuple(latent.shape) for name, latent in latents.items()} == {"scale": (2,), "shares": (2,)}
    assert latents["scale"].transform(torch.zeros(2)).tolist() == [1.0, 1.0]
    assert {latent.dtype for latent in latents.values()} == {torch.float32}


def test_what_cannot_be_laid_out_is_refused() -> None:
    with pytest.raises(ValueError, match="model must have a latent site, got none"):
        laid_out({})
    discrete = found(lambda: pyro.sample("z", dist.Bernoulli(0.5)))
    with pytest.raises(ValueError, match="model must have continuous latents, got the discrete site 'z'"):
        laid_out(sample_sites(discrete))


def test_a_plate_that_subsamples_is_refused() -> None:
    def subsampled() -> None:
        with pyro.plate("rows", 10, subsample_size=3):
            pyro.sample("x", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="model must see all rows at once, got plate 'rows' with a subsample"):
        sample_sites(found(subsampled))
