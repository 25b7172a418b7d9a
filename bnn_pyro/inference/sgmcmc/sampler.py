"""Sampler: the options of adaptive stochastic-gradient Hamiltonian Monte Carlo."""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from bnn_pyro.inference.sgmcmc.sghmc import SpikeSlabSGHMC, Temperature


@dataclass(frozen=True, kw_only=True)
class Sampler:
    r"""Options of the sampler; :class:`~bnn_pyro.inference.sgmcmc.sghmc.SpikeSlabSGHMC` says what they mean.

    Args:
        lr: :math:`C_0^2`, the learning rate at the start of each cycle.
        betas: How much momentum stays, and the weight of the gradient.
        eta: Step size of the preconditioner in its dual coordinate.
        temperature: ``"cooled"``, or the temperature relative to the posterior's, which is 1.
        noise_scale: T of the cooled sampler; None for :math:`N^{-1/2}`.
        alpha: 1/2 or 1, for the cooled sampler.

    Raises:
        ValueError: If a number is out of range.
    """

    lr: float = 0.01
    betas: tuple[float, float] = (0.1, 1.0)
    eta: float = 0.1
    temperature: Temperature = "cooled"
    noise_scale: float | None = None
    alpha: float = 0.5

    def __post_init__(self) -> None:
        self.optimizer(torch.zeros((), device="cpu"), num_data=1, weight_decay=0.0)  # checks them

    def optimizer(self, parameter: Tensor, *, num_data: int, weight_decay: float) -> SpikeSlabSGHMC:
        """Return the optimiser of a parameter.

        Args:
            parameter: What it moves.
            num_data: Number of training rows.
            weight_decay: Weight decay of all entries without one of their own.
        """
        return SpikeSlabSGHMC([parameter], num_data=num_data, weight_decay=weight_decay, **asdict(self))
