"""One face on a fitted posterior: predict, inclusion probabilities, the median-probability model."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.likelihoods import NOISE_SITE, Categorical, Classes, Normals
from bnn_pyro.network import SparseNetwork, gate_site
from bnn_pyro.pruning.cutting import kept_positions, with_selection
from bnn_pyro.pruning.shrink import shrink
from guides import AutoProgram

_DRAWS_AT_ONCE = 64  # so that memory does not grow with the draws


def copies(model: SparseNetwork, guide: AutoGuide) -> tuple[SparseNetwork, Any]:
    """Returns copies of a network and a guide of it, the copied guide being that of the copied network.

    Pyro's own guides forget their model when they are copied, the original too; here it keeps it.

    Args:
        model: The network.
        guide: Its guide.

    Returns:
        The copies. One of our guides then answers for the network's prior, and can be called without arguments.
    """
    parts = [part for part in guide.modules() if isinstance(part, AutoGuide)]
    held = [(part._model, part.master) for part in parts]
    memo: dict[int, Any] = {}
    new_model = copy.deepcopy(model, memo)
    new_guide: Any = copy.deepcopy(guide, memo)
    for part, (program, master) in zip(parts, held, strict=True):
        part._model, part.master = program, master
        memo[id(part)]._model = copy.deepcopy(program, memo)
    if isinstance(guide, AutoProgram):
        new_guide.model = new_model.prior
    return new_model, new_guide


class Posterior:
    """The posterior of a :class:`~bnn_pyro.network.SparseNetwork` that a guide holds.

    Drawing goes on from the global random state; Pyro's parameter store stays as it is.

    Args:
        model: The network; its points (parameters without a slab) are the trained ones.
        guide: A guide for ``model.prior`` that can be called without arguments: one of ours, or an AutoGuide of Pyro.
        history: One record an epoch.
        kl_weight: Weight of the divergence it was fitted with; below 1 the posterior is a tempered (cold) one.
    """

    def __init__(
        self,
        model: SparseNetwork,
        guide: Any,
        *,
        history: Sequence[Mapping[str, Any]] = (),
        kl_weight: float = 1.0,
    ) -> None:
        self.model, self.guide = model, guide
        self.history = list(history)
        self.kl_weight = kl_weight

    @property
    def tempered(self) -> bool:
        """Whether the posterior is a tempered (cold) one: fitted with a KL weight below 1."""
        return self.kl_weight < 1

    # ---- prediction --------------------------------------------------------------------------------------------------

    def predict(
        self, x: Tensor, *, num_samples: int = 32, batch_size: int = 1024, return_draws: bool = False
    ) -> Tensor | Classes | Normals:
        """Predicts by averaging over draws of the posterior.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            num_samples: Draws of the posterior.
            batch_size: Rows at a time.
            return_draws: Whether to return what each draw predicts too.

        Returns:
            Class probabilities averaged over draws, shape ``(rows, classes)``, or the predictive mean, shape
            ``(rows,)``; with ``return_draws`` a :class:`~bnn_pyro.likelihoods.Classes` or
            :class:`~bnn_pyro.likelihoods.Normals`.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or a number is below 1.
        """
        self._check(x, num_samples=num_samples, batch_size=batch_size)
        predicted = self.model.likelihood.predict(*self._outputs(x, num_samples, batch_size))
        if return_draws:
            return predicted
        return predicted.probabilities if isinstance(predicted, Classes) else predicted.mean.mean(0)

    @torch.no_grad()
    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Returns the net's outputs, shape ``(draws, rows, out)``, and the likelihood's latents, ``(draws,)``."""
        parameters, latents = self._drawn(num_samples)
        call = torch.vmap(self.model.call_net, in_dims=(0, None), randomness="different", chunk_size=_DRAWS_AT_ONCE)
        with self.model.evaluating():
            output = torch.cat([call(parameters, rows) for rows in x.to(self._like).split(batch_size)], 1)
        return output, latents

    def _drawn(self, num_samples: int) -> tuple[dict[str, Tensor], Tensor | None]:
        """Returns draws of what the net is called with, ``(draws, *shape)``, and of the likelihood's latent."""
        draws = [self._draw() for _ in range(num_samples)]
        stacked = {name: torch.stack([values[name] for values, _ in draws]) for name in draws[0][0]}
        latents = [latent for _, latent in draws if latent is not None]
        return stacked, torch.stack(latents) if latents else None

    def _draw(self) -> tuple[dict[str, Tensor], Tensor | None]:
        with pyro.get_param_store().scope():
            values = self.guide()
        weights, gates = self._split(values)
        return self.model.assemble(weights, gates), values.get(NOISE_SITE)

    def _split(self, values: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        weights = {p.name: values[p.name] for p in self.model.bayesian}
        return weights, {name: values[gate_site(name)] for name in self.model.groups}

    @property
    def _like(self) -> Tensor:
        return next(self.model.net.parameters())

    def _check(self, x: Tensor, **positive: int) -> None:
        for name, value in positive.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if tuple(x.shape[1:]) != self.model.input_shape or not len(x):
            wanted = ", ".join(map(str, self.model.input_shape))
            raise ValueError(f"x must have shape (rows, {wanted}) and a row, got {tuple(x.shape)}")
        if not torch.isfinite(x).all():
            raise ValueError("x must be finite, got NaN or infinite values")

    # ---- the median-probability model --------------------------------------------------------------------------------

    def inclusion(self, *, num_samples: int = 200) -> dict[str, Tensor]:
        r"""Returns the inclusion probability :math:`\gamma` of each node: group -> shape ``(size,)``.

        Args:
            num_samples: Draws to estimate it from, for a guide that does not tell (Pyro's own).

        Returns:
            Group -> inclusion probabilities.
        """
        if isinstance(self.guide, AutoProgram):
            found = self.guide.inclusion()
            return {name: found[gate_site(name)] for name in self.model.groups}
        with torch.no_grad(), pyro.get_param_store().scope():
            draws = [self._split(self.guide())[1] for _ in range(num_samples)]
        return {n: torch.stack([(d[n] > 0.5).to(self._like) for d in draws]).mean(0) for n in self.model.groups}

    def keep(self) -> dict[str, Tensor]:
        r"""Returns which nodes the median-probability model keeps, :math:`\gamma > 1/2`.

        Returns:
            Group -> bool, shape ``(size,)``.
        """
        if isinstance(self.guide, AutoProgram):
            return {name: gamma > 0.5 for name, gamma in self.inclusion().items()}
        return {name: gate > 0.5 for name, gate in self._split(self._medians())[1].items()}

    @torch.no_grad()
    def _medians(self) -> dict[str, Tensor]:
        with pyro.get_param_store().scope():
            values: dict[str, Tensor] = self.guide.median()
        return values

    def median_values(self, *, keep: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        r"""Returns each latent site's value in the median-probability model.

        Args:
            keep: Group -> which gates are open, bool, shape ``(size,)``; for groups without a mask
                :math:`\gamma > 1/2`.

        Returns:
            Latent site -> value.

        Raises:
            ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype.
        """
        kept_positions(self.model.net, self.model.nodes.groups, keep or {})  # checks the masks
        gates = {**self.keep(), **(keep or {})}
        return {**self._medians(), **{gate_site(n): gates[n].to(self._like) for n in self.model.groups}}

    @torch.no_grad()
    def median_model(self, *, keep: Mapping[str, Tensor] | None = None) -> nn.Module:
        r"""Returns the median-probability model as a plain module of the net's own class.

        Gates are :math:`1[\gamma > 1/2]`, scales at their medians, slabs at their means; a closed node's columns, row
        and bias are 0. The net of a shrunk posterior stands behind a
        :class:`~bnn_pyro.pruning.cutting.InputSelection` if it has lost inputs.

        Args:
            keep: Group -> which nodes are open, bool, shape ``(size,)``; for groups without a mask
                :math:`\gamma > 1/2`.

        Returns:
            A copy of the net in eval mode, without gradients.

        Raises:
            ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype.
        """
        weights, gates = self._split(self.median_values(keep=keep))
        net = copy.deepcopy(self.model.net).eval().requires_grad_(False)
        for name, value in self.model.assemble(weights, gates, absent=True).items():
            net.get_parameter(name).copy_(value)
        return with_selection(net, self.model.selection)

    def shrink(self, *, keep: Mapping[str, Tensor] | None = None) -> "Posterior":
        r"""Returns the posterior of the network without its closed nodes.

        It can be trained on by ``fit(smaller.model, data, guide=smaller.guide)``.

        Args:
            keep: Group -> which nodes stay, bool, shape ``(size,)``; default :math:`\gamma > 1/2`. Groups without a
                mask keep all.

        Returns:
            The smaller posterior.

        Raises:
            ValueError: If a group would be left without a node, the guide is not one of ours, or ``keep`` does not fit.
        """
        shrunk = shrink(self.model, self.guide, self.keep() if keep is None else keep)
        return Posterior(shrunk.model, shrunk.guide, history=self.history, kl_weight=self.kl_weight)

    def evaluate(
        self, x: Tensor, y: Tensor, *, num_samples: int = 0, batch_size: int = 1024, y_std: float = 1.0
    ) -> dict[str, float]:
        """Measures the posterior on data.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            y: Observations, shape ``(rows,)``.
            num_samples: Draws to average over; 0 for the median-probability model alone.
            batch_size: Rows at a time.
            y_std: Standard deviation by which y was divided, so that errors are told on its original scale.

        Returns:
            ``accuracy, nll, ece, brier`` for classes; ``rmse, nll, ece, coverage95`` for regression.

        Raises:
            ValueError: If x or y has the wrong shape, is not finite or out of range, or so is a number.
        """
        self._check(x, batch_size=batch_size)
        if num_samples < 0:
            raise ValueError(f"num_samples must not be negative, got {num_samples}")
        y = y.to(self._like.device)
        if num_samples:
            output, latent = self._outputs(x, num_samples, batch_size)
        else:
            output, latent = self._median_outputs(x, batch_size)
        self.model.likelihood.check(output[0], y)
        predicted = self.model.likelihood.predict(output, latent)
        if isinstance(predicted, Classes):
            return classification_metrics(predicted.probabilities, y)
        return regression_metrics(predicted.mean, predicted.sd, y, y_std=y_std)

    @torch.no_grad()
    def _median_outputs(self, x: Tensor, batch_size: int) -> tuple[Tensor, Tensor | None]:
        values = self.median_values()
        weights, gates = self._split(values)
        parameters = self.model.assemble(weights, gates, absent=True)
        with self.model.evaluating():
            output = torch.cat([self.model.call_net(parameters, rows) for rows in x.to(self._like).split(batch_size)])
        latent = values.get(NOISE_SITE)
        return output.unsqueeze(0), None if latent is None else latent.unsqueeze(0)

    @property
    def is_classification(self) -> bool:
        """Whether the likelihood is categorical."""
        return isinstance(self.model.likelihood, Categorical)
