"""The picture of partial dependence in a run's folder."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from bnn_pyro.data import TableEncoding
from bnn_pyro.inference.generators import seeded
from bnn_pyro.likelihoods import Mixture
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.scores import of_one_form
from bnn_pyro.reports.plots import kept_inputs, plot_partial_dependence

logger = logging.getLogger(__name__)

DEPENDENCE_FILE = "partial_dependence.png"


def draw_dependence(
    posterior: Posterior,
    x: Tensor,
    *,
    input_shape: Sequence[int] | None = None,
    refined: Posterior | None = None,
    y_mean: float = 0.0,
    y_std: float = 1.0,
    encoding: TableEncoding | None = None,
) -> Figure | None:
    """Draw the partial dependence of a refined network, or of the posterior where there is none.

    Draws that are made afresh for it are the same each time, and the global random state is left as it is.

    Args:
        posterior: The posterior that has chosen the nodes.
        x: Rows, such as the training rows, shape ``(rows, *input_shape)``.
        input_shape: Shape of one datum before it was flattened; None for that of x.
        refined: The posterior of the pruned network; None if it was not sampled.
        y_mean: As for `bnn_pyro.reports.plots.plot_partial_dependence`.
        y_std: Likewise.
        encoding: How a table became the inputs, for names and original units of the axes; None leaves numbers.

    Returns:
        The picture; None where the inputs are no vectors, as those of images, or none is kept, where targets are
        neither classes nor one real number per row, or where it cannot be drawn, which is logged.
    """
    drawn = posterior if refined is None else refined
    if len(input_shape or x.shape[1:]) != 1 or not drawn.model.layout.are_features or not len(kept_inputs(drawn)):
        return None
    with seeded(0, next(drawn.model.net.parameters()).device):
        if isinstance(of_one_form(drawn.predict(x[:1], num_samples=1, return_draws=True)), Mixture):
            return None
    name = "refined network" if refined is not None else f"{'tempered ' * drawn.tempered}posterior"
    try:
        with seeded(0, next(drawn.model.net.parameters()).device):
            return plot_partial_dependence(
                drawn,
                x,
                y_mean=y_mean,
                y_std=y_std,
                **_axes(encoding),
                title=f"Partial dependence, {name}",
            )
    except Exception as error:  # a picture is not to cost a run its report
        logger.warning("the picture of partial dependence cannot be drawn: %s", error)
        return None


def _axes(encoding: TableEncoding | None) -> dict[str, Any]:
    if encoding is None:
        return {}
    scale = {"x_mean": torch.tensor(encoding.means, device="cpu"), "x_std": torch.tensor(encoding.stds, device="cpu")}
    return {**scale, "input_names": encoding.feature_names, "target_name": encoding.target.name}
