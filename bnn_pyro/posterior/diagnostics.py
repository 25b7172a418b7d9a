"""What chains say of themselves: rank-normalised R-hat, effective sample sizes of bulk and tails, E-BFMI."""

import math

import torch
from torch import Tensor

from bnn_pyro.devices import with_double

MIXED_MEDIAN, MIXED_TAIL = 1.05, 1.2
"""Up to which median and 95 % quantile of R-hat chains count as mixed, where nothing else is asked for."""

_TAILS = (0.05, 0.95)
LEAST_DRAWS = 4
"""Draws per chain, without which nothing can be said of chains."""


def r_hat(draws: Tensor) -> Tensor:
    r"""Returns how much wider all chains together are than each alone; 1 where they agree.

    Chains are split in halves, draws replaced by the normal scores of their ranks,

    .. math:: \hat R = \sqrt{\frac{n - 1}{n} + \frac{\mathrm{var}(\text{means})}{\mathrm{mean}(\text{variances})}},

    and the same is done with the distances from the median; the larger counts.

    Args:
        draws: Shape ``(chains, draws, *shape)``, at least 4 draws.

    Returns:
        Shape ``shape``; infinite where every chain is constant and they differ, as gates of chains that are stuck; NaN
        where a draw is not finite or all are the same.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021), *Rank-normalization, folding, and localization: An
    improved R-hat for assessing convergence of MCMC*.
    """
    draws = with_double(draws)
    halves = _halves(draws)
    median = _quantile(halves, 0.5)
    # of two constants the distances from the median are all the same, so that their R-hat is not a number
    found = torch.fmax(_plain_r_hat(_normal_scores(halves)), _plain_r_hat(_normal_scores((halves - median).abs())))
    return _where_finite(draws, found)


def r_hat_summary(r_hat: Tensor) -> tuple[float, float]:
    """Return the median and the 95 % quantile of R-hat; infinite where there is none.

    Args:
        r_hat: Shape ``(quantities,)``; entries that are not a number do not count, infinite ones do.
    """
    known = with_double(r_hat[~r_hat.isnan()]).double()
    if not len(known):
        return math.inf, math.inf
    tail = float(known.quantile(0.95))  # between two infinite ones it is not a number
    return float(known.median()), math.inf if math.isnan(tail) else tail


def ess_bulk(draws: Tensor) -> Tensor:
    """Returns how many independent draws would tell the centre of the distribution as well.

    Args:
        draws: Shape ``(chains, draws, *shape)``, at least 4 draws.

    Returns:
        Shape ``shape``; NaN where a draw is not finite.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021).
    """
    draws = with_double(draws)
    return _where_finite(draws, _ess(_normal_scores(_halves(draws))))


def ess_tail(draws: Tensor) -> Tensor:
    """Returns how many independent draws would tell the 5 % and 95 % quantiles as well; the smaller of the two.

    Args:
        draws: Shape ``(chains, draws, *shape)``, at least 4 draws.

    Returns:
        Shape ``shape``; NaN where a draw is not finite.

    Source: Vehtari, Gelman, Simpson, Carpenter, Bürkner (2021).
    """
    draws = with_double(draws)
    below = [_ess(_halves((draws <= _quantile(draws, p)).double())) for p in _TAILS]
    return _where_finite(draws, torch.minimum(*below))


def e_bfmi(total_energy: Tensor) -> Tensor:
    r"""Returns the energy Bayesian fraction of missing information of each chain.

    .. math:: \frac{\sum_n (E_n - E_{n-1})^2}{\sum_n (E_n - \bar E)^2}

    It tells how far a new momentum moves the energy, against how far the energy varies. Below 0.3 the chains are slow
    to reach the tails: a scale that should be non-centred, or a funnel.

    Args:
        total_energy: Potential and kinetic energy of each transition, shape ``(chains, draws)``, at least 2 draws.

    Returns:
        Shape ``(chains,)``; NaN where an energy is not finite or all are the same.

    Source: Betancourt (2016), *Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo*.
    """
    energy = with_double(total_energy).double()
    return energy.diff().square().sum(-1) / (energy - energy.mean(-1, keepdim=True)).square().sum(-1)


