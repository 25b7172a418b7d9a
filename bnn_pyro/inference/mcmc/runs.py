"""Runs of Markov chains that go on a transition at a time, and can stop after any: one by one, or as one batch."""

from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bnn_pyro.inference.generators import random_state, reseed, set_random_state
from bnn_pyro.inference.mcmc.chees import TARGET_ACCEPT, ChEES
from bnn_pyro.inference.mcmc.exact_gates import ExactSpikes
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw
from bnn_pyro.inference.mcmc.pyro_chain import PyroChain, Transition


class Run(Protocol):
    """Markov chains on their way. They draw from the global generators, whose states belong to theirs.

    Attributes:
        done: Transitions so far; those of a batch count once.
        total: How many it takes.
    """

    done: int
    total: int

    def advance(self) -> None:
        """Makes the next transition."""

    def note(self) -> dict[str, Any]:
        """Returns what the progress bar shows beside it."""

    def state_dict(self) -> dict[str, Any]:
        """Returns tensors and plain values that the rest of the run depends on, and what it has kept so far."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another run of the same plan was; sets the global generators.

        Args:
            state: Its state.
        """

    def result(self) -> dict[str, Tensor]:
        """Returns what the finished run has kept.

        Returns:
            ``vectors``, shape ``(chains, draws, n)``; ``energy`` (the potential one), ``total_energy``, ``acceptance``,
            ``diverged`` and ``leapfrogs``, ``(chains, draws)``; ``step_size``, ``(chains,)``; ``inverse_mass``,
            ``(chains, n)`` or ``(chains, n, n)``.
        """


def begin(plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None = None) -> Run:
    """Returns the run of a plan, at its beginning.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.
        pseudo_prior: For exact gates returns a draw of the slabs, site -> value; None for the prior's.
    """
    if plan.kernel == "chees":
        return Together(plan, _batch(plan, potential, start, pseudo_prior))
    return InTurn(plan, potential, start)


