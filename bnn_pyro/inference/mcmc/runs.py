"""Runs of Markov chains, which advance a transition at a time and can stop after any: one by one, or as one batch."""

from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bnn_pyro.fields import COUNTS, STATE, STATES, WHOLE, check_fields
from bnn_pyro.inference.generators import random_state, reseed, set_random_state
from bnn_pyro.inference.mcmc.chees import chees_batch
from bnn_pyro.inference.mcmc.exact_gates_warmup import exact_gates_batch
from bnn_pyro.inference.mcmc.kernel import BatchKernel, State, WarmUp
from bnn_pyro.inference.mcmc.mams import mams_batch
from bnn_pyro.inference.mcmc.mclmc_warmup import mclmc_batch
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw
from bnn_pyro.inference.mcmc.pyro_chain import PyroChain
from bnn_pyro.inference.mcmc.track import KEPT, Track

_Nest = TypeVar("_Nest")
_MOST_ROUNDS = 32  # each of them twice as long as the one before
_LONGER = 4  # times the plan's warm-up, that it takes at most


MakeBatch = Callable[[SamplingPlan, Potential, Tensor | None, Draw | None], tuple[BatchKernel, WarmUp]]

BATCHES: Mapping[tuple[str, str], MakeBatch] = {
    ("chees", "relaxed"): chees_batch,
    ("chees", "exact"): exact_gates_batch,
    ("mclmc", "relaxed"): mclmc_batch,
    ("mams", "relaxed"): mams_batch,
}
"""The table of kernels that move all chains as one batch: kernel and gates of a plan -> what makes both of its parts.

To add a kernel write its :class:`~bnn_pyro.inference.mcmc.kernel.BatchKernel` and its
:class:`~bnn_pyro.inference.mcmc.kernel.WarmUp`, a file each, and name what makes them here.
"""


