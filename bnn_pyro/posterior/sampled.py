"""SampledPosterior: the posterior that draws of Markov chains hold."""

import copy
import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bnn_pyro.likelihoods import NOISE_SITE, Classes
from bnn_pyro.network import SparseNetwork, gate_site
from bnn_pyro.posterior.base import NetworkDraws, Posterior
from bnn_pyro.posterior.diagnostics import r_hat
from bnn_pyro.posterior.draws import Draws


class SampledPosterior(Posterior):
    r"""The posterior of a network whose latents Markov chains have drawn.

    Predictions are averaged over the draws, and `evaluate` scores that mean. A node is open in a draw if its gate is
    above 1/2, and its inclusion probability is the share of the draws in which it is.

    In the median-probability model of one chain a gate is open at a share above 1/2, scales are at their medians, and a
    slab is the mean of :math:`z w` over the draws in which all gates at its two ends are open, so that relaxed gates z
    count with the values that they have. That is a good network only if no nodes change places within the chain.

    Hidden nodes can change places without a change of the network's outputs, so that several chains may number them
    differently, and a share or a mean over chains says nothing of a hidden node. The median-probability model of
    several chains is therefore a single draw, `best_draw`: its scales and its slabs :math:`z w`, without the nodes that
    are closed in at least half of the draws of its own chain. `keep` has the nodes of that chain; `inclusion` remains
    the share over all draws, which is meaningful for inputs. :meth:`chain` gives the posterior of one chain.

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
        super().__init__(copy.deepcopy(model).to(draws.vectors))
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

    @property
    def chains(self) -> int:
        """How many Markov chains the draws are of."""
        return len(self.draws.energy)

    def chain(self, number: int) -> "SampledPosterior":
        """Return the posterior of one chain's draws.

        Args:
            number: The chain's, from 0.

        Raises:
            ValueError: If there is no such chain.
        """
        return SampledPosterior(self.model, self.draws.chain(number))

    def best_draw(self) -> tuple[int, int]:
        """Return which draw is the median model of several chains; no data are needed for it.

        Its chain is the one with the draw of lowest energy, i.e. of highest joint density of data and latents in the
        sampler's coordinates. Of that chain's draws it is one whose open nodes differ least from `keep`, and of these
        the one of lowest energy.

        Returns:
            The numbers of the chain and of the draw in it, from 0.
        """
        chain = self._best_chain()
        majority = self._majority(chain)
        energy = self._energy()[chain]
        differing = torch.zeros_like(energy)
        for name, mask in majority.items():
            differing += ((self.draws.values[gate_site(name)][chain] > 0.5) != mask).sum(-1)
        return chain, int(energy.where(differing == differing.min(), math.inf).argmin())

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, y: Tensor, *, batch_size: int = 1024) -> Tensor:
        """Return the log-likelihood of each observation in each draw, from which models are compared.

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

    @torch.no_grad()
    def prediction_r_hat(self, x: Tensor, *, batch_size: int = 1024) -> Tensor:
        r"""Return :math:`\hat R` of what the draws predict, which tells whether the chains have mixed.

        The weights themselves have symmetries, nodes that change places and signs, which chains need not share.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            batch_size: Rows at a time.

        Returns:
            Of each class probability, or of each predicted mean and then of the noise, shape ``(quantities,)``; NaN
            where all draws predict the same.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or there are fewer than 4 draws per chain.
        """
        self._check(x, batch_size=batch_size)
        predicted = self.model.likelihood.predict(*self._outputs(x, self.num_draws, batch_size))
        if isinstance(predicted, Classes):
            found = predicted.draws.flatten(1)
        else:
            is_same = bool((predicted.sd == predicted.sd[:, :1]).all())
            found = torch.cat([predicted.mean, predicted.sd[:, :1] if is_same else predicted.sd], 1)
        return r_hat(found.reshape(*self.draws.energy.shape, -1))

    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return the share of the draws in which each node is open: group -> shape ``(size,)``.

        Args:
            num_samples: How many of the draws, the last ones of all chains together; None for all.

        Returns:
            Group -> inclusion probabilities.
        """
        each = None if num_samples is None else -(-num_samples // self.chains)
        gates = {name: self.draws.values[gate_site(name)] for name in self.model.groups}
        return {name: _open(gate[:, -(each or 0) :]).mean((0, 1)) for name, gate in gates.items()}

    def keep(self) -> dict[str, Tensor]:
        r"""Return which nodes the median-probability model keeps, :math:`\gamma > 1/2`.

        Of several chains :math:`\gamma` is the share in the draws of one, that of `best_draw`, as chains may number
        nodes differently.

        Returns:
            Group -> bool, shape ``(size,)``.
        """
        return self._majority(self._best_chain())

    def gate_draws(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return whether each gate is open, above 1/2, in each of some draws.

        Args:
            num_samples: How many of the draws, evenly spaced over all chains; None, or more than there are, for all.

        Returns:
            Group -> bool, shape ``(draws, size)``, chain after chain.
        """
        chosen = self._chosen(self.num_draws if num_samples is None else num_samples)
        gates = {name: self.draws.values[gate_site(name)].flatten(0, 1) for name in self.model.groups}
        return {name: gate[chosen] > 0.5 for name, gate in gates.items()}

    def draw_values(self, num_draws: int) -> dict[str, Tensor]:
        """Return the values of all sites in some draws, evenly spaced over all chains.

        Args:
            num_draws: How many draws; there are no more than have been drawn.

        Returns:
            Site -> values, shape ``(num_draws, *shape)``.
        """
        chosen = self._chosen(num_draws)
        return {name: value[chosen] for name, value in self.draws.stacked().items()}

    def _energy(self) -> Tensor:
        """Return the energy of each draw, infinite where it is not a number: shape ``(chains, draws)``."""
        return self.draws.energy.nan_to_num(nan=math.inf, posinf=math.inf)

    def _best_chain(self) -> int:
        """Return the number of the chain that has the draw of lowest energy."""
        return int(self._energy().amin(1).argmin())

    def _majority(self, chain: int) -> dict[str, Tensor]:
        """Return which nodes are open in more than half of a chain's draws."""
        gates = {name: self.draws.values[gate_site(name)][chain] for name in self.model.groups}
        return {name: _open(gate).mean(0) > 0.5 for name, gate in gates.items()}

    def _chosen(self, num_samples: int) -> Tensor:
        """Return the numbers of so many draws, or of all if there are fewer, evenly spaced over all chains."""
        total = self.num_draws
        spaced = torch.linspace(0, total - 1, min(num_samples, total)).round().long()
        return spaced.to(self.draws.vectors.device)

    @torch.no_grad()
    def network_draws(self, *, num_samples: int | None = None) -> list[NetworkDraws]:
        """Return the draws that `predict` averages over, as tensors to call the network with.

        Args:
            num_samples: How many draws, evenly spaced over all chains; None, or more than there are, for all.

        Returns:
            The draws, chain after chain, in one part.
        """
        chosen = self._chosen(self._wanted(num_samples))
        values = {name: value[chosen] for name, value in self.draws.stacked().items()}
        parameters = torch.vmap(self.model.assemble)(*self._split(values))
        return [NetworkDraws(self.model, parameters, values.get(NOISE_SITE))]

    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        (drawn,) = self.network_draws(num_samples=num_samples)
        return self._called(drawn.tensors, x, batch_size), drawn.latent

    @torch.no_grad()
    def _medians(self) -> dict[str, Tensor]:
        if self.chains > 1:
            return self._drawn(*self.best_draw())
        values = self.draws.stacked()
        return {**{name: value.median(0).values for name, value in values.items()}, **self._slabs(values)}

    def _drawn(self, chain: int, draw: int) -> dict[str, Tensor]:
        """Return each site's value in a draw, slabs with the gates that multiply them."""
        values = {name: value[chain, draw] for name, value in self.draws.values.items()}
        weights, gates = self._split(values)
        used = self.model.assemble(weights, gates)
        return {**values, **{name: used[name] for name in weights}}

    def _slabs(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the mean of each slab, with the gates that multiply it, over the draws in which it is open."""
        weights, gates = self._split(values)
        ones = {name: torch.ones_like(value) for name, value in weights.items()}
        is_open = {name: _open(gate) for name, gate in gates.items()}
        used = torch.vmap(self.model.assemble)(weights, gates)
        counts = torch.vmap(lambda w, z: self.model.assemble(w, z, absent=True))(ones, is_open)
        return {name: _mean(used[name], counts[name], weights[name]) for name in weights}


def _open(gate: Tensor) -> Tensor:
    return (gate > 0.5).to(gate)


def _mean(used: Tensor, is_open: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over the draws that count; over all where none does."""
    count = is_open.sum(0)
    return torch.where(count > 0, (used * is_open).sum(0) / count.clamp(min=1), weight.mean(0))