@dataclass
class Track:
    """What has been kept of a chain, or of a batch of them: every so manyth position, and how it was reached.

    Args:
        thinning: Transitions a draw.
    """

    thinning: int
    kept: dict[str, list[Tensor]] = field(default_factory=dict)
    pending: list[dict[str, Tensor]] = field(default_factory=list)

    def add(self, position: Tensor, energy: Tensor, transition: Transition) -> None:
        """Takes note of a transition.

        Args:
            position: Where it led.
            energy: The potential energy there.
            transition: How it went.
        """
        self.pending.append({f.name: getattr(transition, f.name) for f in fields(transition)})
        if len(self.pending) < self.thinning:
            return
        parts = {name: torch.stack([each[name] for each in self.pending]) for name in self.pending[0]}
        draw = {
            "vectors": position,
            "energy": energy,
            "total_energy": parts["total_energy"][-1],
            "acceptance": parts["acceptance"].mean(0),
            "diverged": parts["diverged"].sum(0),
            "leapfrogs": parts["leapfrogs"].sum(0),
        }
        for name, value in draw.items():
            self.kept.setdefault(name, []).append(value)
        self.pending.clear()

    def stacked(self, dim: int = 0) -> dict[str, Tensor]:
        """Returns what has been kept, with a dimension for the draws.

        Args:
            dim: Where to put it.
        """
        return {name: torch.stack(values, dim) for name, values in self.kept.items()}

    def state_dict(self) -> dict[str, Any]:
        """Returns what has been kept as tensors."""
        return {"kept": self.stacked(), "pending": list(self.pending)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what another one has kept.

        Args:
            state: Its state.
        """
        self.kept = {name: list(values) for name, values in state["kept"].items()}
        self.pending = list(state["pending"])


# ---- all chains as one batch -----------------------------------------------------------------------------------------
class Together:
    """All chains as one batch, by ChEES.

    Args:
        plan: The plan.
        sampler: What moves them.

    Attributes:
        done: Transitions of the batch so far.
        total: How many it takes.
    """

    def __init__(self, plan: SamplingPlan, sampler: ChEES) -> None:
        self.plan, self.sampler, self.device = plan, sampler, sampler.position.device
        self.done, self.total = 0, plan.transitions
        self.track, self._last = Track(plan.thinning), torch.zeros(())

    def advance(self) -> None:
        """Makes a transition of all chains."""
        self.done += 1
        sampler = self.sampler
        if self.done <= self.plan.warmup:
            self._last = sampler.adapt(self.done, self.plan.warmup).acceptance
            return
        move = sampler.transition()
        leapfrogs = torch.full_like(move.diverged, move.leapfrogs, dtype=torch.int64)
        self._last = move.acceptance
        transition = Transition(move.acceptance, move.diverged, leapfrogs, move.total_energy)
        self.track.add(sampler.position, sampler.energy, transition)

    def note(self) -> dict[str, Any]:
        """Returns step size and acceptance probability."""
        return {"step size": f"{self.sampler.step_size:.2e}", "accept": f"{float(self._last.mean()):.2f}"}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the batch."""
        state = {"sampler": self.sampler.state_dict(), "track": self.track.state_dict()}
        return {"done": self.done, "random": random_state(self.device), **state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another batch was.

        Args:
            state: Its state.
        """
        self.done = state["done"]
        self.sampler.load_state_dict(_moved(state["sampler"], self.device))
        self.track.load_state_dict(_moved(state["track"], self.device))
        set_random_state(state["random"], self.device)

    def result(self) -> dict[str, Tensor]:
        """Returns what has been kept."""
        chains, scale = self.plan.chains, self.sampler.scale
        return {
            **self.track.stacked(1),
            "step_size": scale.new_full((chains,), self.sampler.step_size),
            "inverse_mass": scale.square().repeat(chains, 1),
        }


def _batch(plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None) -> ChEES:
    """Returns what moves a batch of chains."""
    target = TARGET_ACCEPT if plan.target_accept is None else plan.target_accept
    options: Any = {"target_accept": target, "max_leapfrogs": 2**plan.max_tree_depth}
    if isinstance(potential, SpikePotential):
        return ExactSpikes(potential, plan.chains, start=start, pseudo_prior=pseudo_prior, **options)
    return ChEES(potential, potential.starts(plan.chains) if start is None else start.to(potential.like), **options)


# ---- one chain after another -----------------------------------------------------------------------------------------
class InTurn:
    """Pyro's kernels, one chain after another, each from a seed of its own.

    Args:
        plan: The plan.
        potential: The potential energy.
        start: Starting points, shape ``(chains, n)``; None draws them.

    Attributes:
        done: Transitions of all chains so far.
        total: How many it takes.
    """

    def __init__(self, plan: SamplingPlan, potential: Potential, start: Tensor | None) -> None:
        self.plan, self.potential, self.start = plan, potential, start
        self.done, self.total = 0, plan.chains * plan.transitions
        self.seeds: list[int] = torch.randint(2**62, (plan.chains,)).tolist()
        self.finished: list[dict[str, Tensor]] = []
        self.chain: PyroChain | None = None
        self.track = Track(plan.thinning)

    def advance(self) -> None:
        """Makes a transition of the chain whose turn it is."""
        chain = self.chain = self.chain or self._begun()
        transition = chain.advance()
        self.done += 1
        number = self.done - len(self.finished) * self.plan.transitions
        if number > self.plan.warmup:
            self.track.add(chain.position, chain.energy, transition)
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

    def note(self) -> dict[str, Any]:
        """Returns the chain's number, its step size and its mean acceptance probability."""
        shown = {"chain": f"{min(len(self.finished) + 1, self.plan.chains)}/{self.plan.chains}"}
        if self.chain is None:
            return shown
        accept = self.chain.kernel._mean_accept_prob
        return {**shown, "step size": f"{self.chain.step_size:.2e}", "accept": f"{accept:.2f}"}

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the run."""
        return {
            "done": self.done,
            "random": random_state(self.potential.like.device),
            "seeds": list(self.seeds),
            "finished": list(self.finished),
            "chain": None if self.chain is None else self.chain.state_dict(),
            "track": self.track.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another run was.

        Args:
            state: Its state.
        """
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
        """Returns what has been kept."""
        return {name: torch.stack([chain[name] for chain in self.finished]) for name in self.finished[0]}


def _moved(state: Any, device: torch.device) -> Any:
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), state)
