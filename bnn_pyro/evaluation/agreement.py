"""How far apart two answers to the same question are: distances of predictive distributions, and of open nodes.

Tensors in, tensors out, one entry a row of data. Each distance is 0 for the same distribution; two finite samples of
one distribution are a little apart, so put the distance between two halves of a sample beside that between two samples.
"""

import torch
from torch import Tensor
from torch.distributions import Normal

LEVELS = 16
BINS = 400


def total_variation(p: Tensor, q: Tensor) -> Tensor:
    r"""Return the total variation distance of predicted class probabilities, :math:`\frac12 \sum_c |p_c - q_c|`.

    It is the largest difference in probability that the two give to any set of classes, in [0, 1].

    Args:
        p: Probabilities, `(rows, classes)`.
        q: Probabilities, `(rows, classes)`.

    Returns:
        Shape `(rows,)`.

    Raises:
        ValueError: If the shapes differ or are others.
    """
    if p.ndim != 2 or p.shape != q.shape:
        raise ValueError(f"p and q must both have shape (rows, classes), got {tuple(p.shape)} and {tuple(q.shape)}.")
    distance: Tensor = (p - q).abs().sum(1) / 2
    return distance


def mixture_total_variation(p: tuple[Tensor, Tensor], q: tuple[Tensor, Tensor], *, bins: int = BINS) -> Tensor:
    r"""Return the total variation distance of two predictive mixtures of normals, :math:`\frac12 \int |p - q|`.

    The line is cut into bins that hold about equally much of the two mixtures, and with the mixtures' distribution
    functions P and Q

    .. math:: \tfrac12 \sum_b |(P(e_{b+1}) - P(e_b)) - (Q(e_{b+1}) - Q(e_b))|,

    a lower bound that grows to the distance with the number of bins. It is at most 1, and does not change with the
    scale of the targets.

    Args:
        p: Mean and standard deviation of each draw, both `(draws, rows)`.
        q: Likewise; the number of draws may be another.
        bins: Number of bins, at least 2.

    Returns:
        Shape `(rows,)`.

    Raises:
        ValueError: If a shape is another, a standard deviation is not positive, or there are too few bins.
    """
    if bins < 2:
        raise ValueError(f"bins must be at least 2, got {bins}.")
    _check_mixtures(p, q)
    found = [_quantiles(*mixture, levels=max(4, -(-2 * bins // len(mixture[0])))) for mixture in (p, q)]
    size = min(len(points) for points in found)
    points = torch.cat([_evenly(points.sort(0).values, size) for points in found]).sort(0).values
    edges = _evenly(points, bins - 1)
    distance: Tensor = (_shares(p, edges) - _shares(q, edges)).abs().sum(0) / 2
    return distance


def mixture_points(mean: Tensor, sd: Tensor, *, levels: int = LEVELS) -> Tensor:
    r"""Return points that stand for a mixture of normals, each for as much probability as any other.

    They are the quantiles :math:`\mu_s + \sigma_s \Phi^{-1}((k - \frac12) / K)`, k = 1, ..., K, of every draw s.

    Args:
        mean: Mean of each draw, `(draws, rows)`.
        sd: Standard deviation of each draw, `(draws, rows)`.
        levels: K, at least 1.

    Returns:
        Shape `(draws * levels, rows)`, not sorted.

    Raises:
        ValueError: If a shape is another, a standard deviation is not positive, or levels is below 1.
    """
    if levels < 1:
        raise ValueError(f"levels must be at least 1, got {levels}.")
    _check_mixtures((mean, sd))
    steps = (torch.arange(levels, dtype=mean.dtype, device=mean.device) + 0.5) / levels
    points: Tensor = mean.unsqueeze(1) + sd.unsqueeze(1) * torch.special.ndtri(steps).unsqueeze(-1)
    return points.flatten(0, 1)


def wasserstein(a: Tensor, b: Tensor) -> Tensor:
    r"""Return the 1-Wasserstein distance of two samples, :math:`\int_0^1 |A^{-1}(u) - B^{-1}(u)| \, du`.

    It is how far the probability has to be moved on average to turn one distribution into the other, in the units of
    the draws. For samples of one size it is the mean distance of the sorted draws.

    Args:
        a: Draws, `(draws, rows)`.
        b: Draws, `(draws, rows)`; their number may be another.

    Returns:
        Shape `(rows,)`.

    Raises:
        ValueError: If a shape is another.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1:] != b.shape[1:] or 0 in (len(a), len(b)):
        raise ValueError(
            f"a and b must have shape (draws, rows), the same rows, got {tuple(a.shape)}, {tuple(b.shape)}."
        )
    sizes = [len(a), len(b)]
    steps = [torch.arange(1, size + 1, dtype=torch.float64, device=a.device) / size for size in sizes]
    ends = torch.cat(steps).unique()
    widths = ends.diff(prepend=ends.new_zeros(1))
    middles = ends - widths / 2
    quantiles = [
        draws.sort(0).values[(middles * size).long().clamp(max=size - 1)]
        for draws, size in zip((a, b), sizes, strict=True)
    ]
    distance: Tensor = (widths.to(a).unsqueeze(-1) * (quantiles[0] - quantiles[1]).abs()).sum(0)
    return distance


def at_least(is_open: Tensor) -> Tensor:
    r"""Return the probability that at least k nodes of a group are open, :math:`P(\sum_j z_j \ge k)`, k = 1, ..., size.

    Hidden nodes can change places without a change of the network's outputs, so that a node's own inclusion probability
    need not mean the same to two methods; how many nodes are open does. Its sum over k is the expected number.

    Args:
        is_open: Whether each node is open, bool, `(draws, size)`.

    Returns:
        Shape `(size,)`, falling, float64.

    Raises:
        ValueError: If the shape or dtype is another, or there is no draw.
    """
    if is_open.ndim != 2 or is_open.dtype != torch.bool or not len(is_open):
        raise ValueError(
            f"is_open must be bool of shape (draws, size) with a draw, got {is_open.dtype} of {tuple(is_open.shape)}."
        )
    counts = is_open.sum(1, keepdim=True)
    tail: Tensor = (counts >= torch.arange(1, is_open.shape[1] + 1, device=is_open.device)).double().mean(0)
    return tail


def _quantiles(mean: Tensor, sd: Tensor, *, levels: int) -> Tensor:
    """Return quantiles of every draw, at levels of its own, so that draws that are alike do not repeat each other's."""
    shift = (
        torch.arange(len(mean), dtype=mean.dtype, device=mean.device) * 0.618034 % 1
    )  # the golden ratio spreads them
    steps = torch.arange(levels, dtype=mean.dtype, device=mean.device)
    level = ((steps + shift.unsqueeze(-1)) / levels).clamp(1e-6, 1 - 1e-6)
    points: Tensor = mean.unsqueeze(1) + sd.unsqueeze(1) * torch.special.ndtri(level).unsqueeze(-1)
    return points.flatten(0, 1)


def _evenly(points: Tensor, count: int) -> Tensor:
    """Return some of the rows, from the first to the last."""
    chosen = torch.linspace(0, len(points) - 1, count, dtype=torch.float64, device="cpu").round().long()
    return points[chosen.to(points.device)]


def _shares(mixture: tuple[Tensor, Tensor], edges: Tensor) -> Tensor:
    """Return a mixture's probability of each bin, `(bins, rows)`; the first and the last bin have no outer edge."""
    mean, sd = mixture
    below = torch.stack([Normal(mean, sd, validate_args=False).cdf(edge).mean(0) for edge in edges])
    ones = torch.ones_like(below[:1])
    return torch.cat([below, ones]).diff(dim=0, prepend=torch.zeros_like(ones))


def _check_mixtures(*mixtures: tuple[Tensor, Tensor]) -> None:
    """Raise unless each mixture has a positive standard deviation for each mean, and all have the same rows."""
    rows = mixtures[0][0].shape[1:]
    for mean, sd in mixtures:
        if mean.ndim != 2 or mean.shape != sd.shape or mean.shape[1:] != rows or not len(mean):
            raise ValueError(
                "means and standard deviations must have shape (draws, rows), with as many rows in each mixture, "
                f"got {tuple(mean.shape)} and {tuple(sd.shape)}."
            )
        if not (sd > 0).all():
            raise ValueError(f"standard deviations must be positive, got {float(sd.min())}.")
