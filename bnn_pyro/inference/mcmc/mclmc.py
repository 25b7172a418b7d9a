"""MCLMC: unadjusted microcanonical Langevin dynamics of many chains as one batch."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import BatchMove, State
from bnn_pyro.inference.mcmc.potential.microcanonical import Moved, langevin, noise_size, normalised
from bnn_pyro.inference.mcmc.potential.potential import Potential

MAX_ERROR = 1e4  # an energy error beyond it, of one step, is a divergence
GRADIENTS = 2  # per step
_STATE = ("scale", "step_size", "length")


class MCLMC:
    r"""Microcanonical Langevin dynamics of many chains, with one step size and one length for all.

    A transition is one step of :func:`~bnn_pyro.inference.mcmc.potential.microcanonical.langevin`, of two gradients,
    and is always made: no trajectory that waits for the slowest chain, and no rejection. The draws are therefore those
    of the posterior up to an error that grows with the step size, which the energy error :math:`E[\Delta E^2] / n` of
    a step measures. A step to a point that is not finite is not made: the chain turns back, which counts as a
    divergence.

    Args:
        potential: The potential energy, of two coordinates at least.
        start: Starting points of finite energy, shape ``(chains, n)``.
        step_size: :math:`\epsilon`, in units of ``scale``.
        length: L, the length over which a chain forgets its direction, likewise.

    Attributes:
        scale: What the coordinates are measured in: standard deviations that are the same for all chains, shape
            ``(n,)``, 1 at first; or a matrix C of each chain, shape ``(n, n, chains)``, where the draws of that chain
            are taken to have the covariance :math:`C C^\top`.

    Raises:
        ValueError: If ``start`` is not of shape ``(chains, n)``, or there is one coordinate only.

    Source: Robnik, De Luca, Silverstein, Seljak (2023), *Microcanonical Hamiltonian Monte Carlo*; Sommer et al. (2025),
    *Microcanonical Langevin ensembles: Advancing the sampling of Bayesian neural networks*.
    """

    def __init__(self, potential: Potential, start: Tensor, *, step_size: float, length: float) -> None:
        if start.dim() != 2 or start.shape[1] < 2:
            raise ValueError(f"start must have shape (chains, n) with n of 2 or more, got {tuple(start.shape)}")
        self.potential, self.step_size, self.length = potential, step_size, length
        self.energy, gradient = potential.value_and_gradient(start.detach().clone())
        self._position, self._gradient = start.detach().t().contiguous(), gradient.t().contiguous()
        self._velocity = normalised(torch.randn_like(self._position))
        self.scale = torch.ones_like(self._position[:, 0])

    @property
    def position(self) -> Tensor:
        """Where the chains are, shape ``(chains, n)``."""
        return self._position.t()

    @torch.no_grad()
    def transition(self) -> BatchMove:
        """Make a step of all chains."""
        noise = torch.randn_like(self._position)
        size, nu = self._numbers()
        most = self.potential.block(len(self.energy))
        parts = [part.split(most, -1) for part in (self._position, self._velocity, self.energy, self._gradient, noise)]
        is_full = self.scale.dim() == 3
        scales = self.scale.split(most, -1) if is_full else [self.scale.unsqueeze(-1)] * len(parts[0])
        moved = [
            self._moved([part.contiguous() for part in each], size, nu) for each in zip(*parts, scales, strict=True)
        ]
        found = moved[0] if len(moved) == 1 else Moved(*(torch.cat(part, -1) for part in zip(*moved, strict=True)))
        self._position, self._velocity, self.energy, self._gradient, error = found
        bounced = error.isinf()
        return BatchMove(
            acceptance=(~bounced).to(error),
            diverged=bounced,
            leapfrogs=torch.full_like(error, GRADIENTS, dtype=torch.int64),
            total_energy=torch.full_like(error, torch.nan),  # what is conserved is not of one transition
            energy_error=error,
        )

    def _moved(self, chains: Sequence[Tensor], size: Tensor, nu: Tensor) -> Moved:
        *state, noise, scale = chains
        name = f"langevin of {scale.dim()} dimensions"
        return Moved(*self.potential.along(name, _langevin, *state, scale, size, noise, nu))

    def _numbers(self) -> tuple[Tensor, Tensor]:
        nu = noise_size(self.step_size, self.length, len(self._position))
        return self.scale.new_full((), self.step_size), self.scale.new_full((), nu)  # filled: no wait for the device

    def state_dict(self) -> State:
        """Return the state of the chains, and the parameters."""
        chains = {"position": self._position, "velocity": self._velocity, "energy": self.energy}
        return {**chains, "gradient": self._gradient, **{name: getattr(self, name) for name in _STATE}}

    def load_state_dict(self, state: State) -> None:
        """Resume from the state of another kernel of the same potential.

        Args:
            state: Its state, on the kernel's device.
        """
        self._position, self._velocity = state["position"], state["velocity"]
        self.energy, self._gradient = state["energy"], state["gradient"]
        for name in _STATE:
            setattr(self, name, state[name])


_langevin = partial(langevin, largest_error=MAX_ERROR)