def _halves(draws: Tensor) -> Tensor:
    """Splits each chain in two, in double precision; a middle draw is left out."""
    if draws.dim() < 2 or draws.shape[1] < LEAST_DRAWS:
        got = tuple(draws.shape)
        raise ValueError(f"draws must have shape (chains, draws, ...) with at least {LEAST_DRAWS} draws, got {got}")
    size = draws.shape[1] // 2
    return torch.cat([draws[:, :size], draws[:, -size:]]).double()


def _quantile(draws: Tensor, probability: float) -> Tensor:
    """Returns a quantile over chains and draws."""
    ordered = draws.flatten(0, 1).sort(0).values
    position = probability * (len(ordered) - 1)
    low = math.floor(position)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], position - low)


def _normal_scores(draws: Tensor) -> Tensor:
    """Replaces each draw by the normal quantile of its rank among all; draws that are alike share a rank."""
    rows = draws.flatten(0, 1).movedim(0, -1).contiguous()
    ordered = rows.sort(-1).values
    less, at_most = (torch.searchsorted(ordered, rows, right=right) for right in (False, True))
    rank = (less + at_most + 1) / 2
    scores: Tensor = torch.special.ndtri((rank.double() - 3 / 8) / (rows.shape[-1] + 1 / 4))
    return scores.movedim(-1, 0).reshape(draws.shape)


def _plain_r_hat(draws: Tensor) -> Tensor:
    size = draws.shape[1]
    within = draws.var(1).mean(0)
    return ((size - 1) / size + draws.mean(1).var(0) / within).sqrt()


def _ess(draws: Tensor) -> Tensor:
    r"""Returns the effective sample size of a mean, by Geyer's initial monotone sequence of autocorrelations.

    .. math:: n_{\text{eff}} = mn / \tau, \qquad \tau = -1 + 2 \sum_k P_k, \qquad P_k = \rho_{2k} + \rho_{2k+1}.

    Args:
        draws: Shape ``(chains, draws, *shape)``.
    """
    chains, size = draws.shape[:2]
    rho = _autocorrelations(draws)
    pairs = rho[: size // 2 * 2].unflatten(0, (-1, 2)).sum(1)
    last = max(math.ceil((size - 2) / 2) - 1, 0)  # the last pair that is looked at
    positive = (pairs[:last] > 0).cumprod(0)
    end = positive.sum(0)  # the first pair that is not positive, or the last one
    total = (torch.cummin(pairs[:last], 0).values * positive).sum(0)
    even, pair = (part.gather(0, end.unsqueeze(0)).squeeze(0) for part in (rho[::2], pairs))
    tau = 2 * total - 1 + torch.where((even > 0) | (pair >= 0), even, torch.zeros_like(even))
    found = chains * size / tau.clamp(min=1 / math.log10(chains * size))
    constant = draws.flatten(0, 1).amax(0) == draws.flatten(0, 1).amin(0)
    return torch.where(constant, torch.full_like(found, chains * size), found)


def _autocorrelations(draws: Tensor) -> Tensor:
    """Returns the autocorrelation at each lag, over all chains, shape ``(draws, *shape)``."""
    size = draws.shape[1]
    spectrum = torch.fft.rfft(draws - draws.mean(1, keepdim=True), n=2 * size, dim=1)
    covariance = torch.fft.irfft(spectrum.abs().square(), n=2 * size, dim=1)[:, :size].mean(0) / size
    within = covariance[0] * size / (size - 1)
    total = covariance[0] + (draws.mean(1).var(0) if len(draws) > 1 else 0)
    rho: Tensor = 1 - (within - covariance) / total
    rho[0] = 1
    return rho


def _where_finite(draws: Tensor, found: Tensor) -> Tensor:
    return torch.where(torch.isfinite(draws).flatten(0, 1).all(0), found, torch.full_like(found, torch.nan))
