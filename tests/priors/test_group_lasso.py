"""The group lasso: a Gamma mixture of Normals whose norms are Gamma distributed."""

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.priors import GroupLasso, group_lasso_rate, group_lasso_scale, slab
from tests.models import traced
from tests.monte_carlo import assert_distribution


@pytest.mark.parametrize(("size", "rate", "sigma"), [(1, 2.0, 1.0), (2, 0.5, 1.0), (11, 3.0, 0.7), (145, 2.0, 2.0)])
def test_norm_of_a_group_is_gamma(size: int, rate: float, sigma: float) -> None:
    """The norm of m weights is Gamma(m, sqrt(rate) / sigma); a false alarm once in 50,000 runs."""
    scale = sigma * group_lasso_scale("w", 20_000, group_size=size, rate=torch.tensor(rate, dtype=torch.float64))
    norm = slab("w", (20_000, size), scale=scale).norm(dim=1)
    shape = torch.tensor(float(size), dtype=torch.float64)
    assert_distribution(norm, lambda x: torch.special.gammainc(shape, x * rate**0.5 / sigma))


def test_rate_is_gamma() -> None:
    fn: Any = traced(group_lasso_rate)("rate", shape=3.0, rate=0.5).nodes["rate"]["fn"]
    assert type(fn) is dist.Gamma
    assert fn.concentration == 3.0
    assert fn.rate == 0.5
    default: Any = traced(group_lasso_rate)("rate").nodes["rate"]["fn"]
    assert default.concentration == 4.0
    assert default.rate == 2.0


def test_a_whole_number_is_a_rate_too() -> None:
    base = traced(group_lasso_scale)("w", 3, group_size=2, rate=2).nodes["w.tau_squared"]["fn"].base_dist
    assert (base.concentration == 1.5).all()
    assert (base.rate == 1).all()


def test_batches_of_rates() -> None:
    assert group_lasso_scale("w", 3, group_size=2, rate=torch.ones(5)).shape == (5, 3)
    assert group_lasso_scale("w", 3, group_size=2, rate=torch.ones(5, 1)).shape == (5, 1, 3)


def test_initial_rate_is_best_for_scales_of_one() -> None:
    """The density of rate and scales, with all scales at 1, is largest in the rate's logarithm at its initial value."""
    groups, prior = [(400, 785), (10, 401)], GroupLasso()
    trace = traced(prior.shared)(groups, torch.empty(0, dtype=torch.float64))
    rate = torch.tensor(trace.nodes["rate"]["infer"]["init"], dtype=torch.float64, requires_grad=True)
    one = torch.ones((), dtype=torch.float64)
    density = sum(n * dist.Gamma((m + 1) / 2 * one, rate / 2).log_prob(one) for n, m in groups) + rate.log()
    density = density + dist.Gamma(4 * one, 2 * one).log_prob(rate)
    (slope,) = torch.autograd.grad(density, rate)
    assert abs(float(slope)) < 1e-9


def test_slab_scale_is_sigma_times_tau() -> None:
    trace = traced(GroupLasso(sigma=0.5).scale)("w", 4, 3, torch.tensor(2.0), torch.empty(0))
    tau = trace.nodes["w.tau_squared"]["value"].sqrt()
    torch.testing.assert_close(trace.nodes["_RETURN"]["value"], 0.5 * tau)
    assert trace.nodes["w.tau_squared"]["infer"]["init"] == 1.0


@pytest.mark.parametrize("name", ["sigma", "rate_shape", "rate_rate"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_hyper_parameters_must_be_positive(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be positive, got"):
        GroupLasso(**{name: value})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: group_lasso_scale("w", 0, group_size=2, rate=1.0),
            "size must be at least 1, got 0",
        ),
        (
            lambda: group_lasso_scale("w", 2, group_size=0, rate=1.0),
            "group_size must be at least 1, got 0",
        ),
        (lambda: group_lasso_scale("w", 2, group_size=2, rate=0.0), "rate must be positive, got 0.0"),
        (lambda: group_lasso_rate("r", shape=0.0), "shape must be positive, got 0.0"),
        (lambda: group_lasso_rate("r", rate=-1.0), "rate must be positive, got -1.0"),
    ],
)
def test_functions_say_what_is_wrong(call: Callable[[], Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
