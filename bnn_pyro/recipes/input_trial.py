"""Which inputs a network reads: those that a shorter fit keeps, if sampled networks need no others."""

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from bnn_pyro.devices import with_double
from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.evaluation.normal_mixture import NormalMixture
from bnn_pyro.likelihoods import Normals, Prediction
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.recipes.trial_fits import TrialFits


@dataclass(frozen=True)
class InputTrial:
    """What held-out rows said of the inputs that a fit with gates on them keeps.

    Attributes:
        gain: What a sampled network of these inputs adds to the score of one of all, mean over held-out rows; negative
            where it loses. The score is the negative CRPS of numbers, in the units of the targets that the networks
            see, and the log score of classes. None where there was nothing to compare, as all inputs were kept, or a
            layer ended empty.
        gain_error: Its standard error; None likewise.
        rows: Number of held-out rows.
        inclusion: Inclusion probability of each input by the fit with gates.
        is_empty: Whether a layer of that fit ended without a node.
    """

    gain: float | None
    gain_error: float | None
    rows: int
    inclusion: tuple[float, ...]
    is_empty: bool = False

    @property
    def kept(self) -> tuple[int, ...]:
        """Numbers of the inputs of inclusion probability above 1/2."""
        return tuple(number for number, gamma in enumerate(self.inclusion) if gamma > 0.5)

    @property
    def reads(self) -> tuple[int, ...] | None:
        """The inputs to read: those that are kept where held-out rows are predicted better by them, or as well.

        None stands for all.
        """
        return self.kept if self.gain is not None and self.gain >= 0 else None

    def record(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {**asdict(self), "inclusion": list(self.inclusion), "drops_inputs": self.reads is not None}


def try_inputs(fits: TrialFits) -> InputTrial:
    """Compare networks that read what a fit with gates on the inputs keeps with networks that read all, both sampled.

    Where that fit keeps all inputs, or a layer of it ends without a node, nothing is compared.

    Gates on inputs find those that say nothing, but a mean field has too little confidence in what some inputs add. Nor
    are fits without these inputs a judge: of energy's eight they drop one and predict held-out rows better than before,
    where networks that are sampled predict them clearly worse. So that the judge is the sampled network, which predicts
    in the end. Of numbers it is scored by its CRPS, as short chains of few rows can still have far too little noise,
    and a log score is about nothing else then.

    Args:
        fits: The fits, of a table of at least two inputs.

    Returns:
        The trial.

    Raises:
        ValueError: If the inputs have no gates.
    """
    y, proposed = fits.held_out[1], fits.posterior(input_gates=True)
    keep, group = proposed.keep(), proposed.model.nodes.inputs
    if group is None:
        raise ValueError("fits must be of a table whose inputs have gates, got a net whose inputs are no nodes")
    inclusion = tuple(proposed.inclusion()[group.name].detach().cpu().double().tolist())
    no_trial = InputTrial(None, None, len(y), inclusion, is_empty=bool(empty_groups(keep)))
    if no_trial.is_empty or keep[group.name].all() or empty_groups(fits.posterior(input_gates=False).keep()):
        return no_trial
    scores = [_scores(fits.sampled(reads), y) for reads in (keep[group.name], None)]
    return InputTrial(*paired_difference(*scores, weight=fits.weight), len(y), inclusion)


def _scores(predicted: Prediction, y: Tensor) -> Tensor:
    if not isinstance(predicted, Normals):
        return log_scores(predicted, y)
    mean, sd, y = map(with_double, (predicted.mean, predicted.sd, y))
    return -NormalMixture(mean.double(), sd.double().expand_as(mean)).crps(y.double())
