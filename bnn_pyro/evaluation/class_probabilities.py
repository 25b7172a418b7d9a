"""ClassProbabilities: the predictive distribution of classes, the mean of the probabilities of posterior draws."""

from dataclasses import dataclass

import torch
from torch import Tensor

_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class ClassProbabilities:
    r"""The mixture of the class probabilities that the draws of a posterior predict, one mixture per row.

    With the probabilities :math:`p_{snc}` of draws s = 1, ..., S it is :math:`p_n(c) = \frac{1}{S} \sum_s p_{snc}`.

    Args:
        draws_probs: Class probabilities of each draw, shape ``(draws, rows, classes)``, which sum to 1 within 1e-3.

    Raises:
        ValueError: If the shape or a value is another, or there are no draws or rows.
    """

    draws_probs: Tensor

    def __post_init__(self) -> None:
        """Check the draws."""
        p = self.draws_probs
        if p.ndim != 3 or 0 in p.shape or p.shape[2] < 2:
            raise ValueError(
                "draws_probs must have shape (draws, rows, classes) with at least one draw, one row and 2 classes, "
                f"got {tuple(p.shape)}: add the dimension of a single draw with draws_probs.unsqueeze(0)."
            )
        if not (p >= 0).all():  # False for NaN
            raise ValueError(f"draws_probs must not be negative or NaN, got {float(p.min())}: give probabilities.")
        worst = float((p.sum(-1) - 1).abs().max())
        if not worst <= _SUM_TOLERANCE:
            raise ValueError(f"draws_probs must sum to 1 in each row, got a sum that differs by {worst:.3g}.")

    @property
    def draws(self) -> int:
        """How many draws there are."""
        return len(self.draws_probs)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.draws_probs.shape[1]

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return self.draws_probs.shape[2]

    @property
    def probs(self) -> Tensor:
        """The predictive probabilities, shape ``(rows, classes)``."""
        return self.draws_probs.mean(0)

    @property
    def mean(self) -> Tensor:
        """The mean of the indicator of each class: its probability, shape ``(rows, classes)``."""
        return self.probs

    @property
    def std(self) -> Tensor:
        r"""The standard deviation of the indicator of each class, :math:`\sqrt{p (1 - p)}`: ``(rows, classes)``."""
        p = self.probs
        return (p * (1 - p)).clamp(min=0).sqrt()

    @property
    def predicted(self) -> Tensor:
        """The most probable class, int64, shape ``(rows,)``."""
        return self.probs.argmax(-1)

    @property
    def entropy(self) -> Tensor:
        r"""The entropy in nats, :math:`-\sum_c p(c) \log p(c)`, shape ``(rows,)``: the whole uncertainty."""
        found: Tensor = torch.special.entr(self.probs).sum(-1)
        return found

    @property
    def mutual_information(self) -> Tensor:
        """The part of the entropy that is the posterior's uncertainty, in nats, shape ``(rows,)``.

        It is the entropy less the mean entropy of the draws: the mutual information of the class and the weights.

        Source: Houlsby, Huszár, Ghahramani, Lengyel (2011), *Bayesian active learning for classification and preference
        learning*.
        """
        of_draws: Tensor = torch.special.entr(self.draws_probs).sum(-1).mean(0)
        return (self.entropy - of_draws).clamp(min=0)

    def log_prob(self, y: Tensor) -> Tensor:
        """Return the log probability of labels, in nats; its mean is minus the NLL.

        Args:
            y: Labels in 0 ... classes - 1, integers of shape ``(*batch, rows)``.

        Returns:
            Shape ``(*batch, rows)``; the log of the smallest normal number where a probability is 0.

        Raises:
            ValueError: If y has another shape, dtype or value.
        """
        if y.ndim == 0 or y.shape[-1] != self.rows:
            raise ValueError(f"y must have shape (*batch, {self.rows}), one label per row, got {tuple(y.shape)}.")
        if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
            raise ValueError(f"y must be integers, got {y.dtype}: convert them with y.long().")
        labels = y.to(self.draws_probs.device, torch.int64)
        if int(labels.min()) < 0 or int(labels.max()) >= self.classes:
            raise ValueError(
                f"y must be in 0 ... {self.classes - 1}, got {int(labels.min())} ... {int(labels.max())}: "
                "number the classes from 0."
            )
        p = self.probs
        logs = p.clamp(min=torch.finfo(p.dtype).tiny).log().expand(*labels.shape, self.classes)
        return logs.gather(-1, labels.unsqueeze(-1)).squeeze(-1)

    def prediction_set(self, level: float) -> Tensor:
        """Return the smallest sets of classes that hold a probability of at least so much.

        Args:
            level: The probability, in (0, 1).

        Returns:
            Whether each class is in the set of each row, bool, shape ``(rows, classes)``; the most probable class
            always is.

        Raises:
            ValueError: If ``level`` is not in (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}.")
        p, order = self.probs.sort(dim=-1, descending=True, stable=True)
        before = p.cumsum(-1) - p
        return torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before < level)

    @torch.no_grad()
    def sample(self, n: int, *, seed: int | None = None) -> Tensor:
        """Draw labels of all rows.

        All rows of one sample are of the same posterior draw, so that counts over rows have their posterior predictive
        distribution too.

        Args:
            n: How many samples.
            seed: Seed of this call, which leaves the global random state as it is; None continues from that state.

        Returns:
            Labels, int64, shape ``(n, rows)``.

        Raises:
            ValueError: If n is below 1.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}.")
        device = self.draws_probs.device
        generator = None if seed is None else torch.Generator(device).manual_seed(seed)
        chosen = torch.randint(self.draws, (n,), generator=generator, device=device)
        labels = torch.stack([self.draws_probs[s].multinomial(1, generator=generator) for s in chosen.tolist()])
        return labels.squeeze(-1)
