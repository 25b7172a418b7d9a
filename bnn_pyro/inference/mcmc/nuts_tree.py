"""The trees of Pyro's NUTS on one flat vector: the same trees, without a hundred small operations a leaf."""

import math
from dataclasses import dataclass

import torch
from pyro.infer.mcmc.nuts import NUTS, _TreeInfo
from torch import Tensor


@dataclass(frozen=True, eq=False, slots=True)
class _Leaf:
    """Where a trajectory ends: position, momentum in coordinates of unit mass, and the gradient there."""

    position: Tensor
    momentum: Tensor
    gradient: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class _Tree:
    """A stretch of a trajectory: its first and last leaf in the order of the walk, and the proposal drawn from it."""

    first: _Leaf
    last: _Leaf
    proposal: _Leaf
    value: Tensor  # potential energy of the proposal
    total: Tensor  # sum of the momenta
    weight: float  # logarithm
    turning: bool
    diverging: bool
    acceptance: float  # sum over the leaves
    leaves: int


class FlatTrees(NUTS):
    """Pyro's NUTS whose trees are built on a traced potential, for a diagonal mass.

    Weights, acceptance probabilities and the choice between two halves are numbers instead of tensors, a leaf is one
    call of the leapfrog step of the :class:`~bnn_pyro.inference.mcmc.potential.potential.Potential`. All else, the
    adaptation too, is Pyro's; so is the tree where the mass matrix is dense. The ``potential_fn`` has the attributes
    ``potential`` and ``calls``, which counts the leapfrog steps, and its argument one site.
    """

    def _build_tree(
        self,
        z: dict[str, Tensor],
        r: dict[str, Tensor],
        z_grads: dict[str, Tensor],
        log_slice: Tensor,
        direction: int,
        tree_depth: int,
        energy_current: Tensor,
    ) -> _TreeInfo:
        ((sites, inverse),) = self.inverse_mass_matrix.items()
        if inverse.dim() != 1:
            found: _TreeInfo = super()._build_tree(  # type: ignore[no-untyped-call]
                z, r, z_grads, log_slice, direction, tree_depth, energy_current
            )
            return found
        (site,), sd = sites, inverse.sqrt()
        with torch.no_grad():
            start = _Leaf(z[site].detach(), r[site] * sd, z_grads[site])
            stride = (self.step_size if direction == 1 else -self.step_size) * sd
            tree = self._grown(start, stride, tree_depth, float(energy_current))
            return _as_pyros(tree, direction, site, sites, sd, energy_current)

    def _grown(self, start: _Leaf, stride: Tensor, depth: int, energy: float) -> _Tree:
        """Walks on from a leaf."""
        if depth == 0:
            return self._leaf(start, stride, energy)
        one = self._grown(start, stride, depth - 1, energy)
        if one.turning or one.diverging:
            return one
        return _joined(one, self._grown(one.last, stride, depth - 1, energy))

    def _leaf(self, start: _Leaf, stride: Tensor, energy: float) -> _Tree:
        self.potential_fn.calls += 1
        position, momentum, value, gradient = self.potential_fn.potential.leapfrog(
            start.position, start.momentum, start.gradient, stride
        )
        error = float(value + momentum.dot(momentum) / 2) - energy
        error = math.inf if math.isnan(error) else error
        leaf = _Leaf(position, momentum, gradient)
        acceptance = math.exp(min(-error, 0.0))
        return _Tree(leaf, leaf, leaf, value, momentum, -error, False, error > self._max_sliced_energy, acceptance, 1)


def _joined(one: _Tree, two: _Tree) -> _Tree:
    """Returns the tree of two that follow each other; the proposal is drawn from both by their weights."""
    weight = _logaddexp(one.weight, two.weight)
    chosen = two if float(torch.rand((), device="cpu")) < math.exp(min(two.weight - weight, 0.0)) else one
    total = one.total + two.total
    return _Tree(
        first=one.first,
        last=two.last,
        proposal=chosen.proposal,
        value=chosen.value,
        total=total,
        weight=weight,
        turning=two.turning or _is_turning(one.first.momentum, two.last.momentum, total),
        diverging=two.diverging,
        acceptance=one.acceptance + two.acceptance,
        leaves=one.leaves + two.leaves,
    )


def _logaddexp(one: float, two: float) -> float:
    high, low = max(one, two), min(one, two)
    return high if high == -math.inf else high + math.log1p(math.exp(low - high))


def _is_turning(first: Tensor, last: Tensor, total: Tensor) -> bool:
    """Whether the ends of a trajectory no longer move away from each other."""
    rho = total - (first + last) / 2
    return float(first.dot(rho)) <= 0 or float(last.dot(rho)) <= 0


def _as_pyros(tree: _Tree, direction: int, site: str, sites: tuple[str, ...], sd: Tensor, like: Tensor) -> _TreeInfo:
    """Returns a tree as Pyro keeps it: dictionaries of sites, left and right."""
    left, right = (tree.first, tree.last) if direction == 1 else (tree.last, tree.first)
    ends = [
        part
        for leaf in (left, right)
        for part in (
            {site: leaf.position},
            {site: leaf.momentum / sd},
            {sites: leaf.momentum},
            {site: leaf.gradient},
        )
    ]
    parts = [
        *ends,
        {site: tree.proposal.position},
        tree.value,
        {site: tree.proposal.gradient},
        {sites: tree.total},
        like.new_tensor(tree.weight),
        tree.turning,
        tree.diverging,
        like.new_tensor(tree.acceptance),
        tree.leaves,
    ]
    return _TreeInfo._make(parts)
