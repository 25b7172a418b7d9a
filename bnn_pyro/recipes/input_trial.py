"""Whether inputs are given gates: two shorter fits, with them and without, and what held-out rows say."""

from dataclasses import asdict, dataclass
from typing import Any

from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.recipes.trial_fits import TrialFits


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


def try_input_gates(fits: TrialFits) -> InputTrial:
    """Compare a fit with gates on the inputs with one without, by the log scores of held-out rows.

    Where the fit with gates, the first, keeps all inputs there is no other.

    Gates on inputs are a gain where many inputs say nothing, and a loss where a mean field has too little confidence in
    what an input adds: it depends on the table, so that rows decide which neither fit has seen.

    Args:
        fits: The fits, of a table of at least two inputs.

    Returns:
        The trial.
    """
    y, inputs = fits.held_out[1], fits.inputs
    count = _inputs_kept(fits.posterior(input_gates=True))
    if count in (0, inputs):
        return InputTrial(None, None, len(y), count, inputs)
    scores = (log_scores(fits.predicted(input_gates=gates), y) for gates in (True, False))
    return InputTrial(*paired_difference(*scores), len(y), count, inputs)


def _inputs_kept(posterior: GuidePosterior) -> int:
    """Return how many inputs are kept; 0 where a layer has no node left."""
    keep, groups = posterior.keep(), posterior.model.groups
    return 0 if empty_groups(keep) else next(int(keep[name].sum()) for name in keep if not groups[name].writers)
