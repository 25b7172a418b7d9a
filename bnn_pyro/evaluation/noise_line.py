"""noise_line: how the size of errors changes with a number, by maximum likelihood."""

import torch
from torch import Tensor

_RIDGE = 0.01  # of the slope, which is per unit of t
_STEPS = 100  # of L-BFGS, of a convex function of two numbers
_LOG_RATIO = 7.0  # of a standard deviation to that of all errors; it bounds densities where errors are zero


def noise_line(t: Tensor, errors: Tensor) -> Tensor:
    r"""Return intercept and slope of the log standard deviation of errors, :math:`r_i \sim N(0, \exp(a + b t_i)^2)`.

    By maximum likelihood, with the ridge ``.01 b²`` per row: the multiplicative heteroscedasticity of Harvey (1976),
    Estimating regression models with multiplicative heteroscedasticity. The log standard deviation of a row stays
    within 7 of that of all errors.

    Args:
        t: The number that the size depends on, of about unit scale, shape ``(rows,)``.
        errors: Errors, shape ``(rows,)``, not all of them 0.

    Returns:
        ``(a, b)``, float64, shape ``(2,)``.

    Raises:
        ValueError: If the shapes differ, or no error is another number than 0.
    """
    if t.ndim != 1 or t.shape != errors.shape or not (errors.abs() > 0).any():
        raise ValueError(
            f"t and errors must have one shape (rows,), with an error that is not 0, "
            f"got {tuple(t.shape)} and {tuple(errors.shape)}"
        )
    t, errors = t.detach().cpu().double(), errors.detach().cpu().double()
    scale = errors.square().mean().sqrt()
    found = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([found], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = -log_density(errors / scale, found[0] + found[1] * t).mean() + _RIDGE * found[1].square()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return found.detach() + torch.stack([scale.log(), torch.zeros_like(scale)])


def log_density(errors: Tensor, log_scale: Tensor) -> Tensor:
    """Return the normal log density of each error but for a constant; log scales are held within -7 and 7.

    Args:
        errors: Errors in units of their root mean square.
        log_scale: Log of the standard deviation of each, in the same units.
    """
    log_scale = log_scale.clamp(-_LOG_RATIO, _LOG_RATIO)
    return -(log_scale + 0.5 * (errors * (-log_scale).exp()).square())
