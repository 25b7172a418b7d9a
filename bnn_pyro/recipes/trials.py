"""What a recipe leaves to held-out rows, decided before the run: which inputs are read, and the noise."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

import torch

from bnn_pyro.data import Dataset
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.generators import seeded
from bnn_pyro.likelihoods import MeanDependentNoise, Normals
from bnn_pyro.recipes.defaults import sampled_slab
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.input_trial import InputTrial, try_inputs
from bnn_pyro.recipes.noise_trial import NoiseTrial, try_noise
from bnn_pyro.recipes.trial_fits import TrialFits, has_trial_rows

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trials:
    """What held-out rows said of what a recipe left open; None where they were not asked.

    Args:
        inputs: Of inputs that say little.
        noise: Of a noise that follows the prediction.
    """

    inputs: InputTrial | None = None
    noise: NoiseTrial | None = None

    def decide(self, settings: Recipe) -> Recipe:
        """Return settings of which nothing is left open: where rows were not asked, all inputs and a constant noise.

        Inputs have no gates then, as those were compared that a shorter fit had kept. A noise that follows the mean is
        that of the sampled network.

        Args:
            settings: The settings.
        """
        if settings.select_inputs == "auto":
            settings = replace(settings, select_inputs=False)
            if self.inputs is not None and self.inputs.reads is not None:
                settings = _reading(settings, self.inputs.reads, len(self.inputs.inclusion))
        if settings.noise == "auto":
            settings = replace(settings, noise="constant")
            if self.noise is not None and self.noise.noise == "mean" and settings.refinement is not None:
                sampled = replace(settings.refinement, likelihood=MeanDependentNoise())
                settings = replace(settings, refinement=sampled)
        return settings


def _reading(settings: Recipe, reads: tuple[int, ...], inputs: int) -> Recipe:
    """Return settings that read some of the inputs, with the usual slab for as many where they have the usual one."""
    refinement = settings.refinement
    if refinement is not None and refinement.slab == sampled_slab(inputs):
        refinement = replace(refinement, slab=sampled_slab(len(reads)))
    return replace(settings, reads=reads, refinement=refinement)


def hold_trials(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    checkpoint: Callable[[str], Checkpoint] | None = None,
) -> Trials:
    """Ask held-out rows what a recipe leaves open, by fits of two fifths of its epochs.

    `bnn_pyro.recipes.input_trial.try_inputs` says which inputs are read, and
    `bnn_pyro.recipes.noise_trial.try_noise`, by the predictions of the fit that reads all, whether the noise
    follows them. Held-out rows are the validation rows of the data or, where there are none, a fifth of the training
    rows. Test rows are not looked at. The global random state is not changed.

    Args:
        dataset: The data.
        settings: The settings.
        seed: Seed of all that is random.
        device: Where to train.
        progress: Whether to show progress bars; None shows them on a terminal.
        checkpoint: Gives where a part is saved, and resumed from if it was stopped, by its name; None saves nothing.

    Returns:
        What they said; nothing where nothing is open, or there are too few rows to hold 20 out.
    """
    asks_inputs = settings.select_inputs == "auto" and dataset.train.x[0].numel() > 1
    asks_noise = settings.noise == "auto" and dataset.num_classes is None and settings.refinement is not None
    if not (asks_inputs or asks_noise) or not has_trial_rows(dataset):
        return Trials()
    with seeded(seed, torch.device(device)):
        fits = TrialFits(dataset, settings, seed=seed, device=device, progress=progress, checkpoint=checkpoint)
        inputs = try_inputs(fits) if asks_inputs else None
        noise = None
        if asks_noise:
            mean, _ = cast(Normals, fits.predicted(input_gates=settings.select_inputs is True)).moments()
            noise = try_noise(mean, fits.held_out[1], weight=fits.weight)
    found = Trials(inputs, noise)
    logger.info("held-out rows: %s", found)
    return found
