"""StepSizeTuning: the step size of a batch of chains, adapted to an acceptance probability by dual averaging."""

import math

import torch
from pyro.ops.dual_averaging import DualAveraging
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import State

_RECENT = 0.9  # weight of what a chain's acceptance was so far against that of a transition
_DIVERGED = 10.0  # by how much acceptance counts as lower, for the share of the chains that diverge


class StepSizeTuning:
    """Adapts a step size until the harmonic mean over chains of what each has accepted lately is a target.

    A chain that is stuck thus shortens the steps of all until it gets out; in the arithmetic mean it would be outvoted.
    Divergences shorten the steps further, ten times as much as a rejection does: a place that is too narrow for the
    steps is seldom met, by few chains, and left out of the draws where the steps suit the rest.

    Args:
        step_size: The step size to begin with.
        target: The acceptance probability to reach.
        like: A tensor of shape ``(chains,)``, of whose dtype and device the chains' acceptances are.

    Source: Nesterov (2009), *Primal-dual subgradient methods for convex problems*; Hoffman, Gelman (2014), *The
    No-U-Turn sampler*.
    """

    def __init__(self, step_size: float, target: float, like: Tensor) -> None:
        self.target = target
        self._acceptance = torch.full_like(like, target)  # of each chain, lately
        self._averaging = DualAveraging(prox_center=math.log(step_size))

    def observe(self, acceptance: Tensor, diverged: Tensor) -> Tensor:
        """Take account of a transition.

        Args:
            acceptance: The acceptance probability of each chain, shape ``(chains,)``.
            diverged: Which chains diverged, bool, shape ``(chains,)``.

        Returns:
            The harmonic mean over chains of their recent acceptance, less what divergences cost: a scalar of 0 at
            least, that is still on the device.
        """
        self._acceptance = torch.lerp(acceptance, self._acceptance, _RECENT)
        cost = _DIVERGED * diverged.to(acceptance).mean()
        return (1 / self._acceptance.reciprocal().mean() - cost).clamp(min=0)

    def update(self, accepted: float) -> float:
        """Return the next step size.

        Args:
            accepted: What :meth:`observe` returned.
        """
        self._averaging.step(self.target - accepted)
        log_step, _ = self._averaging.get_state()
        return math.exp(log_step)

    @property
    def average(self) -> float:
        """The step size to end with: the weighted average of those so far, in the logarithm."""
        _, log_step = self._averaging.get_state()
        return math.exp(log_step)

    def state_dict(self) -> State:
        """Return the recent acceptances and the averages."""
        return {"acceptance": self._acceptance, "averaging": dict(vars(self._averaging))}

    def load_state_dict(self, state: State) -> None:
        """Resume from a state.

        Args:
            state: Another one's.
        """
        self._acceptance = state["acceptance"]
        vars(self._averaging).update(state["averaging"])