class Run(Protocol):
    """Markov chains on their way. They draw from the global generators, whose states belong to theirs.

    Attributes:
        done: Transitions so far; those of a batch count once.
        total: How many it takes.
        track: What has been kept.
    """

    done: int
    total: int
    track: Track

    def advance(self) -> None:
        """Make the next transition."""

    def note(self) -> dict[str, str]:
        """Return what the progress bar shows beside it."""

    def state_dict(self) -> State:
        """Return tensors and plain values that the rest of the run depends on, and what it has kept so far."""

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another run of the same plan; sets the global generators.

        Args:
            state: Its state.
        """

    def result(self) -> dict[str, Tensor]:
        """Return what the finished run has kept.

        Returns:
            ``vectors``, shape ``(chains, draws, n)``; ``energy`` (the potential one), ``total_energy``, ``acceptance``,
            ``diverged`` and ``leapfrogs``, ``(chains, draws)``; ``step_size``, ``(chains,)``; ``inverse_mass``,
            ``(chains, n)`` or ``(chains, n, n)``.
        """


def begin(plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None = None) -> Run:
    """Return the run of a plan, at its beginning.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.
        pseudo_prior: For exact gates returns a draw of the slabs, site -> value; None for the prior's.
    """
    make_batch = BATCHES.get((plan.kernel, plan.gates))
    if make_batch is None:
        return SequentialRun(plan, potential, start)
    return BatchRun(plan, *make_batch(plan, potential, start, pseudo_prior))


# ---- all chains as one batch -----------------------------------------------------------------------------------------
class BatchRun:
    """All chains as one batch, which moves at once.

    Args:
        plan: The plan.
        kernel: What moves them.
        warmup: What adapts the kernel in the first transitions.

    Attributes:
        done: Transitions of the batch so far.
        total: How many it takes.
        rounds: In how many rounds: one, and one for each time that it was extended.
        warmup_transitions: How many transitions adapt the kernel.
        may_adapt_longer: Whether the warm-up goes on where it has not adapted.
        track: What has been kept.
    """

    def __init__(self, plan: SamplingPlan, kernel: BatchKernel, warmup: WarmUp) -> None:
        self.plan, self.kernel, self.warmup, self.device = plan, kernel, warmup, kernel.position.device
        self.done, self.total, self.rounds, self.warmup_transitions = 0, plan.transitions, 1, plan.warmup
        self.may_adapt_longer, self._begun = True, 0
        self.track, self._last = Track(plan.thinning), torch.zeros((), device="cpu")

    @property
    def draws(self) -> int:
        """How many draws of each chain have been kept."""
        return len(self.track.kept.get("energy", ()))

    @property
    def shortfall(self) -> str:
        """What says that the warm-up has not adapted; empty where nothing does."""
        return self.warmup.shortfall

    def extend(self) -> None:
        """Let the chains make as many transitions more as they have made after the warm-up."""
        self.total += self.total - self.warmup_transitions
        self.rounds += 1

    def shorten(self, factor: float) -> None:
        """Make fewer transitions, in the warm-up and after it; to be called during the warm-up.

        Args:
            factor: What their number is multiplied by, from 0 to 1; there remain one of the warm-up, and one per draw.
        """
        self.may_adapt_longer = False
        thinning = max(1, int(self.track.thinning * factor))
        self.warmup_transitions = max(self.done + 1, int(self.warmup_transitions * factor))
        self.track = Track(thinning)
        self.total = self.warmup_transitions + thinning * self.plan.draws

    def advance(self) -> None:
        """Make a transition of all chains."""
        self.done += 1
        if self.done <= self.warmup_transitions:
            move = self.warmup.adapt(self.done - self._begun, self.warmup_transitions - self._begun)
            self._adapt_longer()
        else:
            move = self.kernel.transition()
            self.track.add(self.kernel.position, self.kernel.energy, move)
        self._last = move.acceptance

    def _adapt_longer(self) -> None:
        """Double a warm-up that has ended without having adapted, twice at most."""
        most = _LONGER * self.plan.warmup
        is_due = self.done == self.warmup_transitions < most and self.may_adapt_longer
        if is_due and self.warmup.shortfall:
            self._begun = self.done
            self.warmup_transitions += self.done
            self.total += self.done

    def note(self) -> dict[str, str]:
        """Return step size and acceptance probability."""
        return {"step size": f"{self.kernel.step_size:.2e}", "accept": f"{float(self._last.mean()):.2f}"}

    def state_dict(self) -> State:
        """Return the state of the batch."""
        return {
            "done": self.done,
            "length": [self.total, self.rounds, self.warmup_transitions, self.track.thinning],
            "begun": [self._begun, self.may_adapt_longer],
            "random": random_state(self.device),
            "kernel": self.kernel.state_dict(),
            "warmup": self.warmup.state_dict(),
            "track": self.track.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another batch.

        Args:
            state: Its state.
        """
        check_fields(state, {"done": WHOLE, "random": STATE}, "the state of the run")
        self.done = state["done"]
        if "length" in state:  # which older files lack, whose runs were as long as planned
            check_fields(state, {"length": COUNTS}, "the state of the run")
            self.total, self.rounds, self.warmup_transitions, self.track.thinning = state["length"]
        most = self.plan.transitions + (_LONGER - 1) * self.plan.warmup
        if self.rounds > _MOST_ROUNDS or not self.done <= self.total <= most << (self.rounds - 1):
            raise ValueError(f"done and length must be those of a run of the plan, got {self.done} of {self.total}")
        self._begun, self.may_adapt_longer = state.get("begun", [0, False])
        self.kernel.load_state_dict(_moved(state["kernel"], self.device))
        self.warmup.load_state_dict(_moved(state["warmup"], self.device))
        self.track.load_state_dict(_moved(state["track"], self.device))
        set_random_state(state["random"], self.device)

    def result(self) -> dict[str, Tensor]:
        """Return what has been kept; of a run that was extended the draws of its last half, evenly thinned."""
        chains, scale, draws = self.plan.chains, self.kernel.scale, self.plan.draws
        return {
            **{name: _last_half(value, draws) for name, value in self.track.stacked(1).items()},
            "step_size": scale.new_full((chains,), self.kernel.step_size),
            "inverse_mass": _covariances(scale, chains),
        }


def _covariances(scale: Tensor, chains: int) -> Tensor:
    """Return the variances that a kernel's scale stands for, ``(chains, n)``, or covariances, ``(chains, n, n)``."""
    if scale.dim() == 1:
        return scale.square().repeat(chains, 1)
    each = scale.movedim(-1, 0)
    return each @ each.mT


