"""ExactGatesWarmUp: the warm-up of exact gates, that of ChEES and one of the pseudo-prior."""

from torch import Tensor

from bnn_pyro.inference.mcmc.chees import TARGET_ACCEPT, ChEESWarmUp
from bnn_pyro.inference.mcmc.exact_gates import ExactGates
from bnn_pyro.inference.mcmc.kernel import State
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.pseudo_prior import Draw
from bnn_pyro.inference.mcmc.running_moments import Moments
from bnn_pyro.inference.mcmc.trajectories import Trajectory
from bnn_pyro.inference.mcmc.windows import ends_window, window_of

_HELD = 1  # the window until whose end gates stay as they began, so that open slabs settle


class ExactGatesWarmUp:
    """Adapts the moves given the gates as ChEES does, and the pseudo-prior.

    In the first quarter of the warm-up the gates stay as they began, so that the open slabs find their place. In the
    rest the pseudo-prior follows the moments that the slabs have while they are open, in all chains.

    Args:
        kernel: What it adapts, of two chains at least.
        target_accept: Acceptance probability that the step size is adapted to.
        follows_at_once: Whether the pseudo-prior follows from the beginning: it should unless it is a good one.

    Raises:
        ValueError: If there is one chain only.
    """

    def __init__(
        self, kernel: ExactGates, *, target_accept: float = TARGET_ACCEPT, follows_at_once: bool = True
    ) -> None:
        self.kernel, self._follows_at_once = kernel, follows_at_once
        self._given_gates = ChEESWarmUp(kernel.hmc, target_accept=target_accept)
        self._slabs = Moments(kernel.pseudo_prior.loc)

    @property
    def shortfall(self) -> str:
        """Nothing: this warm-up is not judged."""
        return ""

    def adapt(self, number: int, transitions: int) -> Trajectory:
        """Make a transition of the warm-up, and adapt the kernel to it.

        Args:
            number: Which one, from 1.
            transitions: How many the warm-up has.
        """
        kernel = self.kernel
        is_held = window_of(number, transitions) <= _HELD
        move = kernel.hmc.transition() if is_held else kernel.transition()
        self._given_gates.learn(move, number, transitions)
        if number == 1:
            self._slabs = Moments(kernel.pseudo_prior.loc)
        self._slabs.add(*kernel.slabs())
        if ends_window(number, transitions):
            if self._follows_at_once or not is_held:
                kernel.pseudo_prior = kernel.pseudo_prior.followed(self._slabs)
            self._slabs = Moments(kernel.pseudo_prior.loc)
        return move

    def state_dict(self) -> State:
        """Return what the rest of the warm-up depends on besides the kernel's state."""
        return {"given_gates": self._given_gates.state_dict(), "slabs": dict(vars(self._slabs))}

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another warm-up.

        Args:
            state: Its state, on the kernel's device.
        """
        self._given_gates.load_state_dict(state["given_gates"])
        vars(self._slabs).update(state["slabs"])


def exact_gates_batch(
    plan: SamplingPlan, potential: Potential, start: Tensor | None, pseudo_prior: Draw | None
) -> tuple[ExactGates, ExactGatesWarmUp]:
    """Return the kernel and the warm-up of a plan for ``kernel="chees"`` with ``gates="exact"``.

    Args:
        plan: The plan.
        potential: The potential energy, one of exact gates.
        start: Starting points, shape ``(chains, n)``; None draws them.
        pseudo_prior: Returns a draw of the slabs, site -> value; None for the prior's.

    Raises:
        ValueError: If the potential is not one of exact gates.
    """
    if not isinstance(potential, SpikePotential):
        raise ValueError(f"potential must be a SpikePotential for gates='exact', got {type(potential).__name__}")
    longest = 2**plan.max_tree_depth
    kernel = ExactGates(potential, plan.chains, start=start, pseudo_prior=pseudo_prior, max_leapfrogs=longest)
    target = TARGET_ACCEPT if plan.target_accept is None else plan.target_accept
    return kernel, ExactGatesWarmUp(kernel, target_accept=target, follows_at_once=pseudo_prior is None)
