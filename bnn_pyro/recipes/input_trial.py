"""Whether inputs are given gates: two shorter fits, with them and without, and what held-out rows say."""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.data import Dataset
from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.held_out import split_rows

logger = logging.getLogger(__name__)

_FRACTION = 0.2  # of the training rows that are held out
_LEAST_ROWS = 20  # held out; fewer say too little
_SHARE = 0.5  # of the recipe's epochs, of the dense network too, that each trial takes
_DRAWS = 64


@dataclass(frozen=True)
class InputTrial:
    """What held-out rows said of gates on inputs.

    Attributes:
        gain: Mean log score per held-out row that gates on inputs add; negative where they lose. None where there was
            nothing to compare, as the fit with gates kept all inputs, or ended with an empty layer.
        gain_error: Its standard error; None likewise.
        rows: Number of held-out rows.
        kept: How many inputs the trial with gates kept.
        inputs: How many there are.
    """

    gain: float | None
    gain_error: float | None
    rows: int
    kept: int
    inputs: int

    @property
    def select_inputs(self) -> bool:
        """Whether inputs get gates: where held-out rows are predicted better with them, or as well."""
        return self.gain is not None and self.gain >= 0

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "select_inputs": self.select_inputs}


def try_input_gates(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    checkpoint: Callable[[str], Checkpoint] | None = None,
) -> InputTrial | None:
    """Fit a recipe with gates on the inputs and without, each for half of its epochs, and score held-out rows.

    Where the fit with gates, the first, keeps all inputs there is no other.

    Gates on inputs are a gain where many inputs say nothing, and a loss where a mean field has too little confidence in
    what an input adds: it depends on the table, so that rows decide which neither fit has seen. They are the validation
    rows of the data or, where there are none, a fifth of the training rows. Test rows are not looked at. The global
    random state is not changed.

    Args:
        dataset: The data.
        settings: The settings; their ``select_inputs`` is not looked at.
        seed: Seed of all that is random.
        device: Where to train.
        progress: Whether to show progress bars; None shows them on a terminal.
        checkpoint: Gives where a part is saved, and resumed from if it was stopped, by its name; None saves nothing.

    Returns:
        The trial; None where there is one input only, or there are too few rows to hold 20 out.
    """
    inputs = dataset.train.x[0].numel()
    rows = len(dataset.train) if dataset.validation is None else round(len(dataset.validation) / _FRACTION)
    if inputs < 2 or rows * _FRACTION < _LEAST_ROWS:
        return None
    kept, held_out = split_rows(dataset, _FRACTION, seed)
    short = replace(settings.with_epochs(max(1, round(_SHARE * settings.epochs))), select_inputs=False)
    training = replace(settings.dense, epochs=max(1, round(_SHARE * settings.dense.epochs)))
    train, (x, y) = (settings.tensors(part, device) for part in (kept, held_out))
    likelihood = settings.likelihood(dataset.task)
    with seeded(seed, torch.device(device)):
        net = settings.make_net(dataset.input_shape, settings.outputs(dataset.num_classes))
        saving = None if checkpoint is None else checkpoint("trial-dense")
        options = {**asdict(training), "seed": seed, "progress": progress, "checkpoint": saving}
        dense = train_dense(net, train, likelihood=likelihood, **options)
        count = inputs
        scores = []
        for gates in (True, False):
            own = replace(short, select_inputs=gates)
            model = own.make_model(dense, train[0][:2], likelihood, len(kept))
            saving = None if checkpoint is None else checkpoint(f"trial-{'with' if gates else 'without'}-gates")
            posterior = _fit(model, train, own, seed, progress, saving)
            if gates:
                count = _inputs_kept(posterior)
                if count in (0, inputs):
                    break
            scores.append(log_scores(posterior.predict(x, num_samples=_DRAWS, return_draws=True), y))
    gain, error = paired_difference(*scores) if len(scores) == 2 else (None, None)
    trial = InputTrial(gain, error, len(held_out), count, inputs)
    logger.info("gates on inputs: %s", trial)
    return trial


def _fit(
    model: SparseNetwork,
    train: tuple[Tensor, Tensor],
    settings: Recipe,
    seed: int,
    progress: bool | None,
    checkpoint: Checkpoint | None,
) -> GuidePosterior:
    elbo = SparseELBO(local_reparameterization="exact")
    how: dict[str, Any] = {"seed": seed, "progress": progress, "checkpoint": checkpoint}
    return fit(model, train, **settings.fit_options(), elbo=elbo, guide=settings.make_guide(model), **how)


def _inputs_kept(posterior: GuidePosterior) -> int:
    """Return how many inputs are kept; 0 where a layer has no node left."""
    keep, groups = posterior.keep(), posterior.model.groups
    return 0 if empty_groups(keep) else next(int(keep[name].sum()) for name in keep if not groups[name].writers)
