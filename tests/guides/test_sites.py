"""What a guide knows of a site: its kind, its initial value, the gates of a slab."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from torch import Tensor
from torch.distributions import Distribution

from bnn_pyro.priors import AtomicRelaxedBernoulli
from guides import initial_value
from guides.sites import GateHint, Site, align_gate, base_distribution, gate_product, site_device, site_dtype, site_kind
from tests.models import hints

DOUBLE = torch.float64


def site(fn: Distribution, **infer: object) -> Site:
    return {"name": "x", "fn": fn, "infer": infer}


def normal(*shape: int, event_dim: int | None = None) -> Any:
    made: Any = dist.Normal(torch.tensor(0.5, dtype=DOUBLE), torch.tensor(2.0, dtype=DOUBLE)).expand(shape)
    return made.to_event(event_dim if event_dim is not None else len(shape))


# ---- kinds -----------------------------------------------------------------------------------------------------------

T = torch.tensor(0.5)


@pytest.mark.parametrize(
    ("fn", "kind"),
    [
        (dist.RelaxedBernoulli(T, logits=torch.zeros(3)), "gate"),
        (dist.RelaxedBernoulliStraightThrough(T, logits=torch.zeros(3)).to_event(1), "gate"),
        (AtomicRelaxedBernoulli(T, probs=torch.ones(3) / 2).expand((2, 3)).to_event(1).to_event(1), "gate"),
        (normal(2, 3), "slab"),
        (dist.HalfNormal(torch.ones(2)), "scale"),
        (dist.HalfCauchy(torch.ones(2)).to_event(1), "scale"),
        (dist.Gamma(torch.ones(2), torch.ones(2)), "scale"),
        (dist.InverseGamma(torch.ones(2), torch.ones(2)), "scale"),
        (dist.LogNormal(0.0, 1.0), "scale"),
        (dist.Exponential(1.0), "scale"),
        (dist.Weibull(1.0, 2.0), "scale"),
        (dist.Beta(1.0, 1.0), "other"),
        (dist.StudentT(3.0), "other"),
        (dist.Dirichlet(torch.ones(3)), "other"),
        (dist.Uniform(1.0, 2.0), "other"),
        (dist.MultivariateNormal(torch.zeros(2), torch.eye(2)), "other"),
    ],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_kinds(fn: Distribution, kind: str) -> None:
    assert site_kind("x", fn) == kind


@pytest.mark.parametrize(
    "fn", [dist.Bernoulli(0.5), dist.Poisson(1.0), dist.Categorical(torch.ones(3)).expand((2,)).to_event(1)]
)
def test_discrete_sites_are_refused(fn: Distribution) -> None:
    with pytest.raises(ValueError, match="site 'x' must be continuous, got .*; draw gates from a RelaxedBernoulli"):
        site_kind("x", fn)


def test_base_dtype_and_device() -> None:
    base = base_distribution(normal(2, 3).to_event(0))
    assert isinstance(base, dist.Normal)
    assert (site_dtype(base), site_device(base)) == (DOUBLE, torch.device("cpu"))


# ---- initial values --------------------------------------------------------------------------------------------------


def test_slabs_start_by_kaimings_rule() -> None:
    """U(+-sqrt(6 / fan-in)) around the prior's mean, of variance 2 / fan-in; its variance over 30,000 within 3 %."""
    value = initial_value(site(normal(100, 30, 10)))
    bound = (6 / 300) ** 0.5
    assert (value - 0.5).abs().max() <= bound
    assert float(value.var()) == pytest.approx(2 / 300, rel=0.03)
    assert (value.shape, value.dtype) == ((100, 30, 10), DOUBLE)


def test_vectors_start_at_their_mean() -> None:
    assert initial_value(site(normal(4))).tolist() == [0.5] * 4
    assert initial_value(site(normal(3, 4, event_dim=1))).unique().tolist() == [0.5]


def test_gates_start_at_the_priors_probability() -> None:
    fn = AtomicRelaxedBernoulli(T, probs=torch.tensor([0.1, 0.7])).expand((3, 2)).to_event(1)
    torch.testing.assert_close(initial_value(site(fn)), torch.tensor([0.1, 0.7]).expand(3, 2))


def test_other_sites_start_near_their_median() -> None:
    """The median of 101 draws of a Gamma(4, 2) lies within 1.3 and 2.4 but once in a million cases."""
    value = initial_value(site(dist.Gamma(4.0, torch.tensor([2.0, 2.0]))))
    assert ((value > 1.3) & (value < 2.4)).all()


def test_a_sites_own_value_comes_first() -> None:
    given = torch.arange(3.0, requires_grad=True)
    value = initial_value(site(normal(2, 3), init=given))
    assert (value.dtype, value.requires_grad) == (DOUBLE, False)
    assert torch.equal(value, torch.arange(3.0, dtype=DOUBLE).expand(2, 3))
    assert initial_value(site(dist.Gamma(torch.ones(2), torch.ones(2)), init=3)).tolist() == [3.0, 3.0]
    value += 1
    assert given.tolist() == [0, 1, 2], "the value handed in must stay as it was"


@pytest.mark.parametrize("given", [torch.zeros(2), torch.zeros(1, 2, 3), [0.0, 1.0]])
def test_a_sites_own_value_must_fit(given: object) -> None:
    with pytest.raises(ValueError, match=r"infer\['init'\] of site 'x' must broadcast to shape \(2, 3\), got"):
        initial_value(site(normal(2, 3), init=given))


