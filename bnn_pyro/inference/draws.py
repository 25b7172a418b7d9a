"""Draws: what Markov chains leave behind."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.inference.diagnostics import ess_bulk, ess_tail, r_hat


@dataclass(frozen=True, eq=False)
class Draws:
    """Draws of a model's latents by several Markov chains, and how the chains went.

    Attributes:
        values: Site -> values, shape ``(chains, draws, *shape)``: latents, and sites that they determine.
        vectors: The same in the flat unconstrained coordinates of the sampler, shape ``(chains, draws, n)``.
        energy: The potential energy, shape ``(chains, draws)``.
        divergences: Transitions after warm-up whose energy error was beyond all bounds, shape ``(chains,)``.
        acceptance: Mean acceptance probability after warm-up, shape ``(chains,)``.
        step_size: After warm-up, shape ``(chains,)``.
        inverse_mass: After warm-up: the variances, shape ``(chains, n)``, or covariances, ``(chains, n, n)``.
        leapfrogs: Leapfrog steps after warm-up, shape ``(chains,)``.
        seconds: What the run took.
    """

    values: Mapping[str, Tensor]
    vectors: Tensor
    energy: Tensor
    divergences: Tensor
    acceptance: Tensor
    step_size: Tensor
    inverse_mass: Tensor
    leapfrogs: Tensor
    seconds: float

    def stacked(self) -> dict[str, Tensor]:
        """Returns the values of all chains, shape ``(chains * draws, *shape)``, as Pyro's ``Predictive`` takes them."""
        return {name: value.flatten(0, 1) for name, value in self.values.items()}

    def summary(self) -> dict[str, dict[str, Tensor]]:
        """Returns mean, standard deviation, R-hat and effective sample sizes.

        Returns:
            Site -> ``mean``, ``sd``, ``r_hat``, ``ess_bulk`` and ``ess_tail``, each of the site's shape.
        """
        return {name: _summary(value) for name, value in self.values.items()}


def _summary(value: Tensor) -> dict[str, Tensor]:
    sd, mean = torch.std_mean(value, (0, 1))
    return {"mean": mean, "sd": sd, "r_hat": r_hat(value), "ess_bulk": ess_bulk(value), "ess_tail": ess_tail(value)}
