"""EM of a spike-and-slab group Gaussian prior: which groups of weights decay much, which little, which are removed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from bnn_pyro.arguments import check_choice, check_reals, check_whole
from bnn_pyro.nodes import Axis, NodeGroup

Side = Literal["readers", "writers"]
Measure = Literal["mean_square", "norm", "relative", "range"]
Weights = Mapping[str, Tensor]
Threshold = float | Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class GroupEM:
    r"""A spike-and-slab group Gaussian prior, the EM that fits its inclusions, and the rule that removes groups.

    .. math::
        w_g \mid \gamma_g \sim \gamma_g N(0, v_1 I) + (1 - \gamma_g) N(0, v_0 I), \qquad
        \gamma_g \sim \mathrm{Bernoulli}(\pi), \qquad v_0 \ll v_1

    A group is what belongs to a node: by default the weights that read it (for an input or hidden node of a perceptron
    a column, for a channel all kernels that look at it), by ``side="writers"`` those that compute it. Biases and other
    vectors belong to no group.

    *E-step*: :math:`p_g = P(\gamma_g = 1 \mid w_g)`, for a group of n weights with mean square :math:`q_g`

    .. math:: \mathrm{logit}\, p_g = \mathrm{logit}\, \pi + \frac n2 [\log(v_0 / v_1) + q_g (1 / v_0 - 1 / v_1)];

    or with ``soft`` the method's threshold, :math:`p_g = 1[q_g \ge \text{soft}]`, a tuning parameter far below the
    point where the exact one is 1/2; of the norm of :math:`w_g`, or of the mean square over its average in the layer,
    where that is the measure.
    *M-step*: the weight decay :math:`p_g / (N v_1) + (1 - p_g) / (N v_0)`. Both are done again every epoch, and can be
    undone. *Removal* cannot: from the epoch ``warmup`` on, a node goes whose group has a mean square (or a norm, or a
    range, largest less smallest weight) below ``hard``. A norm is for networks whose groups differ much in size: the
    10 weights that read the last of three layers are each larger than the 400 that read the first. A relative measure
    is for networks with BatchNorm, in which the scale of a layer's weights means nothing.

    Source: Ke and Fan (2022), "On the optimization and pruning for Bayesian deep learning".

    Args:
        spike: Standard deviation :math:`\sqrt{v_0}` of the spike.
        hard: Nodes whose group measures less are removed; 0 removes none. One for all, or by the name of the group of
            nodes, of which those that are not named lose none.
        soft: Threshold of the E-step, for all or by name likewise; None for the exact one.
        warmup: Epochs before the first E-step; until then every group is in the slab.
        side: Which weights are a node's group.
        measure: What is compared with ``hard``, and with ``soft`` too unless it is a range: ``"relative"`` is the mean
            square over its average among the nodes of the group.

    Raises:
        ValueError: If a number is out of range or a name unknown.
    """

    spike: float = 0.1
    hard: Threshold = 1e-3
    soft: Threshold | None = None
    warmup: int = 50
    side: Side = "readers"
    measure: Measure = "mean_square"

    def __post_init__(self) -> None:
        check_whole("warmup", self.warmup, 0)
        check_reals({"spike": self.spike})
        for name in ("hard", "soft"):
            value = getattr(self, name)
            each = value if isinstance(value, Mapping) else {"": value}
            check_reals({}, optional={f"{name}[{key!r}]" if key else name: number for key, number in each.items()})
        if not (math.isfinite(self.spike) and self.spike > 0):
            raise ValueError(f"spike must be positive and finite, got {self.spike}: it is a standard deviation")
        for name in ("hard", "soft"):
            value = getattr(self, name)
            for number in value.values() if isinstance(value, Mapping) else [value]:
                if number is not None and not (math.isfinite(number) and number >= 0):
                    raise ValueError(f"{name} must be finite and not negative, got {value}")
        for name, known in (("side", get_args(Side)), ("measure", get_args(Measure))):
            check_choice(name, getattr(self, name), known)

    def check(self, groups: Sequence[NodeGroup]) -> None:
        """Refuses thresholds of groups of nodes that a network does not have.

        Args:
            groups: The network's.

        Raises:
            ValueError: If a threshold names another.
        """
        known = [group.name for group in groups]
        for name in ("hard", "soft"):
            value = getattr(self, name)
            unknown = sorted(set(value) - set(known)) if isinstance(value, Mapping) else []
            if unknown:
                raise ValueError(f"{name} must name groups of nodes ({', '.join(known)}), got {', '.join(unknown)}")

    @torch.no_grad()
    def inclusion(
        self, groups: Sequence[NodeGroup], weights: Weights, *, slab: float, prior: Mapping[str, float]
    ) -> dict[str, Tensor]:
        r"""Returns the E-step's :math:`p_g` of each node.

        Args:
            groups: The groups of nodes.
            weights: Parameter name -> value.
            slab: Standard deviation :math:`\sqrt{v_1}` of the slab.
            prior: Group of nodes -> :math:`\pi`.

        Returns:
            Group of nodes -> probabilities, shape ``(size,)``; 1 where a node has no weight on this side.

        Raises:
            ValueError: If the slab is not wider than the spike.
        """
        if not slab > self.spike:
            raise ValueError(f"spike must be narrower than the slab ({slab:g}), got {self.spike:g}")
        found = {}
        for group in groups:
            count, square = self._mean_square(group, weights)
            included = self._probability(group.name, square, count, slab, prior[group.name])
            found[group.name] = torch.where(count > 0, included, torch.ones_like(included))
        return found

    def _probability(self, group: str, square: Tensor, count: Tensor, slab: float, prior: float) -> Tensor:
        if self.soft is not None:
            return (self._size(count, square) >= _at(self.soft, group)).to(square)
        ratio = 2 * math.log(self.spike / slab)
        evidence = 0.5 * count * (ratio + square * (self.spike**-2 - slab**-2))
        return torch.sigmoid(evidence + math.log(prior) - math.log1p(-prior))

    @torch.no_grad()
    def weight_decays(
        self,
        groups: Sequence[NodeGroup],
        weights: Weights,
        inclusion: Mapping[str, Tensor],
        *,
        slab: float,
        num_data: int,
    ) -> dict[str, Tensor]:
        """Returns the M-step's weight decay of each parameter that groups lie in.

        Args:
            groups: The groups of nodes.
            weights: Parameter name -> value.
            inclusion: What the E-step returned.
            slab: Standard deviation of the slab.
            num_data: Number of training rows N.

        Returns:
            Parameter name -> weight decays, of a shape that broadcasts with the parameter's.
        """
        in_slab, in_spike = 1 / (num_data * slab**2), 1 / (num_data * self.spike**2)
        decays: dict[str, Tensor] = {}
        for group in groups:
            for axis, weight in self._members(group, weights):
                included = axis.spread(inclusion[group.name])  # 1 where there is no node of the group
                excess = _along(axis, (1 - included) * (in_spike - in_slab), weight)
                decays[axis.parameter] = decays.get(axis.parameter, in_slab) + excess
        return decays

    @torch.no_grad()
    def keep(self, groups: Sequence[NodeGroup], weights: Weights) -> dict[str, Tensor]:
        """Returns which nodes the hard rule leaves; the largest of each group of nodes always stays.

        Args:
            groups: The groups of nodes.
            weights: Parameter name -> value.

        Returns:
            Group of nodes -> mask, bool, shape ``(size,)``.
        """
        kept = {}
        for group in groups:
            count, measured = self._measured(group, weights)
            kept[group.name] = (measured >= _at(self.hard, group.name)) | (count == 0)
            kept[group.name][measured.argmax()] = True
        return kept

    def _members(self, group: NodeGroup, weights: Weights) -> Iterator[tuple[Axis, Tensor]]:
        """Yields the weights, of two dimensions or more, that a group's nodes have on the side that counts."""
        axes: tuple[Axis, ...] = getattr(group, self.side)
        for axis in axes:
            if axis.parameter in weights and weights[axis.parameter].dim() > 1:
                yield axis, weights[axis.parameter]

    def _mean_square(self, group: NodeGroup, weights: Weights) -> tuple[Tensor, Tensor]:
        """Returns the number of weights of each node, and their mean square."""
        like = next(iter(weights.values()))
        count, total = like.new_zeros(group.size + 1), like.new_zeros(group.size + 1)  # the last: what has no node
        for axis, weight in self._members(group, weights):
            squares = _rows(axis, weight).square()
            numbers = _numbers(axis, group.size)
            total.index_add_(0, numbers, squares.sum(1))
            count.index_add_(0, numbers, squares.new_full((len(squares),), squares.shape[1]))
        return count[:-1], total[:-1] / count[:-1].clamp(min=1)

    def _measured(self, group: NodeGroup, weights: Weights) -> tuple[Tensor, Tensor]:
        """Returns the number of weights of each node, and what is compared with ``hard``."""
        if self.measure == "range":
            return self._range(group, weights)
        count, square = self._mean_square(group, weights)
        return count, self._size(count, square)

    def _size(self, count: Tensor, square: Tensor) -> Tensor:
        """Returns what mean squares are by the measure; for a range, which is of the weights alone, they stay."""
        if self.measure == "norm":
            return (count * square).sqrt()
        if self.measure == "relative":
            average = square.sum() / (count > 0).sum().clamp(min=1)
            return square / average.clamp(min=torch.finfo(square.dtype).tiny)
        return square

    def _range(self, group: NodeGroup, weights: Weights) -> tuple[Tensor, Tensor]:
        """Returns the number of weights of each node, and their largest less their smallest."""
        count, _ = self._mean_square(group, weights)
        like = next(iter(weights.values()))
        high, low = like.new_full((group.size + 1,), -math.inf), like.new_full((group.size + 1,), math.inf)
        for axis, weight in self._members(group, weights):
            rows = _rows(axis, weight)
            numbers = _numbers(axis, group.size)
            high.scatter_reduce_(0, numbers, rows.amax(1), "amax")
            low.scatter_reduce_(0, numbers, rows.amin(1), "amin")
        return count, torch.where(count > 0, high[:-1] - low[:-1], torch.zeros_like(count))


def _at(threshold: Threshold, group: str) -> float:
    """The threshold of a group of nodes."""
    return threshold.get(group, 0.0) if isinstance(threshold, Mapping) else threshold


def _rows(axis: Axis, weight: Tensor) -> Tensor:
    """The weights with one row a position along an axis."""
    return weight.movedim(axis.dim, 0).flatten(1)


def _numbers(axis: Axis, size: int) -> Tensor:
    """The number of the node at each position, and the number after the last where there is none."""
    return torch.where(axis.index < 0, size, axis.index)


def _along(axis: Axis, values: Tensor, weight: Tensor) -> Tensor:
    """Values a position, in a shape that broadcasts with the weight."""
    return values.reshape([-1 if dim == axis.dim else 1 for dim in range(weight.dim())])