def test_initial_value_serves_pyros_guides() -> None:
    def model() -> None:
        pyro.sample("w", dist.Normal(0.0, 1.0).expand((4, 3)).to_event(2), infer=hints(init=torch.full((4, 3), 0.7)))
        pyro.sample("s", dist.Gamma(2.0, 1.0))
        pyro.sample("z", dist.RelaxedBernoulli(T, probs=torch.tensor(0.3)))

    guide = AutoNormal(model, init_loc_fn=initial_value)
    assert torch.isfinite(Trace_ELBO().differentiable_loss(model, guide))
    start = guide.median()
    torch.testing.assert_close(start["w"], torch.full((4, 3), 0.7))
    assert float(start["z"]) == pytest.approx(0.3)


# ---- the gates of a slab ---------------------------------------------------------------------------------------------

A = torch.tensor([0.1, 0.2, 0.3], dtype=DOUBLE)
B = torch.tensor([0.5, 0.6, 0.7, 0.8], dtype=DOUBLE)


def product(hints: dict[str, GateHint | list[GateHint]], *shape: int) -> Tensor:
    found = gate_product(hints, {"a": A, "b": B}, normal(*shape))
    assert found is not None
    return found.expand(shape)


def test_no_hint_no_product() -> None:
    assert gate_product({}, {"a": A}, normal(3, 4)) is None


def test_gates_at_both_ends() -> None:
    torch.testing.assert_close(product({"a": -2, "b": -1}, 3, 4), A[:, None] * B)
    torch.testing.assert_close(product({"a": -3, "b": -2}, 3, 4, 2), (A[:, None] * B)[..., None].expand(3, 4, 2))


def test_positions_without_a_gate_count_1() -> None:
    index = torch.tensor([2, -1, 0, 0, -1])
    expected = torch.stack([A[2], torch.ones((), dtype=DOUBLE), A[0], A[0], torch.ones((), dtype=DOUBLE)])
    torch.testing.assert_close(product({"a": (-1, index)}, 2, 5), expected.expand(2, 5))
    torch.testing.assert_close(product({"a": (-2, index)}, 5, 2), expected[:, None].expand(5, 2))


def test_a_gate_that_meets_itself_counts_once() -> None:
    expected = A[:, None] * A
    expected.diagonal().copy_(A)
    torch.testing.assert_close(product({"a": [-2, -1]}, 3, 3), expected)
    one, two = torch.tensor([0, 1, -1, -1]), torch.tensor([1, -1, 2])
    by_hand = torch.tensor(
        [[0.1 * 0.2, 0.1, 0.1 * 0.3], [0.2, 0.2, 0.2 * 0.3], [0.2, 1, 0.3], [0.2, 1, 0.3]], dtype=DOUBLE
    )
    torch.testing.assert_close(product({"a": [(-2, one), (-1, two)]}, 4, 3), by_hand)


def test_scalar_gates_multiply_everything() -> None:
    found = gate_product({"a": -1}, {"a": torch.tensor(0.3)}, normal(2, 3))
    assert found is not None
    assert found.dim() == 0
    assert float(found) == pytest.approx(0.3)
    both = gate_product({"a": [-1, -2]}, {"a": torch.tensor(0.3)}, normal(2, 3))
    assert both is not None
    assert float(both) == pytest.approx(0.3)


def test_gates_in_plates_keep_to_their_plate() -> None:
    """Gates of shape (plate, gates) along the slab's last dimension of two: the plate is not taken for the first."""
    probability = torch.rand(3, 4, dtype=DOUBLE)
    prior = normal(3, 3, 4, event_dim=2)
    along_last = gate_product({"a": -1}, {"a": probability}, prior)
    assert along_last is not None
    torch.testing.assert_close(along_last.expand(3, 3, 4), probability[:, None, :].expand(3, 3, 4))
    square = gate_product({"a": [-2, -1]}, {"a": probability}, normal(3, 4, 4, event_dim=2))
    assert square is not None
    expected = probability[:, :, None] * probability[:, None, :]
    expected.diagonal(dim1=1, dim2=2).copy_(probability)
    torch.testing.assert_close(square, expected)


def test_a_gate_a_plate_entry() -> None:
    """A scalar gate site in a plate lies along the plate, which is left of the slab's event dimensions."""
    probability = torch.rand(3, dtype=DOUBLE)
    found = gate_product({"a": -3}, {"a": probability}, normal(3, 2, 4, event_dim=2))
    assert found is not None
    assert found.shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        ({"c": -1}, r"infer\['gates'\] must name gate sites drawn before the slab, got 'c'; known: a, b"),
        ({"a": 0}, "a gate's dimension must be negative"),
        ({"a": -1}, r"infer\['gates'\]\['a'\] must lay its gates along a slab of shape \(3, 4\), got \(1, 3\)"),
        ({"b": -2}, r"must lay its gates along a slab of shape \(3, 4\), got \(4, 1\)"),
        ({"a": -3}, r"must lay its gates along a slab of shape \(3, 4\), got \(3, 1, 1\)"),
        ({"a": [-2, -1, -1]}, "may stand at one or two places of a slab, got 3"),
        ({"a": []}, "may stand at one or two places of a slab, got 0"),
    ],
)
def test_wrong_hints_are_told(hints: dict[str, GateHint | list[GateHint]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        gate_product(hints, {"a": A, "b": B}, normal(3, 4))


def test_align_gate_lays_gates_themselves() -> None:
    gates = torch.tensor([0, 1, 0])
    assert align_gate(gates, -2).tolist() == [[0], [1], [0]]
    assert align_gate(gates, (-1, torch.tensor([-1, 1])), absent=5).tolist() == [5, 1]
