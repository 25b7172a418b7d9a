"""TrialFits: shorter fits of a recipe on some of the training rows, and short chains, to score the others."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.data import Dataset
from bnn_pyro.evaluation.spacing import evenly_spaced
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.mcmc.budget import transitions_within
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import logger as sampling_logger
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.likelihoods import Prediction
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.held_out import split_rows
from bnn_pyro.refinement import Refinement, sample_whole, selected_network

_FRACTION = 0.2  # of the training rows that are held out
_LEAST_ROWS = 20  # held out; fewer say too little
_SHARE = 0.4  # of the recipe's epochs, of the dense network too, that each fit takes
_DRAWS = 64
_SAMPLED_ROWS = 2_000  # that chains see at most
_SAMPLED_DRAWS = 50  # of each chain
_CHAINS = 8
_SECONDS = 4.0  # of sampling, counted and not timed
_MOST_TRANSITIONS, _FEWEST_TRANSITIONS = 6_000, 200


def has_trial_rows(dataset: Dataset) -> bool:
    """Return whether there are enough rows to hold 20 out: a fifth of the training rows, or the validation rows.

    Args:
        dataset: The data.
    """
    rows = len(dataset.train) if dataset.validation is None else round(len(dataset.validation) / _FRACTION)
    return rows * _FRACTION >= _LEAST_ROWS


class TrialFits:
    """Fits of a recipe with and without gates on its inputs, from one dense network, each made when it is asked for.

    Each takes two fifths of the recipe's epochs. They see neither test rows nor those that are held out: the validation
    rows of the data or, where there are none, a fifth of the training rows. Each is drawn from the seed.

    Args:
        dataset: The data, of which `has_trial_rows`.
        settings: The settings.
        seed: Seed of each fit, and of which rows are held out; the untrained net is drawn from the global state.
        device: Where to train.
        progress: Whether to show progress bars; None shows them on a terminal.
        checkpoint: Gives where a part is saved, and resumed from if it was stopped, by its name; None saves nothing.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: Recipe,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
        progress: bool | None = None,
        checkpoint: Callable[[str], Checkpoint] | None = None,
    ) -> None:
        kept, held_out = split_rows(dataset, _FRACTION, seed)
        self.inputs = dataset.train.x[0].numel()
        self.train, scored = (settings.tensors(part, device) for part in (kept, held_out))
        self.held_out, self.weight = (scored[0], held_out.y.to(device)), held_out.weight
        self._how: dict[str, Any] = {"seed": seed, "progress": progress}
        self._checkpoint = checkpoint
        self._likelihood = settings.likelihood(dataset.task, is_weighted=dataset.is_weighted)
        self._settings = settings.with_epochs(max(1, round(_SHARE * settings.epochs)))
        training = replace(settings.dense, epochs=max(1, round(_SHARE * settings.dense.epochs)))
        net = settings.make_net(dataset.input_shape, settings.outputs(dataset.num_classes))
        options = asdict(training) | self._options("trial-dense")
        self._dense = train_dense(net, self.train, likelihood=self._likelihood, **options)
        self._found: dict[bool, tuple[GuidePosterior, Prediction | None]] = {}

    def posterior(self, *, input_gates: bool) -> GuidePosterior:
        """Return the fit with or without gates on the inputs.

        Args:
            input_gates: Whether the inputs have gates.
        """
        if input_gates not in self._found:
            settings = replace(self._settings, select_inputs=input_gates)
            model = settings.make_model(self._dense, self.train[0][:2], self._likelihood, len(self.train[0]))
            found = fit(
                model,
                self.train,
                **settings.fit_options(),
                elbo=SparseELBO(local_reparameterization="exact"),
                guide=settings.make_guide(model),
                **self._options("trial-with-gates" if input_gates else "trial-without-gates"),
            )
            self._found[input_gates] = found, None
        return self._found[input_gates][0]

    def _options(self, part: str) -> dict[str, Any]:
        """Return how a part is run, and where it is saved."""
        return {**self._how, "checkpoint": None if self._checkpoint is None else self._checkpoint(part)}

    def predicted(self, *, input_gates: bool) -> Prediction:
        """Return what 64 draws of a fit predict of the held-out rows.

        Args:
            input_gates: Whether the inputs have gates.
        """
        posterior = self.posterior(input_gates=input_gates)
        found = self._found[input_gates][1]
        if found is None:
            found = posterior.predict(self.held_out[0], num_samples=_DRAWS, return_draws=True)
            self._found[input_gates] = posterior, found
        return found

    def sampled(self, reads: Tensor | None) -> Prediction:
        """Return what chains predict of the held-out rows: short ones, of the nodes that are kept without input gates.

        They see 2,000 rows at most, and make as many transitions as take about 4 seconds, by counting. They start at
        dense networks of the kept nodes, and hardly mix; that is no matter where two of them are compared.

        Args:
            reads: Which inputs their network reads, bool, shape ``(inputs,)``; None for all.
        """
        refinement = self._settings.refinement or Refinement()
        rows = evenly_spaced(len(self.train[0]), _SAMPLED_ROWS).to(self.train[0].device)
        model = selected_network(self.posterior(input_gates=False), inputs=reads)
        model.num_data = len(rows)
        plan = SamplingPlan(kernel="mclmc", chains=_CHAINS, draws=_SAMPLED_DRAWS, target_error=0.02)
        count = max(_FEWEST_TRANSITIONS, min(_MOST_TRANSITIONS, transitions_within(model, plan, _SECONDS)))
        plan = replace(plan, warmup=count // 2, thinning=count // 2 // _SAMPLED_DRAWS)
        with _no_warnings(sampling_logger):
            found = sample_whole(
                model,
                (self.train[0][rows], self.train[1][rows]),
                Refinement(plan=plan, until=None, slab=refinement.slab),
                engine="traced",
                **self._options("trial-of-all-inputs" if reads is None else "trial-of-some-inputs"),
            )
        return found.predict(self.held_out[0], return_draws=True)


@contextmanager
def _no_warnings(logger: logging.Logger) -> Iterator[None]:
    """Hold back what a logger would say in this thread."""
    thread = threading.get_ident()

    def is_of_another(record: logging.LogRecord) -> bool:
        return record.thread != thread

    logger.addFilter(is_of_another)
    try:
        yield
    finally:
        logger.removeFilter(is_of_another)
