"""AutoSpikeSlabMultivariate: the spike-and-slab variational family with correlations between weights."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, cast

import torch
from pyro.nn import PyroParam
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor, nn
from torch.distributions import Distribution, Normal

from guides.correlated import CorrelatedSlab
from guides.divergences import unit_divergence
from guides.handlers import Upstream
from guides.program import AutoProgram
from guides.sites import Hints, align_gate
from guides.spike_slab import AutoSpikeSlab

_FACTOR = "factor_unconstrained"  # the name of its parameter
_MOST_WEIGHTS = 4_000  # 64 MB for each n x n matrix of a step


class AutoSpikeSlabMultivariate(AutoSpikeSlab):
    r"""Answers all slabs by one multivariate Normal whose noise is gated.

    In units of the prior :math:`N(m, r^2)` of each weight, with :math:`z_i` the product of its gates,

    .. math:: w_i = m_i + r_i \Big(\mu_i + \sigma_i \sum_{j \le i} C_{ij} z_j e_j\Big), \qquad e_j \sim N(0, 1),
        \quad C_{ii} = 1,

    for open weights; a closed one has its prior. Given the gates, open weights are :math:`N(\mu_o, L_o L_o^\top)` with
    the open rows and columns of :math:`L = \operatorname{diag}(\sigma) C`, whose determinant is the product of its
    diagonal. As gates are independent, the expected divergence is in closed form,

    .. math:: KL = \sum_i \gamma_i \big[\tfrac12 (\mu_i^2 - 1) - \log \sigma_i\big]
        + \tfrac12 \sum_i \sigma_i^2 \sum_{j \le i} \gamma_{ij} C_{ij}^2,

    where :math:`\gamma_i` is the probability that all gates of i are open and :math:`\gamma_{ij}` that all of i and j
    are. So the bound is that of the true spike-and-slab model, as for :class:`~guides.AutoSpikeSlab`, which is the
    limit of a diagonal C; with no gates it is the family of Pyro's ``AutoMultivariateNormal``.

    It is meant for networks of up to some two thousand weights, as a step takes several n x n matrices: for what a fit
    of :class:`~guides.AutoSpikeSlab` has left, whose posterior :meth:`start_from` takes over. Start from a fit at a
    small KL weight, which leaves nodes that may yet close.

    Options and errors are those of :class:`~guides.AutoSpikeSlab`, but that ``gate_gradient="disarm"``, which draws
    gates twice for the same weights, is refused, and so are more than 4,000 weights and slabs in a plate that
    subsamples. :func:`~bnn_pyro.pruning.shrink.shrink` does not know it.
    """

    factor: Tensor
    reads: Tensor  # which gates each weight has, 1 or 0
    numbers: Tensor  # the same by their numbers
    can_shrink = False

    # ---- construction ------------------------------------------------------------------------------------------------

    def _setup(
        self,
        init_loc_fn: Callable[[Any], Tensor],
        temperature: float | None,
        args: tuple[object, ...],
        kwargs: dict[str, object],
    ) -> None:
        if self.gate_gradient == "disarm":
            raise ValueError("gate_gradient must not be 'disarm', as correlated slabs depend on the gates drawn")
        self._starts: dict[str, int] = {}  # where the gates of a site, or the weights of a slab, are among all
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._rows: list[Tensor] = []
        super()._setup(init_loc_fn, temperature, args, kwargs)
        weights, gates = self._count("slab"), self._count("gate")
        if weights > _MOST_WEIGHTS:
            raise ValueError(f"model must have at most {_MOST_WEIGHTS:,} weights with a slab, got {weights:,}")
        like = next(self.parameters())
        zeros = like.new_zeros(weights, weights)
        if weights > 1:
            self.factor = cast(Tensor, PyroParam(zeros, event_dim=2))
        else:  # nothing to be correlated with
            self.register_buffer("factor", zeros)
        reads = [nn.functional.pad(rows, (0, gates - rows.shape[1])).to(like) for rows in self._rows]
        self.register_buffer("reads", torch.cat(reads) if reads else like.new_zeros(0, gates))
        self.register_buffer("numbers", _numbers(self.reads))
        self._rows = []

    def _count(self, kind: str) -> int:
        """Returns how many gates, or weights of slabs, the sites so far have."""
        return sum(torch.Size(shape).numel() for name, shape in self._shapes.items() if self.kinds[name] == kind)

    def initialise_site(
        self, name: str, prior: Distribution, infer: Hints, value: Tensor, frames: Sequence[CondIndepStackFrame]
    ) -> None:
        """Makes the parameters of one site, and notes which gates its weights have."""
        super().initialise_site(name, prior, infer, value, frames)
        kind = self.kinds[name]
        if kind not in ("gate", "slab"):
            return
        if any(frame.size != (frame.full_size or frame.size) for frame in frames):
            raise ValueError(f"site {name!r} must not lie in a plate that subsamples, as all weights are correlated")
        if kind == "slab":
            hints = infer.get("gates", {}) if self.gates == "hard" else {}
            self._rows.append(self._gates_of(hints, prior, value))
        self._starts[name], self._shapes[name] = self._count(kind), tuple(value.shape)

    def _gates_of(self, hints: Hints, prior: Distribution, value: Tensor) -> Tensor:
        """Returns which of the gates so far each weight has, 1 or 0, shape ``(weights, gates)``."""
        gates = self._count("gate")
        found = value.new_zeros(value.numel(), gates + 1)  # one more for positions without a gate
        for name, hint in hints.items():
            if self.kinds.get(name) != "gate":
                continue  # it is refused when the site is answered
            shape = self._shapes[name]
            numbers = self._starts[name] + torch.arange(torch.Size(shape).numel(), device=value.device).view(shape)
            for one in hint if isinstance(hint, list) else [hint]:
                aligned = align_gate(numbers, one, event_dim=len(prior.event_shape), absent=gates)
                found.scatter_(1, aligned.expand(value.shape).reshape(-1, 1), 1.0)
        return found[:, :gates]

    def start_from(self, guide: AutoProgram) -> None:
        """Take over the means, standard deviations and gates of another guide; correlations begin at 0.

        Args:
            guide: A guide of the same program, such as a fitted :class:`~guides.AutoSpikeSlab`.

        Raises:
            TypeError: If it is none of our guides.
            ValueError: If it has not the same sites.
        """
        if not isinstance(guide, AutoProgram):
            raise TypeError(f"guide must be a guide such as AutoSpikeSlab, got {type(guide).__name__}")
        theirs = dict(guide.named_parameters())
        ours = {name: parameter for name, parameter in self.named_parameters() if name != _FACTOR}
        for name, parameter in ours.items():
            if name not in theirs or theirs[name].shape != parameter.shape:
                got = tuple(theirs[name].shape) if name in theirs else None
                raise ValueError(f"guide must have {name!r} of shape {tuple(parameter.shape)}, got {got}")
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(theirs[name]) if name in ours else parameter.zero_()

    # ---- answering ---------------------------------------------------------------------------------------------------

    def _slab(self, name: str, prior: Normal, weight: Tensor | None, upstream: Upstream) -> CorrelatedSlab:
        loc, scale = self._parameters_of(name)
        start, end = self._starts[name], self._starts[name] + loc.numel()
        factor = self.factor[start:end, :end].tril(start - 1)
        before = self._joined("slab", upstream.noise)
        upstream.noise[name] = torch.zeros_like(loc)  # until it is drawn: none at the medians
        probabilities = self._joined("gate", upstream.probabilities)
        spread = _pairs_open(probabilities, self.reads[:end, : len(probabilities)], start) * factor.square()
        own = unit_divergence(loc, scale) if weight is None else weight * unit_divergence(loc, scale)
        gates = nn.functional.pad(self._joined("gate", upstream.values), (0, self.reads.shape[1] + 1), value=1.0)
        factors = [gates[..., number] for number in self.numbers[start:end].unbind(-1)]
        center = torch.addcmul(prior.loc, prior.scale, loc)
        return CorrelatedSlab(
            center,
            (prior.scale * scale).expand_as(center),
            prior,
            shape=loc.shape,
            factor=factor,
            before=before,
            gates=reduce(torch.mul, factors),
            divergence=own + 0.5 * scale.square() * spread.sum(-1).view(loc.shape),
            keep=lambda noise: upstream.noise.__setitem__(name, noise.reshape(*noise.shape[:-1], *loc.shape)),
        )

    def _joined(self, kind: str, values: Mapping[str, Tensor]) -> Tensor:
        """Returns what the sites of a kind have so far in one vector, shape ``(*batch, entries)``."""
        parts = []
        for name in (name for name in values if self.kinds[name] == kind):
            batch = values[name].shape[: values[name].dim() - len(self._shapes[name])]
            parts.append(values[name].reshape(*batch, -1))
        return torch.cat(parts, -1) if parts else self.reads.new_zeros(0)

    # ---- parameters --------------------------------------------------------------------------------------------------

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns the guide's parameters by role; the factor has the learning rate of the standard deviations."""
        groups = super().parameter_groups()
        groups["slab_scales"] += [parameter for name, parameter in self.named_parameters() if name == _FACTOR]
        return groups

    def named_site_parameters(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Yields (role, site, parameter) for each parameter that belongs to one site."""
        return (found for found in super().named_site_parameters() if found[0] != "factor")


def _numbers(reads: Tensor) -> Tensor:
    """Returns the numbers of the gates of each weight, filled up with how many gates there are."""
    most = max(1, int(reads.sum(-1).max())) if reads.numel() else 1
    numbers = torch.arange(reads.shape[1], device=reads.device).expand(reads.shape)
    found = torch.where(reads > 0, numbers, reads.shape[1]).sort(-1).values
    return nn.functional.pad(found, (0, most), value=reads.shape[1])[:, :most]


def _pairs_open(probabilities: Tensor, reads: Tensor, start: int) -> Tensor:
    r"""Returns the probability :math:`\gamma_{ij}` that all gates of two weights are open.

    A gate that both have counts once. It is computed from logarithms, as products of the gates that either has.

    Args:
        probabilities: Of each gate, shape ``(gates,)``.
        reads: Which gates each weight has, shape ``(weights, gates)``.
        start: The first of the weights i.

    Returns:
        Shape ``(weights - start, weights)``.
    """
    logs = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()
    single = reads @ logs
    shared = (reads[start:] * logs) @ reads.T
    found: Tensor = (single[start:].unsqueeze(-1) + single - shared).exp()
    return found
