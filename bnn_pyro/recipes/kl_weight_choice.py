"""The choice of a run's KL weight: a sparsity path on its training rows, before the run itself."""

from collections.abc import Callable
from dataclasses import asdict

import torch

from bnn_pyro.data import Dataset
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.recipes.definition import Recipe
from bnn_pyro.recipes.held_out import split_rows
from bnn_pyro.refinement import Refinement
from bnn_pyro.sparsity_path import SparsityPath, sparsity_path


def choose_kl_weight(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool | None = None,
    checkpoint: Callable[[str], Checkpoint] | None = None,
) -> SparsityPath:
    """Fit the path of a recipe, from a dense network that has not seen the held-out rows either.

    Held-out rows are the validation rows of the data or, where there are none, a fraction of the training rows, of each
    class alike. Test rows are not looked at. The global random state is not changed.

    Args:
        dataset: The data.
        settings: The settings, with a ``path``.
        seed: Seed of all that is random.
        device: Where to train.
        progress: Whether to show progress bars; None shows them on a terminal.
        checkpoint: Gives where a part is saved, and resumed from if it was stopped, by its name; None saves nothing.

    Returns:
        The path; ``path.chosen.kl_weight`` is the choice.

    Raises:
        ValueError: If the settings have no path, or there are too few rows to hold some out.
    """
    plan = settings.path
    if plan is None:
        raise ValueError("settings must have a path, got None")
    kept, held_out = split_rows(dataset, plan.validation, seed)
    train, scored = (settings.tensors(part, device) for part in (kept, held_out))
    likelihood = settings.likelihood(dataset.task, is_weighted=dataset.is_weighted)
    fitted = settings.with_kl_weight(settings.kl_weight).fit_options()  # so that the weight is that of the posterior
    with seeded(seed, torch.device(device)):
        dense = train_dense(
            settings.make_net(dataset.input_shape, settings.outputs(dataset.num_classes), inputs=kept.x),
            train,
            likelihood=likelihood,
            **asdict(settings.dense),
            augmentation=settings.augmentation,
            seed=seed,
            progress=progress,
            checkpoint=None if checkpoint is None else checkpoint("path-dense"),
        )
        model = settings.make_model(dense, train[0][:2], likelihood, len(kept))
        return sparsity_path(
            model,
            train,
            **{name: value for name, value in fitted.items() if name != "kl_weight"},
            kl_weights=plan.kl_weights,
            guide=settings.make_guide(model),
            elbo=SparseELBO(local_reparameterization="exact"),
            compute=Compute(channels_last=settings.reads_images),
            validation=scored,
            refinement=(settings.refinement or Refinement()) if plan.refine else None,
            seed=seed,
            progress=progress,
            checkpoint=checkpoint,
        )
