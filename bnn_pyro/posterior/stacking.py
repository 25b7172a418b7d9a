"""Stacking: weights of chains that do not mix, by how well their mixture predicts rows that are left out."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.posterior.psis import RELIABLE_K, psis_loo

_WEIGHT_TOLERANCE = 1e-6  # of what weights add up to
_TOLERANCE = 1e-5  # of the mean log score
_MOST_STEPS = 50_000


@dataclass(frozen=True, eq=False)
class Stacking:
    """Weights of chains, and what they were found from.

    Args:
        weights: Of the chains; they add up to 1. Shape ``(chains,)``.
        elpd: Log density of each row given the other rows, in each chain, shape ``(chains, rows)``.
        pareto_k: Shape of the Pareto distribution that it was smoothed by, shape ``(chains, rows)``.
    """

    weights: Tensor
    elpd: Tensor
    pareto_k: Tensor

    @property
    def unreliable(self) -> int:
        """In how many rows the shape is above 0.7, or unknown, for chains of more than half of the weight."""
        is_unreliable = ~(self.pareto_k <= RELIABLE_K)
        return int(((self.weights.unsqueeze(1) * is_unreliable).sum(0) > 0.5).sum())


def stack(log_likelihood: Tensor, *, equal_share: float = 0.0) -> Stacking:
    r"""Return the weights of chains by stacking of their leave-one-out predictive densities.

    With the weights :math:`w` of `stacking_weights` and the equal share e they are :math:`(1 - e)\, w_k + e / K` of K
    chains. Stacking alone leaves most chains without any weight, and a row unlike those that it was found on may then
    have next to no density; of its density under equal weights a share e is kept.

    Args:
        log_likelihood: Of each observation in each draw of each chain, shape ``(chains, draws, rows)``.
        equal_share: What part of the weight all chains share equally, from 0 to 1.

    Raises:
        ValueError: If there are not three dimensions, or there is no draw or row, or the share is out of range.

    Source: Yao, Vehtari, Gelman (2022), *Stacking for non-mixing Bayesian computations: The curse and blessing of
    multimodal posteriors*.
    """
    if log_likelihood.dim() != 3 or not log_likelihood.numel():
        shape = tuple(log_likelihood.shape)
        raise ValueError(f"log_likelihood must have shape (chains, draws, rows) and an entry, got {shape}")
    if not 0 <= equal_share <= 1:
        raise ValueError(f"equal_share must be from 0 to 1, got {equal_share}")
    elpd, shapes = (torch.stack(each) for each in zip(*map(psis_loo, log_likelihood), strict=True))
    weights = (1 - equal_share) * stacking_weights(elpd) + equal_share / len(elpd)
    return Stacking(weights, elpd, shapes)


def stacking_weights(elpd: Tensor) -> Tensor:
    r"""Return the weights whose mixture has the largest mean log score.

    .. math:: \max_w \frac{1}{n} \sum_i \log \sum_k w_k\, p_k(y_i), \qquad w_k \ge 0, \quad \sum_k w_k = 1,

    is concave. It is found by the multiplicative updates of expectation maximisation,
    :math:`w_k \leftarrow w_k g_k` with :math:`g_k = \frac{1}{n} \sum_i p_k(y_i) / \sum_j w_j p_j(y_i)`, none of which
    lowers the score. As :math:`\max_k g_k - 1` bounds what is still to be gained they end when it is below
    :math:`10^{-5}`.

    Args:
        elpd: Log densities :math:`\log p_k(y_i)`, shape ``(chains, rows)``; rows where no chain has a density do not
            count.

    Returns:
        The weights, in double precision, shape ``(chains,)``; all the same where there is no row that counts.

    Raises:
        ValueError: If a log density is not a number, or infinitely large.
    """
    if bool((elpd.isnan() | (elpd == math.inf)).any()):
        raise ValueError("elpd must be log densities, got NaN or infinitely large ones")
    known = elpd[:, (elpd > -math.inf).any(0)].double()
    weights = known.new_full((len(elpd),), 1 / len(elpd))
    if not known.numel():
        return weights
    density = (known - known.amax(0)).exp()
    for _ in range(_MOST_STEPS):
        gain = (density / (weights @ density)).mean(1)
        if float(gain.max()) - 1 < _TOLERANCE:
            break
        weights = weights * gain
    return weights / weights.sum()


def shares(weights: Tensor, count: int) -> list[int]:
    """Return how many of so many draws each chain gives, in proportion to weights: by largest remainders.

    Args:
        weights: Of the chains; they add up to 1. Shape ``(chains,)``.
        count: How many draws in all.

    Returns:
        The numbers, which add up to the count; each is less than 1 away from its exact share.
    """
    exact = weights.cpu().double() * count
    whole = (exact + 1e-9).floor()  # weights are not exact
    left = count - int(whole.sum())
    largest = (exact - whole).argsort(descending=True, stable=True)[:left]
    whole[largest] += 1
    return [int(number) for number in whole]


def within_chain(size: int, count: int) -> Tensor:
    """Return so many numbers below a size, evenly spaced.

    Args:
        size: How many draws a chain has.
        count: How many of them to take.
    """
    return ((torch.arange(count, dtype=torch.float64, device="cpu") + 0.5) * size / max(count, 1)).long()


def checked_weights(weights: Tensor, chains: int) -> Tensor:
    """Return weights of chains in double precision, on the CPU.

    Args:
        weights: Shape ``(chains,)``.
        chains: How many chains there are.

    Raises:
        ValueError: If they have another shape, are negative or not finite, or do not add up to 1.
    """
    if tuple(weights.shape) != (chains,):
        raise ValueError(f"weights must have shape ({chains},), one for each chain, got {tuple(weights.shape)}")
    weights = weights.detach().cpu().double()
    if not bool((weights >= 0).all()) or not abs(float(weights.sum()) - 1) < _WEIGHT_TOLERANCE:
        raise ValueError(f"weights must be at least 0 and add up to 1, got {weights.tolist()}")
    return weights / weights.sum()
