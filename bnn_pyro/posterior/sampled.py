"""SampledPosterior: draws of Markov chains behind the face of a posterior."""

import copy
from collections.abc import Mapping
from typing import NoReturn

import torch
from torch import Tensor

from bnn_pyro.likelihoods import NOISE_SITE, Classes, Normals
from bnn_pyro.network import SparseNetwork, gate_site
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.guide import Posterior


class SampledPosterior(Posterior):
    r"""Draws of a network's latents by Markov chains, with the face of a posterior.

    Predictions are averaged over the draws. A node is open in a draw if its gate is above 1/2, and its inclusion
    probability is the share of the draws in which it is. In the median-probability model a gate is open at a share
    above 1/2, scales are at their medians, and a slab is the mean of :math:`z w` over the draws in which all gates at
    its two ends are open, so that relaxed gates z count with the values that they have.

    Where nodes can change places without a change of the network's outputs, chains may know a node by different
    numbers, and a mean over them is of little use: :meth:`chain` gives the posterior of one.

    Args:
        model: The network; it is copied to the draws' device and dtype. Its points (parameters without a slab) are
            those that the draws were taken with.
        draws: The draws of its latents.

    Attributes:
        draws: The draws.

    Raises:
        ValueError: If the draws lack one of the network's sites, or have it in another shape.
    """

    def __init__(self, model: SparseNetwork, draws: Draws) -> None:
        super().__init__(copy.deepcopy(model).to(draws.vectors), None)
        self.model.net.eval()
        self.draws = draws
        shapes = {p.name: p.shape for p in model.bayesian}
        shapes |= {gate_site(name): (group.size,) for name, group in model.groups.items()}
        for name, shape in shapes.items():
            if name not in draws.values or tuple(draws.values[name].shape[2:]) != tuple(shape):
                found = tuple(draws.values[name].shape[2:]) if name in draws.values else "none"
                raise ValueError(f"draws must have the site {name!r} of shape {tuple(shape)}, got {found}")

    @property
    def num_draws(self) -> int:
        """How many draws there are, of all chains."""
        return self.draws.energy.numel()

    def chain(self, number: int) -> "SampledPosterior":
        """Returns the posterior of one chain's draws.

        Args:
            number: The chain's, from 0.

        Raises:
            ValueError: If there is no such chain.
        """
        return SampledPosterior(self.model, self.draws.chain(number))

    def predict(
        self, x: Tensor, *, num_samples: int | None = None, batch_size: int = 1024, return_draws: bool = False
    ) -> Tensor | Classes | Normals:
        """Predicts by averaging over the draws.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            num_samples: How many of the draws, evenly spaced over all chains; None, or more than there are, for all.
            batch_size: Rows at a time.
            return_draws: Whether to return what each draw predicts too.

        Returns:
            Class probabilities averaged over draws, shape ``(rows, classes)``, or the predictive mean, shape
            ``(rows,)``; with ``return_draws`` a :class:`~bnn_pyro.likelihoods.Classes` or
            :class:`~bnn_pyro.likelihoods.Normals`, chain after chain.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or a number is below 1.
        """
        wanted = self.num_draws if num_samples is None else num_samples
        return super().predict(x, num_samples=wanted, batch_size=batch_size, return_draws=return_draws)

    def _drawn(self, num_samples: int) -> tuple[dict[str, Tensor], Tensor | None]:
        total = self.num_draws
        chosen = torch.linspace(0, total - 1, min(num_samples, total)).round().long()
        values = {name: value[chosen.to(value.device)] for name, value in self.draws.stacked().items()}
        return torch.vmap(self.model.assemble)(*self._split(values)), values.get(NOISE_SITE)

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, y: Tensor, *, batch_size: int = 1024) -> Tensor:
        """Returns the log-likelihood of each observation in each draw, from which models are compared.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            batch_size: Rows at a time.

        Returns:
            Shape ``(chains, draws, rows)``.

        Raises:
            ValueError: If x or y has the wrong shape, is not finite or out of range, or ``batch_size`` is below 1.
        """
        self._check(x, batch_size=batch_size)
        output, latent = self._outputs(x, self.num_draws, batch_size)
        y = y.to(output if y.is_floating_point() else output.device)
        self.model.likelihood.check(output[0], y)
        latent = None if latent is None else latent.unsqueeze(-1)
        found: Tensor = self.model.likelihood.distribution(output, latent).log_prob(y)
        return found.reshape(*self.draws.energy.shape, len(y))

    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Returns the share of the draws in which each node is open: group -> shape ``(size,)``.

        Args:
            num_samples: How many of the draws, the last ones of all chains together; None for all.

        Returns:
            Group -> inclusion probabilities.
        """
        each = None if num_samples is None else -(-num_samples // len(self.draws.energy))
        gates = {name: self.draws.values[gate_site(name)] for name in self.model.groups}
        return {name: _open(gate[:, -(each or 0) :]).mean((0, 1)) for name, gate in gates.items()}

    def keep(self) -> dict[str, Tensor]:
        r"""Returns which nodes the median-probability model keeps, :math:`\gamma > 1/2`.

        Returns:
            Group -> bool, shape ``(size,)``.
        """
        return {name: gamma > 0.5 for name, gamma in self.inclusion().items()}

    @torch.no_grad()
    def _medians(self) -> dict[str, Tensor]:
        values = self.draws.stacked()
        return {**{name: value.median(0).values for name, value in values.items()}, **self._slabs(values)}

    def _slabs(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the mean of each slab, with the gates that multiply it, over the draws in which it is open."""
        weights, gates = self._split(values)
        ones = {name: torch.ones_like(value) for name, value in weights.items()}
        is_open = {name: _open(gate) for name, gate in gates.items()}
        used = torch.vmap(self.model.assemble)(weights, gates)
        counts = torch.vmap(lambda w, z: self.model.assemble(w, z, absent=True))(ones, is_open)
        return {name: _mean(used[name], counts[name], weights[name]) for name in weights}

    def shrink(self, *, keep: Mapping[str, Tensor] | None = None) -> NoReturn:
        """Refuses: draws have no guide to train on.

        Args:
            keep: Not used.

        Raises:
            ValueError: Always.
        """
        raise ValueError("a SampledPosterior cannot be shrunk, it has no guide: prune(posterior) gives a plain module")


def _open(gate: Tensor) -> Tensor:
    return (gate > 0.5).to(gate)


def _mean(used: Tensor, is_open: Tensor, weight: Tensor) -> Tensor:
    """Returns the mean over the draws that count; over all where none does."""
    count = is_open.sum(0)
    return torch.where(count > 0, (used * is_open).sum(0) / count.clamp(min=1), weight.mean(0))
