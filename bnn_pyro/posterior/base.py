"""Posterior: what all posteriors of a network do, whether a guide, Markov chains or snapshots hold them."""

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from bnn_pyro.arguments import check_reals, check_wholes
from bnn_pyro.data.sources import as_scored, as_targets
from bnn_pyro.evaluation import ClassProbabilities, NormalMixture
from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.likelihoods import Categorical, Mixture, Prediction
from bnn_pyro.likelihoods.base import targets_alone, weights_of
from bnn_pyro.likelihoods.kinds import in_dtype
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.inputs import checked_inputs, warn_of_raw_inputs
from bnn_pyro.posterior.network_draws import NetworkDraws, latent_of, parts_like
from bnn_pyro.posterior.scores import average, predictive_distribution, scores
from bnn_pyro.posterior.tempering import Temperature, tempering
from bnn_pyro.posterior.threads import HANDLERS
from bnn_pyro.pruning.cutting import check_masks, with_selection

Inputs = Any
"""A tensor, an array, a DataFrame; of inputs also a tuple or dictionary of several, a ``Dataset`` or ``DataLoader``."""

_DRAWS = 32  # of a posterior that makes its draws afresh


class Posterior(ABC):
    """The posterior of a :class:`~bnn_pyro.network.SparseNetwork`.

    Args:
        model: The network; its points (parameters without a slab) are the trained ones.
        history: One record per epoch.
        kl_weight: Weight of the divergence it was fitted with; below 1 the posterior is a tempered (cold) one.

    Attributes:
        model: The network.
        history: One record per epoch; empty where there were no epochs.
        kl_weight: Weight of the divergence.
        temperature: Temperature of the draws relative to the posterior's, ``"cooled"`` or ``"adapted"``; None where
            they were not taken at one.
    """

    temperature: Temperature | None = None

    def __init__(
        self, model: SparseNetwork, *, history: Sequence[Mapping[str, Any]] = (), kl_weight: float = 1.0
    ) -> None:
        check_reals({"kl_weight": kl_weight})
        if not (math.isfinite(kl_weight) and kl_weight >= 0):
            raise ValueError(f"kl_weight must be finite and not negative, got {kl_weight}")
        self.model = model
        self.history = list(history)
        self.kl_weight = kl_weight

    # ---- what it is --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def num_draws(self) -> int | None:
        """How many draws it holds, of all chains; None where draws are made afresh."""

    @property
    def chains(self) -> int:
        """How many Markov chains its draws are of; 1 where they are independent."""
        return 1

    @property
    def tempering(self) -> str:
        """How it is tempered, in words; empty where it is the posterior itself."""
        return tempering(self.kl_weight, self.temperature)

    @property
    def tempered(self) -> bool:
        """Whether it is not the posterior itself: by a KL weight below 1, or draws that are cooled or adapted to."""
        return bool(self.tempering)

    @property
    def is_classification(self) -> bool:
        """Whether the likelihood is categorical."""
        return isinstance(getattr(self.model.likelihood, "base", self.model.likelihood), Categorical)

    # ---- prediction --------------------------------------------------------------------------------------------------

    @overload
    def predict(
        self,
        x: Inputs,
        *,
        num_samples: int | None = None,
        batch_size: int = 1024,
        return_draws: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def predict(
        self, x: Inputs, *, num_samples: int | None = None, batch_size: int = 1024, return_draws: Literal[True]
    ) -> Prediction: ...

    def predict(
        self, x: Inputs, *, num_samples: int | None = None, batch_size: int = 1024, return_draws: bool = False
    ) -> Tensor | Prediction:
        """Predict by averaging over draws.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``: a tensor, an array, a DataFrame, a Dataset or a DataLoader; or a
                tuple or dictionary of several, as the example input.
            num_samples: How many draws: made afresh by a guide, of all chains and evenly spaced, or the last snapshots;
                None for 32 of a guide, and for all that are held. A guide of a network with BatchNorm holds some, each
                with running statistics of its own (:class:`~bnn_pyro.posterior.settled_draws.SettledDraws`).
            batch_size: Rows at a time.
            return_draws: Whether to return what each draw predicts too.

        Returns:
            Class probabilities averaged over draws, shape ``(rows, classes)``, or the predictive mean, of the targets'
            shape; with ``return_draws`` a :class:`~bnn_pyro.likelihoods.Classes`,
            :class:`~bnn_pyro.likelihoods.Normals` or :class:`~bnn_pyro.likelihoods.Mixture`, chain after chain.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or a number is below 1.
        """
        wanted = self._wanted(num_samples)
        x = self._checked(x, num_samples=wanted, batch_size=batch_size)
        warn_of_raw_inputs(self.model, x)
        predicted = self.model.likelihood.predict(*self._outputs(x, wanted, batch_size))
        return predicted if return_draws else average(predicted)

    def predictive(
        self,
        x: Inputs,
        *,
        num_samples: int | None = None,
        batch_size: int = 1024,
        y_mean: float = 0.0,
        y_std: float = 1.0,
    ) -> NormalMixture | ClassProbabilities | Mixture:
        """Return the predictive distribution of what `predict` predicts the mean of, as an object to ask.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``: a tensor, an array, a DataFrame, a Dataset or a DataLoader.
            num_samples: How many draws, as in `predict`.
            batch_size: Rows at a time.
            y_mean: What was taken away from the targets before they were divided; not used for classes.
            y_std: What they were divided by, so that the distribution is in original units; not used for classes.

        Returns:
            A :class:`~bnn_pyro.evaluation.NormalMixture`, with mean, std, quantiles, intervals, samples, log
            probabilities and CRPS; a :class:`~bnn_pyro.evaluation.ClassProbabilities` for classes, and a
            :class:`~bnn_pyro.likelihoods.Mixture` for other targets.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or a number is out of range.
        """
        drawn = self.predict(x, num_samples=num_samples, batch_size=batch_size, return_draws=True)
        return predictive_distribution(drawn, y_mean=y_mean, y_std=y_std)

    def evaluate(
        self,
        x: Inputs,
        y: Inputs | None = None,
        *,
        weight: Inputs | None = None,
        num_samples: int | None = None,
        batch_size: int = 1024,
        y_std: float = 1.0,
    ) -> dict[str, float]:
        """Score what `predict` predicts, the mean over draws; `evaluate_median` scores the median model.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``: a tensor, an array, a DataFrame, a Dataset or a DataLoader; or
                without ``y`` all that `fit` takes as data: (x, y), (x, y, weight), a Dataset or a DataLoader of such.
            y: Observations, shape ``(rows, ...)``; None where ``x`` holds them.
            weight: How many rows each row counts for, shape ``(rows,)``, by which every mean over rows is weighted;
                None for 1, and for the weights beside the observations.
            num_samples: How many draws, as in `predict`; None for 32 of a guide, and for all that are held.
            batch_size: Rows at a time.
            y_std: Standard deviation by which y was divided, so that errors are reported on its original scale.

        Returns:
            ``accuracy, nll, ece, brier`` for classes; for regression ``rmse, nll, ece, crps`` with coverage and width
            of central intervals, such as ``coverage90`` and ``width90``; ``nll`` and the likelihood's own for other
            targets.

        Raises:
            ValueError: If x or y has the wrong shape, is not finite or out of range, or so is a number.
        """
        wanted = self._wanted(num_samples)
        x, y, weight = as_scored(x, y, weight)
        x = self._checked(x, num_samples=wanted, batch_size=batch_size)
        return self._scores(*self._outputs(x, wanted, batch_size), y, weight, y_std)

    def evaluate_median(
        self,
        x: Inputs,
        y: Inputs | None = None,
        *,
        weight: Inputs | None = None,
        batch_size: int = 1024,
        y_std: float = 1.0,
    ) -> dict[str, float]:
        """Score the median-probability model, the single network that `prune` ships; `evaluate` scores the posterior.

        Args:
            x: Inputs, or inputs and observations, as for `evaluate`.
            y: Observations, shape ``(rows, ...)``; None where ``x`` holds them.
            weight: How many rows each row counts for, shape ``(rows,)``, as for `evaluate`.
            batch_size: Rows at a time.
            y_std: Standard deviation by which y was divided, so that errors are reported on its original scale.

        Returns:
            The scores that `evaluate` returns.

        Raises:
            ValueError: If x or y has the wrong shape, is not finite or out of range, or so is a number.
        """
        x, y, weight = as_scored(x, y, weight)
        x = self._checked(x, batch_size=batch_size)
        return self._scores(*self._median_outputs(x, batch_size), y, weight, y_std)

    def _wanted(self, num_samples: int | None) -> int:
        """Return how many draws are meant; None means all that are held, or 32 where they are made afresh."""
        return (self.num_draws or _DRAWS) if num_samples is None else num_samples

    def _scores(
        self, output: Tensor, latent: Tensor | None, y: Inputs, weight: Inputs | None, y_std: float
    ) -> dict[str, float]:
        """Return the scores of the net's outputs, shape ``(draws, rows, out)``, with the latents, ``(draws, ...)``."""
        check_reals({"y_std": y_std})
        if not 0 < y_std < math.inf:
            raise ValueError(f"y_std must be positive and finite, got {y_std}")
        y = self._targets(y)
        self.model.likelihood.check(output[0], y)
        targets, beside = targets_alone(self.model.likelihood, y), weights_of(self.model.likelihood, y)
        weight = beside if weight is None else as_targets("weight", weight).to(y.device)
        return scores(self.model.likelihood.predict(output, latent), targets, y_std=y_std, weight=weight)

    @abstractmethod
    def network_draws(self, *, num_samples: int | None = None) -> list[NetworkDraws]:
        """Return the draws that `predict` averages over, as tensors to call a network with.

        Args:
            num_samples: How many draws, as in `predict`.

        Returns:
            The draws in their order; in several parts where networks of several sizes were drawn.
        """

    # ---- which nodes are kept ----------------------------------------------------------------------------------------

    @abstractmethod
    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        r"""Return the inclusion probability :math:`\gamma` of each node.

        Args:
            num_samples: Draws to estimate it from; None for all that are held. A guide that knows it takes none.

        Returns:
            Group -> inclusion probabilities, shape ``(size,)``.
        """

    @abstractmethod
    def keep(self) -> dict[str, Tensor]:
        r"""Return which nodes the median-probability model keeps, :math:`\gamma > 1/2`.

        Returns:
            Group -> bool, shape ``(size,)``.
        """

    @abstractmethod
    def gate_draws(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return whether each gate is open in each of some draws.

        Args:
            num_samples: How many draws, as in `predict`; None for 4,000 of a guide, and for all that are held.

        Returns:
            Group -> bool, shape ``(draws, size)``, chain after chain.
        """

    # ---- the median-probability model --------------------------------------------------------------------------------

    def masks(self, keep: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        """Return which nodes of every group are kept: by the masks given, and by `keep` where there is none.

        Args:
            keep: Group -> which nodes are kept, bool, shape ``(size,)``.

        Returns:
            Group -> bool, shape ``(size,)``.

        Raises:
            ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype.
        """
        given = dict(keep or {})
        check_masks(self.model.nodes.groups, given)
        return given if given.keys() >= self.model.groups.keys() else {**self.keep(), **given}

    def median_values(self, *, keep: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
        r"""Return each latent site's value in the median-probability model.

        Args:
            keep: Group -> which gates are open, bool, shape ``(size,)``; for groups without a mask
                :math:`\gamma > 1/2`.

        Returns:
            Latent site -> value.

        Raises:
            ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype.
        """
        masks = self.masks(keep)
        return {**self._medians(), **{gate_site(n): masks[n].to(self._like) for n in self.model.groups}}

    def median_model(self, *, keep: Mapping[str, Tensor] | None = None) -> nn.Module:
        r"""Return the median-probability model as a plain module of the net's own class.

        Gates are :math:`1[\gamma > 1/2]`, scales at their medians, slabs at their means; a closed node's columns, row
        and bias are 0. Of snapshots it is the last one, and of several Markov chains a single draw
        (:meth:`~bnn_pyro.posterior.sampled.SampledPosterior.best_draw`), as means over chains that number nodes
        differently say nothing. The net of a shrunk posterior stands behind a
        :class:`~bnn_pyro.pruning.cutting.InputSelection` if it has lost inputs.

        Args:
            keep: Group -> which nodes are open, bool, shape ``(size,)``; for groups without a mask
                :math:`\gamma > 1/2`.

        Returns:
            A copy of the net in eval mode, without gradients.

        Raises:
            ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype.
        """
        return with_selection(self.median_net(keep=keep), self.model.selection)

    @torch.no_grad()
    def median_net(self, *, keep: Mapping[str, Tensor] | None = None) -> nn.Module:
        r"""Return the median-probability model as `median_model` does, as it takes the inputs that the model selects.

        Args:
            keep: Group -> which nodes are open, bool, shape ``(size,)``; for groups without a mask
                :math:`\gamma > 1/2`.

        Returns:
            A copy of ``model.net`` in eval mode, without gradients, without a selection of inputs before it.

        Raises:
            ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype.
        """
        weights, gates = self._split(self.median_values(keep=keep))
        net = copy.deepcopy(self.model.net).eval().requires_grad_(False)
        for name, value in self.model.assemble(weights, gates, absent=True).items():
            net.get_parameter(name).copy_(value)
        return net

    # ---- what a kind of posterior answers ----------------------------------------------------------------------------

    @abstractmethod
    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        """Return the net's outputs, shape ``(draws, rows, out)``, and the likelihood's latents, ``(draws,)``."""

    @abstractmethod
    def _medians(self) -> dict[str, Tensor]:
        """Return each latent site's value in the median-probability model; gates may be missing."""

    # ---- what they share ---------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _median_outputs(self, x: Tensor, batch_size: int) -> tuple[Tensor, Tensor | None]:
        values = self.median_values()
        parameters = self.model.assemble(*self._split(values), absent=True)
        with HANDLERS, self.model.evaluating():
            rows = parts_like(self._like, x, batch_size)
            output = torch.cat([self.model.call_net(parameters, some) for some in rows])
        latent = latent_of(self.model, values)
        return output.unsqueeze(0), None if latent is None else latent.unsqueeze(0)

    def _split(self, values: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the slabs among the sites' values, by parameter, and the gates, by group."""
        weights = {p.name: values[p.name] for p in self.model.bayesian}
        return weights, {name: values[gate_site(name)] for name in self.model.groups}

    def _targets(self, y: Inputs) -> Tensor:
        return in_dtype(self.model.likelihood, as_targets("y", y).to(self._like.device), self._like.dtype)

    @property
    def _like(self) -> Tensor:
        return next(self.model.net.parameters())

    def _checked(self, x: Inputs, **positive: int) -> Tensor:
        """Return inputs as a tensor, or raise unless they fit the network and numbers are at least 1."""
        check_wholes(positive)
        return checked_inputs(self.model, x)
