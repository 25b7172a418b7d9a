"""The size of errors as a function of a number, by maximum likelihood."""

import math

import pytest
import torch

from bnn_pyro.evaluation.noise_line import log_density, noise_line


def test_intercept_and_slope_are_found() -> None:
    generator = torch.Generator().manual_seed(1)
    t = torch.randn(20_000, generator=generator)
    errors = (math.log(0.03) + 0.5 * t).exp() * torch.randn(20_000, generator=generator)
    found = noise_line(t, errors)
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx([math.log(0.03), 0.5], abs=0.03)  # the ridge takes about .005 of the slope


def test_it_is_a_maximum() -> None:
    """The penalised likelihood is flat there."""
    t, errors = torch.linspace(-1, 1, 30).double(), torch.linspace(-2, 3, 30).double() ** 2 - 1
    line = noise_line(t, errors).requires_grad_()
    scale = errors.square().mean().sqrt()
    value = log_density(errors / scale, line[0] - scale.log() + line[1] * t).mean() - 0.01 * line[1] ** 2
    (gradient,) = torch.autograd.grad(value, line)
    assert gradient.abs().max() < 1e-4


def test_errors_that_are_nearly_all_zero_leave_it_finite() -> None:
    errors = torch.zeros(20)
    errors[3] = 1e-3
    assert noise_line(torch.linspace(-1, 1, 20), errors).isfinite().all()


@pytest.mark.parametrize("errors", [torch.zeros(4), torch.ones(3), torch.ones(4, 1)])
def test_bad_errors_are_refused(errors: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"t and errors must have one shape \(rows,\), with an error that is not 0"):
        noise_line(torch.zeros(4), errors)
