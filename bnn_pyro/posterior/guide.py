"""GuidePosterior: the posterior that a fitted guide holds."""

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from bnn_pyro.arguments import check_methods, check_type
from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.memory import draws_at_once, joined
from bnn_pyro.posterior.network_draws import NetworkDraws, latent_of
from bnn_pyro.posterior.settled_draws import SettledDraws
from bnn_pyro.posterior.threads import HANDLERS, drawing
from bnn_pyro.pruning.batch_norm import running_statistics
from bnn_pyro.pruning.shrink import shrink
from guides import AutoProgram
from guides.protocols import Guide

logger = logging.getLogger(__name__)

AnyGuide = TypeVar("AnyGuide", bound=AutoGuide)

_ESTIMATED_FROM = 200  # draws, where a guide does not know its inclusion probabilities
_GATE_DRAWS, _GATES_ESTIMATED_FROM = 4000, 250


def copies(model: SparseNetwork, guide: AnyGuide) -> tuple[SparseNetwork, AnyGuide]:
    """Return copies of a network and a guide of it, the copied guide being that of the copied network.

    Pyro's own guides forget their model when they are copied, the original too; here it keeps it.

    Args:
        model: The network.
        guide: Its guide.

    Returns:
        The copies. One of our guides then answers for the network's prior, and can be called without arguments.
    """
    parts = [part for part in guide.modules() if isinstance(part, AutoGuide)]
    held = [(part._model, part.master) for part in parts]
    memo: dict[int, AutoGuide] = {}  # and more, by the identity of what was copied
    new_model = copy.deepcopy(model, memo)
    new_guide = copy.deepcopy(guide, memo)
    for part, (program, master) in zip(parts, held, strict=True):
        part._model, part.master = program, master
        memo[id(part)]._model = copy.deepcopy(program, memo)
    if isinstance(new_guide, AutoProgram):
        new_guide.model = new_model.prior
    return new_model, new_guide