def _last_half(values: Tensor, draws: int) -> Tensor:
    """Return draws of the last half, of shape ``(chains, more draws, ...)``; all where there are no more."""
    count = values.shape[1]
    if count <= draws:
        return values
    spaced = torch.linspace(min(count // 2, count - draws), count - 1, draws, dtype=torch.float64, device="cpu")
    return values[:, spaced.round().long().to(values.device)]


# ---- one chain after another -----------------------------------------------------------------------------------------
class SequentialRun:
    """Pyro's kernels, one chain after another, each from a seed of its own.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.

    Attributes:
        done: Transitions of all chains so far.
        total: How many it takes.
        track: What has been kept of the chain whose turn it is.
    """

    def __init__(self, plan: SamplingPlan, potential: Potential, start: Tensor | None) -> None:
        self.plan, self.potential, self.start = plan, potential, start
        self.done, self.total = 0, plan.chains * plan.transitions
        self.seeds: list[int] = torch.randint(2**62, (plan.chains,), device="cpu").tolist()
        self.finished: list[dict[str, Tensor]] = []
        self.chain: PyroChain | None = None
        self.track = Track(plan.thinning)

    def advance(self) -> None:
        """Make a transition of the chain whose turn it is."""
        chain = self.chain = self.chain or self._begun()
        move = chain.advance()
        self.done += 1
        number = self.done - len(self.finished) * self.plan.transitions
        if number > self.plan.warmup:
            self.track.add(chain.position, chain.energy, move)
        if number == self.plan.transitions:
            adapted = {"step_size": chain.energy.new_tensor(chain.step_size), "inverse_mass": chain.inverse_mass}
            self.finished.append({**self.track.stacked(), **adapted})
            self.chain, self.track = None, Track(self.plan.thinning)

    def _begun(self) -> PyroChain:
        number = len(self.finished)
        reseed(self.seeds[number], self.potential.like.device)
        if self.start is None:
            return self._chain(self.potential.starts(1)[0])
        return self._chain(self.start[number].to(self.potential.like))

    def _chain(self, start: Tensor) -> PyroChain:
        plan = self.plan
        return PyroChain(
            self.potential,
            start,
            kernel=plan.kernel,
            warmup=plan.warmup,
            target_accept=0.8 if plan.target_accept is None else plan.target_accept,
            dense_mass=plan.dense_mass,
            max_tree_depth=plan.max_tree_depth,
            trajectory_length=plan.trajectory_length,
        )

    def note(self) -> dict[str, str]:
        """Return the chain's number, its step size and its mean acceptance probability."""
        shown = {"chain": f"{min(len(self.finished) + 1, self.plan.chains)}/{self.plan.chains}"}
        if self.chain is None:
            return shown
        accept = self.chain.kernel._mean_accept_prob
        return {**shown, "step size": f"{self.chain.step_size:.2e}", "accept": f"{accept:.2f}"}

    def state_dict(self) -> State:
        """Return the state of the run."""
        return {
            "done": self.done,
            "random": random_state(self.potential.like.device),
            "seeds": list(self.seeds),
            "finished": list(self.finished),
            "chain": None if self.chain is None else self.chain.state_dict(),
            "track": self.track.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another run.

        Args:
            state: Its state.
        """
        check_fields(state, {"done": WHOLE, "random": STATE, "finished": STATES}, "the state of the run")
        shape = (self.plan.draws, self.potential.size)
        names = KEPT | {"step_size", "inverse_mass"}
        if any(chain.keys() != names or chain["vectors"].shape != shape for chain in state["finished"]):
            raise ValueError(f"'finished' in the state of the run must have chains of shape {shape}, with their names")
        device = self.potential.like.device
        self.done, self.seeds = state["done"], list(state["seeds"])
        self.finished = _moved(state["finished"], device)
        self.track.load_state_dict(_moved(state["track"], device))
        self.chain = None
        if state["chain"] is not None:
            self.chain = self._chain(state["chain"]["position"].to(device))
            self.chain.load_state_dict(state["chain"])
        set_random_state(state["random"], device)

    def result(self) -> dict[str, Tensor]:
        """Return what has been kept."""
        return {name: torch.stack([chain[name] for chain in self.finished]) for name in self.finished[0]}


def _moved(state: _Nest, device: torch.device) -> _Nest:
    moved: _Nest = tree_map_only(Tensor, lambda tensor: tensor.to(device), state)
    return moved
