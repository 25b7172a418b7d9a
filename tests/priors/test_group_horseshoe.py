"""The group horseshoe: half-Cauchy scales as products, and their regularisation."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bnn_pyro.priors import GroupHorseshoe, group_horseshoe_scale, half_cauchy, regularized_scale
from tests.models import traced
from tests.monte_carlo import assert_distribution

COUNT = 50_000


def half_cauchy_cdf(scale: float) -> Callable[[Tensor], Tensor]:
    return lambda x: 2 / math.pi * torch.atan(x / scale)


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_product_is_half_cauchy(scale: float) -> None:
    """A false alarm once in 50,000 runs."""
    draws = half_cauchy("s", torch.tensor(scale, dtype=torch.float64), size=COUNT)
    assert_distribution(draws, half_cauchy_cdf(scale))


def test_scales_of_nodes_are_products_of_half_cauchys() -> None:
    """With s given and no slab width a node's scale is C+(0, s t_0); a false alarm once in 50,000 runs."""
    s, t = torch.tensor(0.5, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    draws = group_horseshoe_scale("w", COUNT, global_scale=s, node_scale=t, slab_width=None)
    assert_distribution(draws, half_cauchy_cdf(1.5))


def test_regularised_scales_of_nodes() -> None:
    """With s and c the scale lies below x as often as s tau below x / sqrt(1 - x^2 / c^2)."""
    s = torch.tensor(0.5, dtype=torch.float64)
    draws = group_horseshoe_scale("w", COUNT, global_scale=s, slab_width=2.0)
    unregularised = half_cauchy_cdf(0.5)
    assert_distribution(draws, lambda x: unregularised(x / (1 - (x / 2) ** 2).sqrt()))


def test_regularised_scale_is_its_formula() -> None:
    t, c = torch.rand(100, dtype=torch.float64) * 5, torch.rand(100, dtype=torch.float64) + 0.5
    torch.testing.assert_close(regularized_scale(t, c), (c**2 * t**2 / (c**2 + t**2)).sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_limits_of_the_regularised_scale(dtype: torch.dtype) -> None:
    small, large = (
        torch.tensor(1e-6, dtype=dtype),
        torch.tensor([1e6, 1e18, 1e25, 1e38], dtype=dtype, requires_grad=True),
    )
    torch.testing.assert_close(regularized_scale(small, 2.0), small)
    found = regularized_scale(large, 2.0)
    torch.testing.assert_close(found, torch.full_like(large, 2.0))
    (slope,) = torch.autograd.grad(found.sum(), large)
    assert torch.isfinite(slope).all()
    assert regularized_scale(large, None) is large


def test_gradient_of_the_regularised_scale() -> None:
    t = torch.rand(5, dtype=torch.float64).requires_grad_()
    c = torch.rand(5, dtype=torch.float64).add(0.5).requires_grad_()
    assert torch.autograd.gradcheck(regularized_scale, (t, c))


def test_whole_numbers_are_scales_too() -> None:
    trace = traced(half_cauchy)("s", 2)
    alpha, beta = (trace.nodes[f"s.{name}"]["fn"] for name in ("alpha", "beta"))
    assert (alpha.concentration, alpha.rate) == (0.5, 0.25)
    assert (beta.concentration, beta.rate) == (0.5, 1.0)
    assert group_horseshoe_scale("w", 3, global_scale=1, node_scale=2, slab_width=1).is_floating_point()


def test_batches() -> None:
    s, c = torch.ones(5), torch.full((5,), 2.0)
    assert group_horseshoe_scale("w", 3, global_scale=s, slab_width=c).shape == (5, 3)
    assert group_horseshoe_scale("w", 3, global_scale=s.unsqueeze(-1), slab_width=None).shape == (5, 1, 3)
    s, c = torch.ones(2, 5), torch.full((2, 5), 2.0)
    assert group_horseshoe_scale("w", 3, global_scale=s, slab_width=c).shape == (2, 5, 3)
    assert half_cauchy("s", torch.ones(5, 1), size=3).shape == (5, 3)
    assert half_cauchy("s", torch.ones(5)).shape == (5,)


def test_init_is_given_to_both_factors() -> None:
    trace = traced(half_cauchy)("s", init=2.0)
    assert [trace.nodes[f"s.{name}"]["infer"]["init"] for name in ("alpha", "beta")] == [2.0, 2.0]
    assert "init" not in traced(half_cauchy)("s").nodes["s.alpha"]["infer"]


def test_slab_scale_is_sigma_times_the_formula() -> None:
    prior, like = GroupHorseshoe(sigma=0.5, global_scale=2.0, node_scale=3.0, slab_width=1.5), torch.empty(0).double()
    trace = traced(lambda: prior.scale("w", 4, 3, prior.shared([(4, 3)], like), like))()
    value = {name: site.get("value") for name, site in trace.nodes.items()}
    s = (value["global_scale.alpha"] * value["global_scale.beta"]).sqrt()
    t = s * (value["w.tau.alpha"] * value["w.tau.beta"]).sqrt()
    torch.testing.assert_close(value["_RETURN"], 0.5 * 1.5 * t / (1.5**2 + t**2).sqrt())
    assert trace.nodes["global_scale.alpha"]["fn"].rate == 1 / 4
    sites = ("global_scale.alpha", "global_scale.beta", "w.tau.alpha", "w.tau.beta")
    assert [trace.nodes[site]["infer"]["init"] for site in sites] == [1.0] * 4  # where a scale changes nothing
    rate = trace.nodes["w.tau.alpha"]["fn"].base_dist.rate
    torch.testing.assert_close(rate, torch.full_like(rate, 1 / 9))


def test_learned_slab_width_is_inverse_gamma() -> None:
    prior = GroupHorseshoe(slab_width=1.5, learn_slab_width=True)
    trace = traced(prior.shared)([(4, 3)], torch.empty(0))
    found = trace.nodes["slab_width_squared"]
    assert (found["fn"].concentration, found["fn"].rate, found["infer"]["init"]) == (2.0, 6.0, 2.25)
    _, width = trace.nodes["_RETURN"]["value"]
    torch.testing.assert_close(width.square(), found["value"])


@pytest.mark.parametrize("name", ["sigma", "global_scale", "node_scale", "slab_width"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_hyper_parameters_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, got"):
        GroupHorseshoe(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: GroupHorseshoe(slab_width=None, learn_slab_width=True), "learn_slab_width needs a slab width"),
        (lambda: half_cauchy("s", 0.0), "scale must be positive, got 0.0"),
        (lambda: half_cauchy("s", 1.0, size=0), "size must be at least 1, got 0"),
        (lambda: group_horseshoe_scale("w", 0), "size must be at least 1, got 0"),
        (lambda: group_horseshoe_scale("w", 2, slab_width=0.0), "slab_width must be positive, got 0.0"),
        (lambda: group_horseshoe_scale("w", 2, global_scale=-1.0), "global_scale must be positive, got -1.0"),
        (lambda: group_horseshoe_scale("w", 2, node_scale=0.0), "node_scale must be positive, got 0.0"),
    ],
)
def test_what_is_wrong_is_said(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