class GuidePosterior(Posterior):
    """The posterior of a :class:`~bnn_pyro.network.SparseNetwork` that a guide holds.

    Each draw is made afresh from the global random state; Pyro's parameter store stays as it is. A network with
    BatchNorm is predicted with draws that the posterior holds instead, each with running statistics of its own
    (:func:`~bnn_pyro.posterior.batch_norm.settle_batch_norm`, which `fit` calls).

    Args:
        model: The network; its points (parameters without a slab) are the trained ones.
        guide: A guide for ``model.prior`` that can be called without arguments: one of ours, or an AutoGuide of Pyro.
        history: One record per epoch.
        kl_weight: Weight of the divergence it was fitted with, the smaller one where gates and slabs had different
            ones; below 1 the posterior is a tempered (cold) one.
        settled: Draws with statistics of their own; None makes draws afresh.

    Attributes:
        guide: The guide.
        settled: The draws that it holds; None where draws are made afresh.
    """

    def __init__(
        self,
        model: SparseNetwork,
        guide: Guide,
        *,
        history: Sequence[Mapping[str, object]] = (),
        kl_weight: float = 1.0,
        settled: SettledDraws | None = None,
    ) -> None:
        check_type("model", model, SparseNetwork)
        check_methods("guide", guide, "median", "parameters", "state_dict")
        super().__init__(model, history=history, kl_weight=kl_weight)
        self.guide: Any = guide  # whatever its class offers besides
        self.settled = settled
        self._is_warned = False

    @property
    def num_draws(self) -> int | None:
        """How many draws it holds, for a network with BatchNorm; None where draws are made afresh."""
        return None if self.settled is None else len(self.settled.drawn)

    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        r"""Return the inclusion probability :math:`\gamma` of each node.

        Args:
            num_samples: Draws to estimate it from, for a guide that does not know it (Pyro's own); None for 200.

        Returns:
            Group -> inclusion probabilities, shape ``(size,)``.
        """
        if isinstance(self.guide, AutoProgram):
            with HANDLERS:
                found = self.guide.inclusion()
            return {name: found[gate_site(name)] for name in self.model.groups}
        wanted = _ESTIMATED_FROM if num_samples is None else num_samples
        with drawing(), torch.no_grad():
            draws = [self._split(self.guide())[1] for _ in range(wanted)]
        return {n: torch.stack([(d[n] > 0.5).to(self._like) for d in draws]).mean(0) for n in self.model.groups}

    def keep(self) -> dict[str, Tensor]:
        r"""Return which nodes the median-probability model keeps, :math:`\gamma > 1/2`.

        Returns:
            Group -> bool, shape ``(size,)``.
        """
        if isinstance(self.guide, AutoProgram):
            return {name: gamma > 0.5 for name, gamma in self.inclusion().items()}
        return {name: gate > 0.5 for name, gate in self._split(self._medians())[1].items()}

    def gate_draws(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Draw gates independently of each other, each with its inclusion probability.

        Args:
            num_samples: How many draws; None for 4,000.

        Returns:
            Group -> whether each gate is open, bool, shape ``(draws, size)``.
        """
        wanted = _GATE_DRAWS if num_samples is None else num_samples
        gammas = self.inclusion(num_samples=_GATES_ESTIMATED_FROM)
        return {name: torch.rand(wanted, len(gamma), device=gamma.device) < gamma for name, gamma in gammas.items()}

    def draw_values(self, num_draws: int) -> dict[str, Tensor]:
        """Draw all latent sites.

        Args:
            num_draws: How many draws.

        Returns:
            Site -> values, shape ``(num_draws, *shape)``.
        """
        with drawing(), torch.no_grad():
            draws = [self.guide() for _ in range(num_draws)]
        return {name: torch.stack([draw[name] for draw in draws]) for name in draws[0]}

    def shrink(self, *, keep: Mapping[str, Tensor] | None = None) -> "GuidePosterior":
        r"""Return the posterior of the network without its closed nodes.

        It can be trained on by ``fit(smaller.model, data, guide=smaller.guide)``. Where this one holds draws of a
        network with BatchNorm, the smaller one holds none until they are made anew
        (:func:`~bnn_pyro.posterior.batch_norm.settle_batch_norm`).

        Args:
            keep: Group -> which nodes stay, bool, shape ``(size,)``; default :math:`\gamma > 1/2`. Groups without a
                mask keep all.

        Returns:
            The smaller posterior.

        Raises:
            ValueError: If a group would be left without a node, the guide is not one of ours, or ``keep`` does not fit.
        """
        shrunk = shrink(self.model, self.guide, self.keep() if keep is None else keep)
        return GuidePosterior(shrunk.model, shrunk.guide, history=self.history, kl_weight=self.kl_weight)

    @torch.no_grad()
    def network_draws(self, *, num_samples: int | None = None) -> list[NetworkDraws]:
        """Draw tensors to call the network with, as `predict` does.

        Args:
            num_samples: How many draws; None for 32. Of a network with BatchNorm the first of those that are held.

        Returns:
            The draws in one part.
        """
        wanted = self._wanted(num_samples)
        if self.settled is not None:
            return [self.settled.drawn.first(wanted)]
        self._warn_of_statistics()
        values = self.draw_values(wanted)
        parameters = torch.vmap(self.model.assemble)(*self._split(values))
        return [NetworkDraws(self.model, parameters, latent_of(self.model, values))]

    def _warn_of_statistics(self) -> None:
        """Say, once, that draws made afresh have the running statistics of the median model."""
        if not self._is_warned and running_statistics(self.model.net, frozen=self.model.frozen):
            self._is_warned = True
            logger.warning(
                "the draws of this network with BatchNorm have the running statistics of the median model, not their "
                "own, and may predict far worse than it: call settle_batch_norm(posterior, training_inputs) first"
            )

    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        at_once = num_samples if self.settled is not None else draws_at_once(self.model, num_samples)
        counts = (min(at_once, num_samples - start) for start in range(0, num_samples, at_once))
        return joined(self._some_outputs(x, count, batch_size) for count in counts)

    def _some_outputs(self, x: Tensor, count: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Return outputs and latents of some draws, which are gone before others are drawn."""
        (drawn,) = self.network_draws(num_samples=count)
        return drawn.outputs(x, batch_size), drawn.latent

    @torch.no_grad()
    def _medians(self) -> dict[str, Tensor]:
        with drawing():
            values: dict[str, Tensor] = self.guide.median()
        return values
