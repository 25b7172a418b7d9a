"""Curvature of the potential energy where chains are, and scales of coordinates in which it is the same all round."""

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.potential.potential import Potential

_PART = 1e-3  # of a standard deviation, over which gradients are compared
_LEAST = 1.0  # of the curvature in units of the draws, whose spread a scale does not exceed


def curvature(potential: Potential, points: Tensor, scale: Tensor) -> Tensor:
    r"""Return the absolute Hessian of the potential energy at points, in coordinates that have been scaled.

    With :math:`S = \mathrm{diag}(s)` and the eigenvalues of :math:`S \nabla^2 U S = Q \Lambda Q^\top` it is
    :math:`Q \max(|\Lambda|, 1) Q^\top`, from central differences of gradients: 2 n of them for each point.

    Args:
        potential: The potential energy.
        points: Shape ``(chains, n)``.
        scale: s, the standard deviations of the draws, shape ``(n,)``.

    Returns:
        Shape ``(chains, n, n)``, float64; 1 on the diagonal and 0 elsewhere where a gradient is not finite.

    Source: Betancourt (2013), *A general metric for Riemannian manifold Hamiltonian Monte Carlo*.
    """
    columns = []
    for i, spread in enumerate(scale):
        step = torch.zeros_like(scale).index_fill(0, torch.tensor([i], device=scale.device), 1.0) * spread * _PART
        ahead, behind = (potential.value_and_gradient(points + way * step)[1] for way in (1, -1))
        columns.append((ahead - behind).double() * scale / (2 * _PART))
    hessian = torch.stack(columns, 1)
    hessian = (hessian + hessian.mT) / 2
    is_finite = hessian.isfinite().flatten(1).all(1).reshape(-1, 1, 1)
    unit = torch.eye(len(scale), dtype=hessian.dtype, device=hessian.device)
    values, vectors = torch.linalg.eigh(torch.where(is_finite, hessian, unit))
    found: Tensor = (vectors * values.abs().clamp(min=_LEAST).unsqueeze(1)) @ vectors.mT
    return found


def factors(curved: Tensor, scale: Tensor) -> Tensor:
    r"""Return scales of coordinates in which a curvature is 1 in all directions.

    They are :math:`C = S A^{-\top}` for the Cholesky factor A of the curvature, so that
    :math:`C C^\top = S (A A^\top)^{-1} S`.

    Args:
        curved: What `curvature` returned, perhaps averaged, shape ``(chains, n, n)``.
        scale: s, likewise, shape ``(n,)``.

    Returns:
        C of each chain, the chains last, shape ``(n, n, chains)``, in the dtype of ``scale``.
    """
    lower: Tensor = torch.linalg.cholesky(curved)
    unit = torch.eye(len(scale), dtype=curved.dtype, device=curved.device).expand_as(curved)
    found: Tensor = scale.double().unsqueeze(1) * torch.linalg.solve_triangular(lower.mT, unit, upper=True)
    return found.permute(1, 2, 0).to(scale.dtype).contiguous()
