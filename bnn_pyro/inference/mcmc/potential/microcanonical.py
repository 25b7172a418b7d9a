r"""Steps of microcanonical Langevin dynamics as functions of tensors, for many chains side by side.

A chain has a position q and a velocity u of unit length. At constant speed it turns along the gradient of the potential
energy U, so that the positions alone are distributed as :math:`e^{-U}`; a little noise on the direction makes it forget
where it came from. In coordinates of unit variance :math:`C^{-1} q`, with n entries:

.. math::
    \dot q = C u, \qquad \dot u = -(I - u u^\top) \frac{C^\top \nabla U(q)}{n - 1}.

The scales C are a diagonal, the same for all chains, shape ``(n, 1)``, or a matrix of each, ``(n, n, chains)``.

Source: Robnik, De Luca, Silverstein, Seljak (2023), *Microcanonical Hamiltonian Monte Carlo*; Robnik, Seljak (2024),
*Fluctuation without dissipation: Microcanonical Langevin Monte Carlo*.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Flow = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From positions, shape ``(n, chains)``, to the gradient of the potential energy there and its values."""

_LAMBDA = 0.1931833275037836  # the coefficient of McLachlan's step with the smallest error
_FORGOTTEN = 20.0  # an exponent at which nothing of the direction is left, and which float32 can square


class Moved(NamedTuple):
    """Where a step leads.

    Attributes:
        position: q, shape ``(n, chains)``.
        velocity: u, likewise.
        value: The potential energy, shape ``(chains,)``.
        gradient: Its gradient, shape ``(n, chains)``.
        error: Energy error of the step, shape ``(chains,)``: 0 along the exact dynamics.
    """

    position: Tensor
    velocity: Tensor
    value: Tensor
    gradient: Tensor
    error: Tensor


def turned(velocity: Tensor, slope: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
    r"""Return the velocity after a time at one place, and the change of kinetic energy.

    With :math:`e = -g / |g|`, :math:`\delta = h |g| / (n - 1)`, :math:`z = e^{-\delta}` and :math:`c = e^\top u`

    .. math::
        u \leftarrow e (1 - z)(1 + z + c (1 - z)) + 2 z u, \text{ normalised}, \qquad
        \Delta K = (n - 1) \big[\delta - \log 2 + \log(1 + c + (1 - c) z^2)\big].

    Args:
        velocity: u, shape ``(n, chains)``, of unit length for each chain.
        slope: g, the gradient in coordinates of unit variance, shape ``(n, chains)``.
        time: h, a scalar.

    Returns:
        Shape ``(n, chains)`` and ``(chains,)``.
    """
    tiny = torch.finfo(slope.dtype).tiny
    norm = slope.square().sum(0).sqrt().clamp(min=tiny)
    direction = slope / -norm
    delta = time * norm / (len(slope) - 1)
    z, cosine = (-delta).exp(), (direction * velocity).sum(0)
    new = direction * ((1 - z) * (1 + z + cosine * (1 - z))) + velocity * (2 * z)
    growth = (1 + cosine + (1 - cosine) * z.square()).clamp(min=tiny)
    change = (len(slope) - 1) * (delta - math.log(2) + growth.log())
    return normalised(new), change


def normalised(vectors: Tensor) -> Tensor:
    """Return vectors of unit length, those of the chains side by side.

    Args:
        vectors: Shape ``(n, chains)``.
    """
    return vectors / vectors.square().sum(0).sqrt().clamp(min=torch.finfo(vectors.dtype).tiny)


def stretched(scale: Tensor, vectors: Tensor) -> Tensor:
    r"""Return :math:`C u` of each chain.

    Args:
        scale: C, shape ``(n, 1)`` or ``(n, n, chains)``.
        vectors: u, shape ``(n, chains)``.
    """
    return scale * vectors if scale.dim() == 2 else (scale * vectors.unsqueeze(0)).sum(1)


def pulled_back(scale: Tensor, slope: Tensor) -> Tensor:
    r"""Return :math:`C^\top g` of each chain.

    Args:
        scale: C, shape ``(n, 1)`` or ``(n, n, chains)``.
        slope: g, shape ``(n, chains)``.
    """
    return scale * slope if scale.dim() == 2 else (scale * slope.unsqueeze(1)).sum(0)


def mclachlan(flow: Flow) -> Callable[..., Moved]:
    r"""Return McLachlan's step along a function: two gradients, of which the last serves the next step.

    With V, the turn of the velocity, and T, the move of the position,
    :math:`V(\lambda \epsilon)\, T(\epsilon / 2)\, V((1 - 2 \lambda) \epsilon)\, T(\epsilon / 2)\, V(\lambda \epsilon)`.

    Args:
        flow: From positions to the gradient of the potential energy and its values.

    Returns:
        A function of position, velocity, potential energy, gradient, scales C and step size ``()``.

    Source: McLachlan (1995), *On the numerical integration of ordinary differential equations by symmetric composition
    methods*.
    """

    def step(q: Tensor, u: Tensor, value: Tensor, slope: Tensor, scale: Tensor, size: Tensor) -> Moved:
        u, first = turned(u, pulled_back(scale, slope), size * _LAMBDA)
        q = q + stretched(scale, u) * (size / 2)
        slope, _ = flow(q)
        u, second = turned(u, pulled_back(scale, slope), size * (1 - 2 * _LAMBDA))
        q = q + stretched(scale, u) * (size / 2)
        slope, new = flow(q)
        u, third = turned(u, pulled_back(scale, slope), size * _LAMBDA)
        return Moved(q, u, new, slope, new - value + first + second + third)

    return step


def langevin(flow: Flow, largest_error: float) -> Callable[..., Moved]:
    r"""Return McLachlan's step followed by a little noise on the direction; a step that goes wrong is not made.

    A chain that comes to a point where its energy or gradient is not finite, or whose energy error is beyond all
    bounds, stays where it was and turns back, :math:`u \leftarrow -u`; its error is then infinite. The velocity then
    becomes :math:`u + \nu \xi`, normalised, with standard normal :math:`\xi`, of chains that turned back too: without
    noise one that can go neither way would turn for ever.

    Args:
        flow: From positions to the gradient of the potential energy and its values.
        largest_error: Bound of the absolute energy error.

    Returns:
        A function of position, velocity, potential energy, gradient, scales C, step size ``()``, noise :math:`\xi`
        ``(n, chains)`` and its size :math:`\nu` ``()``.
    """
    step = mclachlan(flow)

    def moved(
        q: Tensor, u: Tensor, value: Tensor, slope: Tensor, scale: Tensor, size: Tensor, noise: Tensor, nu: Tensor
    ) -> Moved:
        found = step(q, u, value, slope, scale, size)
        is_fine = found.error.abs() < largest_error  # not where it is NaN
        is_fine = is_fine & found.gradient.abs().amax(0).isfinite()
        return Moved(
            torch.where(is_fine, found.position, q),
            normalised(torch.where(is_fine, found.velocity, -u) + nu * noise),
            torch.where(is_fine, found.value, value),
            torch.where(is_fine, found.gradient, slope),
            torch.where(is_fine, found.error, torch.full_like(found.error, torch.inf)),
        )

    return moved


def noise_size(step_size: float, length: float, entries: int) -> float:
    r"""Return the size of the noise with which the direction is forgotten over a length.

    .. math:: \nu = \sqrt{(e^{2 \epsilon / L} - 1) / n}

    Args:
        step_size: :math:`\epsilon`.
        length: L, the decoherence length.
        entries: n.
    """
    return math.sqrt(math.expm1(min(2 * step_size / length, _FORGOTTEN)) / entries)
