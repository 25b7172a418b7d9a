"""NormalMixture: the predictive distribution of a regression, a mixture of one normal per posterior draw."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.devices import with_double

_BLOCK = 2**15  # numbers at a time on the CPU: they stay in its cache, and memory does not grow with levels or pairs
_BLOCK_OF_DEVICE = 2**22
_MOST_STEPS = 200  # a bracket is halved down to the rounding long before
_LAST_STEP = 1e-8  # of Newton's method, in standard deviations of the narrowest draw; it squares the error
_TAIL = 9.0  # standard deviations, beyond which a normal has no probability in double precision
_STEP = 0.5  # of the trapezoidal rule, in standard deviations of the narrowest draw
_PAIR = 1.6  # a step of the rule takes about as long as so many pairs of each draw with another


@dataclass(frozen=True, eq=False)
class NormalMixture:
    r"""The equal-weight mixture of the normals that the draws of a posterior predict, one mixture per row.

    With the means :math:`\mu_{sn}` and standard deviations :math:`\sigma_{sn}` of draws s = 1, ..., S its density and
    its distribution function at row n are

    .. math::
        p_n(y) = \frac{1}{S} \sum_s N(y; \mu_{sn}, \sigma_{sn}^2), \qquad
        F_n(y) = \frac{1}{S} \sum_s \Phi\left(\frac{y - \mu_{sn}}{\sigma_{sn}}\right).

    All is computed in double precision, on the device of the means: an original scale whose mean is large beside its
    spread, such as that of years, would lose digits in single precision.

    Args:
        means: Mean of each draw, shape ``(draws, rows)``.
        stds: Standard deviation of each draw, noise included, of the same shape.

    Raises:
        ValueError: If a shape or value is another, or there are no draws or rows.
    """

    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        """Check the draws and put them in double precision."""
        if self.means.ndim != 2 or 0 in self.means.shape:
            raise ValueError(
                f"means must have shape (draws, rows) with at least one of each, got {tuple(self.means.shape)}: "
                "add the dimension of a single draw with means.unsqueeze(0)."
            )
        if self.stds.shape != self.means.shape:
            raise ValueError(f"stds must have shape {tuple(self.means.shape)}, got {tuple(self.stds.shape)}.")
        _check_finite("means", self.means)
        _check_finite("stds", self.stds)
        if self.stds.min() <= 0:
            raise ValueError(f"stds must be positive, got {float(self.stds.min())}: include the noise.")
        object.__setattr__(self, "means", with_double(self.means).double())
        object.__setattr__(self, "stds", with_double(self.stds).double())

    @property
    def draws(self) -> int:
        """How many normals each mixture has."""
        return len(self.means)

    @property
    def rows(self) -> int:
        """How many mixtures there are."""
        return self.means.shape[1]

    @property
    def mean(self) -> Tensor:
        """The means of the mixtures, shape ``(rows,)``."""
        return self.means.mean(0)

    @property
    def std(self) -> Tensor:
        r"""The standard deviations of the mixtures, :math:`\sqrt{E_s \sigma_s^2 + Var_s \mu_s}`, shape ``(rows,)``."""
        return (self.stds.square().mean(0) + self.means.var(0, correction=0)).sqrt()

    def scaled(self, *, mean: float = 0.0, std: float = 1.0) -> "NormalMixture":
        """Return the distribution of ``mean + std * y``: that of original targets, if those of the model are scaled.

        Args:
            mean: What was taken away from the targets.
            std: What they were divided by then.

        Raises:
            ValueError: If ``mean`` is not finite, or ``std`` not positive and finite.
        """
        if not math.isfinite(mean):
            raise ValueError(f"mean must be finite, got {mean}.")
        if not (math.isfinite(std) and std > 0):
            raise ValueError(f"std must be positive and finite, got {std}.")
        return NormalMixture(mean + std * self.means, std * self.stds)

    # ---- what it says of targets -------------------------------------------------------------------------------------

    def cdf(self, y: Tensor) -> Tensor:
        """Return the probability of a target at or below y.

        Args:
            y: Targets, shape ``(*batch, rows)``.

        Returns:
            Shape ``(*batch, rows)``.

        Raises:
            ValueError: If y has another number of rows or is not finite.
        """
        return self._by_rows(_cdf, self._checked(y))

    def log_prob(self, y: Tensor) -> Tensor:
        """Return the log density of targets, in nats; its mean is minus the NLL.

        Args:
            y: Targets, shape ``(*batch, rows)``.

        Returns:
            Shape ``(*batch, rows)``.

        Raises:
            ValueError: If y has another number of rows or is not finite.
        """
        return self._by_rows(_log_density, self._checked(y))

    def crps(self, y: Tensor) -> Tensor:
        r"""Return the continuous ranked probability score of targets, in their units; lower is better.

        With independent X, X' of the mixture it is :math:`\int (F(z) - 1[y \le z])^2 dz = E|X - y| - \frac12 E|X - X'|`
        and has the closed form

        .. math::
            \frac{1}{S} \sum_s A(y - \mu_s, \sigma_s)
            - \frac{1}{2 S^2} \sum_{s, t} A\left(\mu_s - \mu_t, \sqrt{\sigma_s^2 + \sigma_t^2}\right), \qquad
            A(\mu, \sigma) = 2 \sigma \varphi(\mu / \sigma) + \mu \, (2 \Phi(\mu / \sigma) - 1).

        The second term is computed so where the draws are few for their spread, and else as its equal
        :math:`\int F(z) (1 - F(z)) \, dz` by the trapezoidal rule, in steps of half the least :math:`\sigma_s` of a
        row: as F is smooth, the error of the rule falls with the step h as :math:`e^{-(\pi \sigma / h)^2}`, and is then
        of the order of :math:`10^{-17}`. No draw is left out, the work grows with the draws and seldom with their
        square, and the memory with neither: rows are taken in blocks.

        Args:
            y: Targets, shape ``(*batch, rows)``.

        Returns:
            Shape ``(*batch, rows)``; for a single draw of no spread it would be the absolute error.

        Raises:
            ValueError: If y has another number of rows or is not finite.

        Source: Grimit, Gneiting, Berrocal, Johnson (2006), *The continuous ranked probability score for circular
        variables and its application to mesoscale forecast ensemble verification*, equation 5.
        """
        return self._by_rows(_crps, self._checked(y))

    # ---- quantiles and draws -----------------------------------------------------------------------------------------

    @torch.no_grad()
    def quantile(self, q: float | Tensor) -> Tensor:
        """Return quantiles of the mixtures: where their distribution function is q.

        They are found by Newton's method inside a bracket, which is halved where a step is of no use, down to the
        rounding of double precision.

        Args:
            q: Level or levels, in (0, 1), of any shape.

        Returns:
            Shape ``(*q.shape, rows)``; ``(rows,)`` of a single level.

        Raises:
            ValueError: If a level is not in (0, 1).
        """
        levels = torch.as_tensor(q, dtype=self.means.dtype, device=self.means.device)
        if not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"q must be between 0 and 1, got {q}.")
        return self._by_rows(_quantile, levels.unsqueeze(-1).expand(*levels.shape, self.rows))

    def interval(self, level: float | Tensor) -> tuple[Tensor, Tensor]:
        """Return central intervals: a target is as likely to be below as to be above.

        Args:
            level: Probability or probabilities of the intervals, in (0, 1), of any shape.

        Returns:
            Lower and upper ends, each of shape ``(*level.shape, rows)``.

        Raises:
            ValueError: If a level is not in (0, 1).
        """
        levels = torch.as_tensor(level, dtype=self.means.dtype, device=self.means.device)
        if not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"level must be between 0 and 1, got {level}.")
        low, high = self.quantile(torch.stack([(1 - levels) / 2, (1 + levels) / 2])).unbind()
        return low, high

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | None = None) -> Tensor:
        """Draw targets of all rows.

        All rows of one sample are of the same posterior draw, so that sums and differences over rows have their
        posterior predictive distribution too; the noise of the rows is independent.

        Args:
            n: How many samples.
            seed: Seed of this call, which leaves the global random state as it is; None continues from that state.

        Returns:
            Shape ``(n, rows)``.

        Raises:
            ValueError: If n is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}.")
        device = self.means.device
        generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        chosen = torch.randint(self.draws, (n,), generator=generator, device=device)
        noise = torch.randn(n, self.rows, generator=generator, dtype=self.means.dtype, device=device)
        drawn: Tensor = self.means[chosen] + self.stds[chosen] * noise
        return drawn

    # ---- blocks of rows ----------------------------------------------------------------------------------------------

    def _by_rows(self, function: Callable[[Tensor, Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
        """Return a function of means, standard deviations and values ``(*batch, rows)``, block by block of rows."""
        most = _BLOCK if self.means.device.type == "cpu" else _BLOCK_OF_DEVICE
        size = max(1, most * self.rows // (self.draws * max(1, values.numel())))
        blocks = zip(self.means.split(size, 1), self.stds.split(size, 1), values.split(size, -1), strict=True)
        return torch.cat([function(*block) for block in blocks], -1)

    def _checked(self, y: Tensor) -> Tensor:
        """Return targets in double precision, or raise."""
        if y.ndim == 0 or y.shape[-1] != self.rows:
            raise ValueError(f"y must have shape (*batch, {self.rows}), one target per row, got {tuple(y.shape)}.")
        _check_finite("y", y)
        return y.to(self.means)


def _cdf(means: Tensor, stds: Tensor, y: Tensor) -> Tensor:
    return _below((y.unsqueeze(-2) - means) / stds).mean(-2)


def _below(z: Tensor) -> Tensor:
    """Return the distribution function of the standard normal, with all digits in its lower tail."""
    below: Tensor = (z * -math.sqrt(0.5)).erfc() / 2
    return below


def _log_density(means: Tensor, stds: Tensor, y: Tensor) -> Tensor:
    squares = ((y.unsqueeze(-2) - means) / stds).square()
    return (squares / -2 - stds.log()).logsumexp(-2) - math.log(len(means) * math.sqrt(2 * math.pi))


def _crps(means: Tensor, stds: Tensor, y: Tensor) -> Tensor:
    if len(means) == 1:
        return _mean_distance(y.unsqueeze(-2) - means, stds).squeeze(-2) - stds[0] / math.sqrt(math.pi)
    width = means.amax(0) - means.amin(0) + 2 * _TAIL * stds.amax(0)
    steps = math.ceil(min(float((width / (_STEP * stds.amin(0))).max()), 2.0**53))  # infinite of the least numbers
    spread = _half_distance_by_steps(means, stds, steps) if steps < _PAIR * len(means) else _half_distance(means, stds)
    return _mean_distance(y.unsqueeze(-2) - means, stds).mean(-2) - spread


def _half_distance(means: Tensor, stds: Tensor) -> Tensor:
    """Return half the mean distance of two targets of each mixture, ``(rows,)``, in closed form."""
    variances = stds.square()
    pairs = 2 / math.sqrt(math.pi) * stds.sum(0)  # of each draw with itself
    for s in range(len(means) - 1):
        apart = _mean_distance(means[s] - means[s + 1 :], (variances[s] + variances[s + 1 :]).sqrt())
        pairs = pairs + 2 * apart.sum(0)
    return pairs / (2 * len(means) ** 2)


def _half_distance_by_steps(means: Tensor, stds: Tensor, steps: int) -> Tensor:
    """Return the same by the trapezoidal rule, which is exact but for rounding: see `NormalMixture.crps`."""
    low, high = (means - _TAIL * stds).amin(0), (means + _TAIL * stds).amax(0)
    step = (high - low) / steps
    total = torch.zeros_like(low)
    for k in range(1, steps):
        below = _cdf(means, stds, low + k * step)
        total += below * (1 - below)
    return step * total


def _mean_distance(mean: Tensor, std: Tensor) -> Tensor:
    """Return the mean absolute value of a normal."""
    z = mean / std
    distance: Tensor = std * math.sqrt(2 / math.pi) * (z.square() / -2).exp() + mean * (z * math.sqrt(0.5)).erf()
    return distance


def _quantile(means: Tensor, stds: Tensor, q: Tensor) -> Tensor:
    """Return the quantiles of levels ``(*batch, rows)``, which are the same for all rows."""
    z = torch.special.ndtri(q[..., :1])
    of_draws = means + stds * z.unsqueeze(-2)
    if len(means) == 1:
        only: Tensor = of_draws.squeeze(-2)
        return only
    low, high = of_draws.amin(-2), of_draws.amax(-2)  # the mixture's quantile is between those of its parts
    spread = (stds.square().mean(0) + means.var(0, correction=0)).sqrt()
    x: Tensor = (means.mean(0) + z * spread).clamp(low, high)
    last = high - low
    rounding = 4 * torch.finfo(x.dtype).eps * torch.maximum(low.abs(), high.abs())
    last_step = _LAST_STEP * stds.amin(0) + rounding
    is_found = torch.zeros_like(x, dtype=torch.bool)
    for _ in range(_MOST_STEPS):
        scaled = (x.unsqueeze(-2) - means) / stds
        gap = _below(scaled).mean(-2) - q
        density = ((scaled.square() / -2).exp() / stds).mean(-2) / math.sqrt(2 * math.pi)
        low, high = torch.where(gap < 0, x, low), torch.where(gap < 0, high, x)
        newton, middle = gap / density, (low + high) / 2
        target = x - newton
        is_good = (target >= low) & (target <= high) & (2 * newton.abs() <= last + last_step)  # False for NaN
        last = torch.where(is_good, newton.abs(), (high - low) / 2)
        x = torch.where(is_found, x, torch.where(is_good, target, middle))
        is_found |= last <= torch.where(is_good, last_step, rounding)
        if is_found.all():
            break
    return x


def _check_finite(name: str, values: Tensor) -> None:
    bad = int((~values.isfinite()).sum())
    if bad:
        raise ValueError(f"{name} must be finite, got {bad} NaN or infinite values of {values.numel()}.")
