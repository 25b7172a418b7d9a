"""Laws that every prior obeys: shapes, sites, dtype, plates, many draws at once."""

import inspect
from typing import Any

import pyro
import pytest
import torch
from pyro.infer import Predictive
from torch import Tensor

import bnn_pyro.priors
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from tests.cases import COMPOSED, DISTRIBUTIONS, NODES, PRIORS, SLABS, DistributionCase, PriorCase, SlabCase, covered
from tests.models import traced

DTYPES = (torch.float32, torch.float64)

GATED = {"sigma": 1.0, "temperature": 0.5}
SCALES = {"global_scale": 1.0, "slab_width": 1.0}
DEFAULTS: dict[str, dict[str, float]] = {
    "gate": {"temperature": 0.5},
    "gaussian": {"sigma": 1.0},
    "group_horseshoe_scale": {**SCALES, "node_scale": 1.0},
    "group_lasso_rate": {"shape": 4.0, "rate": 2.0},
    "half_cauchy": {"scale": 1.0},
    "inclusion_probability": {"constant": 1e-9},
    "slab": {"scale": 1.0},
    "spike_slab_gaussian": GATED,
    "spike_slab_group_horseshoe": {**GATED, **SCALES},
    "spike_slab_group_lasso": GATED,
}


def latents(trace: Any) -> dict[str, Any]:
    return {name: trace.nodes[name] for name in trace.stochastic_nodes if name not in ("plate", "outer", "inner")}


def test_every_public_member_has_a_row() -> None:
    assert set(bnn_pyro.priors.__all__) <= covered()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", PRIORS, ids=str)
def test_sites_shapes_and_dtype(case: PriorCase, dtype: torch.dtype) -> None:
    trace = traced(case.program)(dtype)
    value = trace.nodes["_RETURN"]["value"]
    assert (value.shape, value.dtype) == (case.shape, dtype)
    found = latents(trace)
    assert {name: tuple(site["value"].shape) for name, site in found.items()} == case.sites
    assert {site["value"].dtype for site in found.values()} == {dtype}
    assert {site["fn"].batch_shape for site in found.values()} == {()}, "all dimensions must be declared as events"
    assert torch.isfinite(trace.log_prob_sum())


def test_defaults_are_those_of_the_documents() -> None:
    assert Gaussian() == Gaussian(sigma=1.0)
    assert GroupLasso() == GroupLasso(sigma=1.0, rate_shape=4.0, rate_rate=2.0)
    horseshoe = GroupHorseshoe(sigma=1.0, global_scale=1.0, node_scale=1.0, slab_width=1.0, learn_slab_width=False)
    assert GroupHorseshoe() == horseshoe
    assert SpikeSlab() == SpikeSlab(GroupHorseshoe(), inclusion=None, temperature=0.5)
    for name, defaults in DEFAULTS.items():
        parameters = inspect.signature(getattr(bnn_pyro.priors, name)).parameters.values()
        numbers = {p.name: p.default for p in parameters if isinstance(p.default, float)}
        assert numbers == defaults, name


@pytest.mark.parametrize("dims", [(-1,), (-2,), (-2, -1)], ids=str)
@pytest.mark.parametrize("case", PRIORS, ids=str)
def test_inside_plates(case: PriorCase, dims: tuple[int, ...]) -> None:
    """In plates every draw is a separate one, and its plates stand left of its own dimensions."""

    def program() -> Tensor:
        with pyro.plate("outer", 5, dim=dims[0]):
            if len(dims) == 1:
                return case.program(torch.float64)
            with pyro.plate("inner", 2, dim=dims[1]):
                return case.program(torch.float64)

    batch = {(-1,): (5,), (-2,): (5, 1), (-2, -1): (5, 2)}[dims]
    trace = traced(program)()
    trace.compute_log_prob()
    assert trace.nodes["_RETURN"]["value"].shape == (*batch, *case.shape)
    for name, site in latents(trace).items():
        assert site["value"].shape == (*batch, *case.sites[name])
        assert site["log_prob"].shape == batch
        assert len(site["value"].unique()) == site["value"].numel()


@pytest.mark.parametrize("case", PRIORS, ids=str)
def test_many_draws_at_once_have_the_law_of_single_draws(case: PriorCase) -> None:
    """Fails by chance less than once in 10,000 runs: 42 comparisons of two samples of 2,000 at 5 standard errors."""

    def program() -> None:
        pyro.deterministic("value", case.program(torch.float64), len(case.shape))

    count = 2000
    together = Predictive(program, num_samples=count, parallel=True, return_sites=["value"])()["value"]
    assert together.shape == (count, *case.shape)
    with pyro.plate("apart", count, dim=-1):
        apart = case.program(torch.float64)
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (0.0, 0.1)):
        one, two = (draws.clamp(low, high).reshape(count, -1).mean(1) for draws in (together, apart))
        error = ((one.var() + two.var()) / count).sqrt()
        assert (one.mean() - two.mean()).abs() <= 5 * error + 1e-12


@pytest.mark.parametrize("case", COMPOSED, ids=str)
def test_composed_priors_are_gates_times_slabs(case: PriorCase) -> None:
    trace = traced(case.program)(torch.float64)
    gates, weights = trace.nodes["w.gate"]["value"], trace.nodes["w.weight"]["value"]
    assert torch.equal(trace.nodes["_RETURN"]["value"], gates.unsqueeze(-1) * weights)
    assert trace.nodes["w.weight"]["infer"]["gates"] == {"w.gate": -2}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", SLABS, ids=str)
def test_slabs_follow_a_tensor_and_sample_their_sites(case: SlabCase, dtype: torch.dtype) -> None:
    like = torch.empty(1, dtype=dtype)

    def program() -> Tensor:
        shared = case.slab.shared([(NODES, 3), (2, 5)], like)
        return case.slab.scale("g", NODES, 3, shared, like)

    trace = traced(program)()
    assert tuple(latents(trace)) == (*case.shared, *case.sites)
    scale = trace.nodes["_RETURN"]["value"]
    assert scale.shape == ((NODES,) if case.sites else ())
    assert scale.dtype == dtype
    assert (scale > 0).all()
    for site in latents(trace).values():
        assert site["value"].dtype == dtype
        assert site["infer"]["init"] > 0


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_slabs_are_values(case: SlabCase) -> None:
    """Hyper-parameters compare by value and cannot be changed."""
    name, value = next(iter(vars(case.slab).items()))
    assert type(case.slab)(**vars(case.slab)) == case.slab
    with pytest.raises(AttributeError):
        setattr(case.slab, name, value)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", DISTRIBUTIONS, ids=str)
def test_distributions_expand_and_follow_dtype(case: DistributionCase, dtype: torch.dtype) -> None:
    made = case.make(dtype)
    assert (made.batch_shape, made.event_shape) == ((3,), ())
    event = made.expand((2, 3)).to_event(1)
    assert (event.batch_shape, event.event_shape) == ((2,), (3,))
    draw = event.sample((5,))
    assert (draw.shape, draw.dtype) == ((5, 2, 3), dtype)
    assert event.base_dist.support.check(draw).all()
    torch.testing.assert_close(event.log_prob(draw), made.log_prob(draw).sum(-1))
    assert event.log_prob(draw).dtype == dtype


@pytest.mark.parametrize("case", DISTRIBUTIONS, ids=str)
def test_distributions_check_values_outside_their_support(case: DistributionCase) -> None:
    with pytest.raises(ValueError, match="within the support"):
        case.make(torch.float64).log_prob(torch.full((3,), float("nan"), dtype=torch.float64))
