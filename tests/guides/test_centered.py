"""AutoCentered: its bound by hand, and how it differs from the non-centred family."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import kl_divergence

from bnn_pyro.inference.svi.elbo import elbo_terms
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso
from bnn_pyro.priors.slab import Slab
from guides import AutoCentered, AutoSpikeSlab
from tests.cases import SLABS, SlabCase
from tests.models import DOUBLE, data, gradients, loc_and_scale, logits, one_layer, perturbed, traced
from tests.monte_carlo import assert_mean

WEIGHT = "w.weight"


def double(value: float) -> Tensor:
    return torch.tensor(value, dtype=DOUBLE)


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_slab_divergence_by_hand(case: SlabCase) -> None:
    """gamma [log(r / sigma) - 1/2 + (sigma^2 + mu^2) / (2 r^2)] with the drawn r, in value and gradient."""
    x, y = data()
    model = one_layer(case.slab)
    guide = perturbed(AutoCentered(model, x, y))
    trace = traced(guide)(x, y)
    site = trace.nodes[WEIGHT]
    mu, sigma = loc_and_scale(guide, WEIGHT)
    r = site["infer"]["prior"].base_dist.scale
    gamma = torch.sigmoid(logits(guide, "z")).unsqueeze(-1)
    expected = (gamma * ((r / sigma).log() - 0.5 + (sigma**2 + mu**2) / (2 * r**2))).sum()
    found = kl_divergence(site["fn"], site["infer"]["prior"])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(found, guide), gradients(expected, guide))
    torch.testing.assert_close((site["fn"].base_dist.loc, site["fn"].base_dist.scale), (mu, sigma))


def pair(prior: Slab, log_sd: float, *, gated: bool = True) -> tuple[Callable[..., Any], AutoSpikeSlab, AutoCentered]:
    """The two guides at the same posterior: slabs given in units of the scales' medians, and in themselves."""
    x, y = data()
    model = one_layer(prior, gated=gated)
    units, centred = perturbed(AutoSpikeSlab(model, x, y)), AutoCentered(model, x, y)
    centred.load_state_dict(units.state_dict())
    for guide in (units, centred):
        for site, kind in guide.kinds.items():
            if kind == "scale":
                loc, scale = loc_and_scale(guide, site)
                owner = guide.scales.get_submodule(site.rpartition(".")[0]) if "." in site else guide.scales
                setattr(owner, site.rpartition(".")[2], torch.full_like(scale, log_sd))
    with pyro.get_param_store().scope():
        medians = units.median(x, y)
    r = traced(poutine.condition(model, medians))(x, y).nodes[WEIGHT]["fn"].base_dist.scale
    loc, scale = loc_and_scale(units, WEIGHT)
    owners = (centred.get_submodule(f"{role}.w") for role in ("locs", "scales"))
    for owner, value in zip(owners, (loc, scale), strict=True):
        owner.weight = (r * value).detach()
    return model, units, centred


def bounds(model: Callable[..., Any], *guides: Any) -> list[Tensor]:
    """The bound of each guide with the same noise."""
    found = []
    x, y = data()
    for guide in guides:
        torch.manual_seed(11)
        with pyro.get_param_store().scope():
            found.append(elbo_terms(model, guide, x, y).loss())
    return found


def test_gaussian_slabs_have_the_same_bound_either_way() -> None:
    model, units, centred = pair(Gaussian(sigma=0.7), 1.0)
    torch.testing.assert_close(*bounds(model, units, centred))


@pytest.mark.parametrize("prior", [GroupLasso(sigma=0.7), GroupHorseshoe(), GroupHorseshoe(slab_width=None)])
def test_bounds_meet_as_the_scales_become_certain(prior: Slab) -> None:
    """Their difference goes to 0 with the scales' log-sd s: below 1e-5 at 1e-7, and in proportion to it above."""
    differences = []
    for log_sd in (1e-3, 1e-5, 1e-7):
        one, two = bounds(*pair(prior, log_sd))
        differences.append(abs(float((one - two).detach())))
    assert differences[2] < 1e-5
    assert differences[0] > 30 * differences[1] > 900 * differences[2]


@pytest.mark.parametrize("log_sd", [0.1, 0.5])
def test_away_from_certainty_the_slabs_differ_by_a_formula(log_sd: float) -> None:
    """By (sigma^2 + mu^2)(exp(2 s^2) - 1) / 2 a weight, for one LogNormal scale; 6 means of 200,000."""

    def model() -> None:
        r = pyro.sample("r", dist.Gamma(double(2), double(1)))
        pyro.sample("w", dist.Normal(double(0), r.unsqueeze(-1)).expand((*r.shape, 3)).to_event(1))

    units, centred = perturbed(AutoSpikeSlab(model)), AutoCentered(model)
    mu, sigma = (value.detach() for value in loc_and_scale(units, "w"))
    median = loc_and_scale(units, "r")[0].detach().exp()
    for guide in (units, centred):
        guide.scales.r, guide.locs.r = double(log_sd), median.log()
    centred.locs.w, centred.scales.w = median * mu, median * sigma

    def divergences(guide: Any) -> Tensor:
        with torch.no_grad(), pyro.get_param_store().scope(), pyro.plate("draws", 200_000):
            site = traced(guide)().nodes["w"]
        return kl_divergence(site["fn"].base_dist, site["infer"]["prior"].base_dist)

    expected = (sigma**2 + mu**2) * (torch.tensor(2 * log_sd**2).double().exp() - 1) / 2
    assert_mean(divergences(centred) - divergences(units), expected)
    assert divergences(units).std(0).max() < 1e-9, "the non-centred divergence does not depend on the scale"


def test_initial_sd_is_a_fraction_of_the_initial_size() -> None:
    x, y = data()
    guide = AutoCentered(one_layer(GroupLasso()), x, y, init_scale=0.2)
    loc, scale = loc_and_scale(guide, WEIGHT)
    torch.testing.assert_close(scale, 0.2 * loc.square().mean().sqrt().expand_as(scale))

    def model() -> None:
        pyro.sample("w", dist.Normal(double(0), double(3)).expand((4,)).to_event(1))

    torch.testing.assert_close(loc_and_scale(AutoCentered(model), "w")[1], torch.full((4,), 0.3, dtype=DOUBLE))
