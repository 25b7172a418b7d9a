"""Whether inputs are given gates: two shorter fits, with them and without, and what held-out rows say."""

import logging
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bnn_pyro.data import Dataset, Split
from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.held_out import split_rows

logger = logging.getLogger(__name__)

_FRACTION = 0.2  # of the training rows that are held out
_LEAST_ROWS = 20  # held out; fewer say too little
_SHARE = 0.5  # of the recipe's epochs that each trial takes
_DRAWS = 64


@dataclass(frozen=True)
class InputTrial:
    """What held-out rows said of gates on inputs.

    Attributes:
        gain: Mean log score per held-out row that gates on inputs add; negative where they lose.
        gain_error: Its standard error.
        rows: Number of held-out rows.
        kept: How many inputs the trial with gates kept.
        inputs: How many there are.
    """

    gain: float
    gain_error: float
    rows: int
    kept: int
    inputs: int

    @property
    def select_inputs(self) -> bool:
        """Whether inputs get gates: where held-out rows are predicted better with them, or as well."""
        return self.gain >= 0 and 0 < self.kept < self.inputs

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
) -> InputTrial | None:
    """Fit a recipe with gates on the inputs and without, each for half of its epochs, and score held-out rows.

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

    Returns:
        The trial; None where there is one input only, or there are too few rows to hold 20 out.
    """
    inputs = dataset.train.x[0].numel()
    rows = len(dataset.train) if dataset.validation is None else round(len(dataset.validation) / _FRACTION)
    if inputs < 2 or rows * _FRACTION < _LEAST_ROWS:
        return None
    kept, held_out = split_rows(dataset, _FRACTION, seed)
    short = replace(settings.with_epochs(max(1, round(_SHARE * settings.epochs))), select_inputs=False)
    with seeded(seed, torch.device(device)):
        scores, counts = _scores(dataset, kept, held_out, short, device, progress)
    gain, error = paired_difference(scores[True], scores[False])
    trial = InputTrial(gain, error, len(held_out), counts, inputs)
    logger.info("gates on inputs: %s", trial)
    return trial


def _scores(
    dataset: Dataset,
    kept: Split,
    held_out: Split,
    settings: Recipe,
    device: str | torch.device,
    progress: bool | None,
) -> tuple[dict[bool, torch.Tensor], int]:
    """Return log scores of held-out rows without and with gates on inputs, and how many inputs the latter kept."""
    train, (x, y) = (settings.tensors(part, device) for part in (kept, held_out))
    likelihood = settings.likelihood(dataset.task)
    net = settings.make_net(dataset.input_shape, settings.outputs(dataset.num_classes))
    dense = train_dense(net, train, likelihood=likelihood, **asdict(settings.dense), progress=progress)
    scores, count = {}, 0
    for gates in (False, True):
        own = replace(settings, select_inputs=gates)
        model = own.make_model(dense, train[0][:2], likelihood, len(kept))
        posterior = fit(
            model,
            train,
            **own.fit_options(),
            elbo=SparseELBO(local_reparameterization="exact"),
            guide=own.make_guide(model),
            progress=progress,
        )
        scores[gates] = log_scores(posterior.predict(x, num_samples=_DRAWS, return_draws=True), y)
        if gates and not empty_groups(posterior.keep()):
            count = next(int(m.sum()) for n, m in posterior.keep().items() if not model.groups[n].writers)
    return scores, count
