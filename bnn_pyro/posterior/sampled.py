"""SampledPosterior: the posterior that draws of Markov chains hold."""

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bnn_pyro.arguments import check_types
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.convergence import convergence_problems
from bnn_pyro.posterior.diagnostics import LEAST_DRAWS, r_hat
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.memory import draws_at_once, joined
from bnn_pyro.posterior.network_draws import NetworkDraws, latent_of
from bnn_pyro.posterior.stacking import Stacking, checked_weights, shares, stack, within_chain

_QUANTITIES = 1024  # predicted at a time for R-hat, so that memory does not grow with rows and classes
_MIXING_ROWS = 256


class SampledPosterior(Posterior):
    r"""The posterior of a network whose latents Markov chains have drawn.

    Predictions are averaged over the draws, and `evaluate` scores that mean. A node is open in a draw if its gate is
    above 1/2, and its inclusion probability is the share of the draws in which it is.

    Chains that have found different modes may have weights (`weighted`, `weighted_by_stacking`). Whatever is averaged
    over draws is then averaged over draws that the chains give in proportion to their weights, evenly spaced within
    each chain: of n draws each chain's share is less than 1/n away from its weight, and a chain of less weight than
    that may give none. Where all draws are asked for, n is the largest number for which no draw counts twice, so about
    the draws per chain divided by the largest weight. `prediction_r_hat`, `log_likelihood`, `best_draw`, `chain` and
    ``draws`` itself, which tell of the chains as they were sampled, have all draws and no weights.

    In the median-probability model of one chain a gate is open at a share above 1/2, scales are at their medians, and a
    slab is the mean of :math:`z w` over the draws in which all gates at its two ends are open, so that relaxed gates z
    count with the values that they have. That is a good network only if no nodes change places within the chain.

    Hidden nodes can change places without a change of the network's outputs, so that several chains may number them
    differently, and a share or a mean over chains says nothing of a hidden node. The median-probability model of
    several chains is therefore a single draw, `best_draw`: its scales and its slabs :math:`z w`, without the nodes that
    are closed in at least half of the draws of its own chain. `keep` has the nodes of that chain; `inclusion` remains
    the share over all draws, which is meaningful for inputs. :meth:`chain` gives the posterior of one chain.

    Args:
        model: The network; it is copied to the draws' device and dtype. Its points (parameters without a slab) and the
            running statistics of its BatchNorms are those that the draws were taken with: `sample` holds them fixed,
            so that they belong to the network whose posterior it is, and are the same in every draw.
        draws: The draws of its latents.
        chain_weights: Weights of the chains, which add up to 1, shape ``(chains,)``, or the stacking that they are of;
            None for equal ones.

    Attributes:
        draws: The draws.
        chain_weights: The weights, in double precision on the CPU; None where all chains weigh the same.
        stacking: What they were found from; None where they are not of a stacking.

    Raises:
        ValueError: If the draws lack a site of the network, or have it in another shape, or the weights are none.
    """

    def __init__(self, model: SparseNetwork, draws: Draws, *, chain_weights: Tensor | Stacking | None = None) -> None:
        check_types({"model": (model, SparseNetwork), "draws": (draws, Draws)})
        super().__init__(copy.deepcopy(model).to(draws.vectors))
        self.model.net.eval()
        self.draws = draws if draws.judged == () else replace(draws, judged=())
        self.stacking = chain_weights if isinstance(chain_weights, Stacking) else None
        given = chain_weights.weights if isinstance(chain_weights, Stacking) else chain_weights
        self.chain_weights = None if given is None else checked_weights(given, len(draws.energy))
        gates = {gate_site(name): (group.size,) for name, group in model.groups.items()}
        for name, shape in ({p.name: p.shape for p in model.bayesian} | gates).items():
            if name not in draws.values or tuple(draws.values[name].shape[2:]) != tuple(shape):
                found = tuple(draws.values[name].shape[2:]) if name in draws.values else "none"
                raise ValueError(f"draws must have the site {name!r} of shape {tuple(shape)}, got {found}")

    @property
    def num_draws(self) -> int:
        """How many draws there are, of all chains, whatever their weights."""
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

    def weighted(self, weights: Tensor | None) -> "SampledPosterior":
        """Return the posterior of the same draws with weights of its chains.

        Args:
            weights: They add up to 1, shape ``(chains,)``; None for equal ones.

        Raises:
            ValueError: If the weights have another shape, are negative or not finite, or do not add up to 1.
        """
        return SampledPosterior(self.model, self.draws, chain_weights=weights)

    def weighted_by_stacking(
        self, x: Tensor, y: Tensor, *, equal_share: float = 0.0, batch_size: int = 1024
    ) -> "SampledPosterior":
        """Return the posterior of the same draws with the weights that stacking of PSIS-LOO gives to its chains.

        They maximise the leave-one-out log score of the chains' mixture
        (:func:`~bnn_pyro.posterior.stacking.stacking_weights`), and leave most chains without any; with an equal share
        every chain keeps some (:func:`~bnn_pyro.posterior.stacking.stack`).

        Args:
            x: Inputs, those that the chains have learned from, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            equal_share: What part of the weight all chains share equally, from 0 to 1.
            batch_size: Rows at a time.

        Returns:
            The posterior, with its ``chain_weights`` and ``stacking``.

        Raises:
            ValueError: If x or y has the wrong shape, is not finite or out of range, or so is a number.

        Source: Yao, Vehtari, Gelman (2022), *Stacking for non-mixing Bayesian computations: The curse and blessing of
        multimodal posteriors*.
        """
        found = stack(self.log_likelihood(x, y, batch_size=batch_size), equal_share=equal_share)
        return SampledPosterior(self.model, self.draws, chain_weights=found)

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
        x = self._checked(x, batch_size=batch_size)
        drawn = self._drawn_networks(self._all)
        latent = None if drawn.latent is None else drawn.latent.unsqueeze(1)
        y = self._targets(y)
        y = y.to(self._like) if y.is_floating_point() else y
        self.model.likelihood.check(drawn.first(1).outputs(x, batch_size)[0], y)
        found = []
        for rows, targets in zip(x.split(batch_size), y.split(batch_size), strict=True):
            output = drawn.outputs(rows, batch_size)
            found.append(self.model.likelihood.distribution(output, latent).log_prob(targets))
        return torch.cat(found, 1).reshape(*self.draws.energy.shape, len(y))

    def prediction_r_hat(self, x: Tensor, *, batch_size: int = 1024) -> Tensor:
        r"""Return :math:`\hat R` of what the draws predict, which tells whether the chains have mixed.

        The weights themselves have symmetries, nodes that change places and signs, which chains need not share.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            batch_size: Rows at a time.

        Returns:
            Of each class probability, of each predicted mean and then of the noise, or of each expected target of
            another kind, shape ``(quantities,)``; NaN where all draws predict the same.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or there are fewer than 4 draws per chain.
        """
        return torch.cat([r_hat(part) for _, part in self._predicted(x, batch_size)])

    def problems(self, x: Tensor, *, convergence: bool = True, batch_size: int = 1024) -> list[str]:
        """Return what says that the chains are not to be trusted, a sentence each; none is good news.

        Convergence is judged by the energy and by what the draws predict, whose R-hat and effective sample sizes tell
        what those of the weights do not.

        Args:
            x: Inputs to predict at, shape ``(rows, *input_shape)``.
            convergence: Whether convergence is judged at all.
            batch_size: Rows at a time.

        Raises:
            ValueError: If x has the wrong shape or is not finite.
        """
        found = self.draws.problems(convergence=convergence)
        if not convergence or self.draws.energy.shape[1] < LEAST_DRAWS:
            return found
        predicted = self._predicted(x, batch_size)
        return found + convergence_problems(predicted, chains=self.chains, indexed=False)

    @torch.no_grad()
    def _predicted(self, x: Tensor, batch_size: int) -> Iterator[tuple[str, Tensor]]:
        """Yield what all draws predict, some quantities at a time: names and shapes ``(chains, draws, quantities)``."""
        x = self._checked(x, batch_size=batch_size)
        drawn = self._drawn_networks(self._all)
        outputs = drawn.outputs(x[:1], batch_size)[0, 0].numel()
        sds = []
        for rows in x.split(max(1, min(batch_size, _QUANTITIES // outputs))):
            predicted = self.model.likelihood.predict(drawn.outputs(rows, batch_size), drawn.latent)
            if isinstance(predicted, Classes):
                yield "a class probability", self._by_chain(predicted.draws)
            elif isinstance(predicted, Normals):
                yield "a predicted mean", self._by_chain(predicted.mean)
                sds.append(predicted.sd.flatten(1))
            else:
                yield "an expected target", self._by_chain(predicted.expected)
        if sds:
            sd = torch.cat(sds, 1)
            is_same = bool((sd == sd[:, :1]).all())
            for part in (sd[:, :1] if is_same else sd).split(_QUANTITIES, 1):
                yield "the predicted noise", self._by_chain(part)

    def _by_chain(self, predicted: Tensor) -> Tensor:
        """Return quantities in all draws, ``(chains * draws, ...)``, as ``(chains, draws, quantities)``."""
        return predicted.reshape(*self.draws.energy.shape, -1)

    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return the share of the draws in which each node is open: group -> shape ``(size,)``.

        Chains with weights count by their weights.

        Args:
            num_samples: How many of the draws, the last ones of all chains together; None for all.

        Returns:
            Group -> inclusion probabilities.
        """
        each = None if num_samples is None else -(-num_samples // self.chains)
        gates = {name: self.draws.values[gate_site(name)] for name in self.model.groups}
        is_open = {name: _open(gate[:, -(each or 0) :]) for name, gate in gates.items()}
        if self.chain_weights is None:
            return {name: gate.mean((0, 1)) for name, gate in is_open.items()}
        return {name: self.chain_weights.to(gate) @ gate.mean(1) for name, gate in is_open.items()}

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
            Group -> bool, shape ``(draws, size)``, chain after chain; of chains with weights fewer draws.
        """
        chosen = self._chosen(self.num_draws if num_samples is None else num_samples)
        gates = {name: self.draws.values[gate_site(name)].flatten(0, 1) for name in self.model.groups}
        return {name: gate[chosen] > 0.5 for name, gate in gates.items()}

    def draw_values(self, num_draws: int) -> dict[str, Tensor]:
        """Return the values of all sites in some draws, evenly spaced over all chains.

        Args:
            num_draws: How many draws; there are no more than have been drawn.

        Returns:
            Site -> values, shape ``(num_draws, *shape)``; of chains with weights there may be fewer draws.
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

    @property
    def _all(self) -> Tensor:
        """The numbers of all draws, whatever the weights of their chains."""
        return torch.arange(self.num_draws, device=self.draws.vectors.device)

    def _chosen(self, num_samples: int) -> Tensor:
        """Return the numbers of so many draws, or of all if there are fewer, evenly spaced over all chains.

        Chains with weights give their shares of them, and of so few that no draw counts twice.
        """
        total, device = self.num_draws, self.draws.vectors.device
        if self.chain_weights is None:
            return evenly_spaced(total, num_samples).to(device)
        size = self.draws.energy.shape[1]
        most = int(size / float(self.chain_weights.max()) + 1e-6)
        counts = shares(self.chain_weights, min(num_samples, most))
        spaced = [number * size + within_chain(size, count) for number, count in enumerate(counts)]
        return torch.cat(spaced).to(device)

    def network_draws(self, *, num_samples: int | None = None) -> list[NetworkDraws]:
        """Return the draws that `predict` averages over, as tensors to call the network with.

        Args:
            num_samples: How many draws, evenly spaced over all chains; None, or more than there are, for all.

        Returns:
            The draws, chain after chain, in one part.
        """
        return [self._drawn_networks(self._chosen(self._wanted(num_samples)))]

    @torch.no_grad()
    def _drawn_networks(self, chosen: Tensor) -> NetworkDraws:
        """Return the draws of these numbers."""
        values = {name: value[chosen] for name, value in self.draws.stacked().items()}
        parameters = torch.vmap(self.model.assemble)(*self._split(values))
        return NetworkDraws(self.model, parameters, latent_of(self.model, values))

    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        chosen = self._chosen(num_samples)
        parts = map(self._drawn_networks, chosen.split(draws_at_once(self.model, len(chosen))))
        return joined((part.outputs(x, batch_size), part.latent) for part in parts)

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


def some_rows(x: Tensor) -> Tensor:
    """Return rows whose predictions tell whether chains have mixed: 256 at most, evenly spaced.

    Args:
        x: Inputs, shape ``(rows, *input_shape)``.
    """
    return x[evenly_spaced(len(x), _MIXING_ROWS).unique().to(x.device)]


def _open(gate: Tensor) -> Tensor:
    return (gate > 0.5).to(gate)


def _mean(used: Tensor, is_open: Tensor, weight: Tensor) -> Tensor:
    """Return the mean over the draws that count; over all where none does."""
    count = is_open.sum(0)
    return torch.where(count > 0, (used * is_open).sum(0) / count.clamp(min=1), weight.mean(0))
