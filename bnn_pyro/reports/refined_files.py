"""The files that a refined network adds to a run's folder: its posterior, its program, a picture of bands."""

import logging
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from bnn_pyro.data import TableEncoding
from bnn_pyro.export import export_net
from bnn_pyro.inference.generators import seeded
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.files import save_posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.predictive_net import PredictiveNet
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.reports.figures import write_figure
from bnn_pyro.reports.plots import kept_inputs, most_influential_input, plot_bands
from bnn_pyro.reports.tables import ensemble_program, example_rows

logger = logging.getLogger(__name__)

REFINED_FILES = ("refined.pt", "ensemble.pt2", "bands.png")
"""The names of the files."""

_POSTERIOR, _PROGRAM, _BANDS = REFINED_FILES


def save_refined(refined: SampledPosterior, folder: str | Path) -> None:
    """Write the posterior of a refined network into a run's folder.

    Args:
        refined: The posterior.
        folder: The folder.
    """
    save_posterior(refined, Path(folder) / _POSTERIOR)


def write_ensemble(
    ensemble: PredictiveNet | None, x: Tensor, folder: str | Path, encoding: TableEncoding | None = None
) -> None:
    """Write the program of a refined network into a run's folder; one that is there and is no more is removed.

    Args:
        ensemble: The program; None if there is none.
        x: Inputs of it, shape ``(rows, *input_shape)``.
        folder: The folder.
        encoding: Encoding of the table whose raw rows the program takes; None for inputs as the network's.
    """
    path = Path(folder) / _PROGRAM
    if ensemble is None:
        path.unlink(missing_ok=True)
    elif encoding is None:
        export_net(ensemble, x, path)
    else:
        export_net(ensemble_program(ensemble, encoding), example_rows(encoding), path)


def write_bands(figure: Figure | None, folder: str | Path) -> None:
    """Write the picture of bands into a run's folder; one that is there and is no more is removed.

    Args:
        figure: The picture; None if there is none.
        folder: The folder.
    """
    write_figure(figure, Path(folder) / _BANDS)


def draw_bands(
    posterior: Posterior,
    refined: SampledPosterior,
    x: Tensor,
    *,
    reference: SampledPosterior | None = None,
    y_mean: float = 0.0,
    y_std: float = 1.0,
) -> Figure | None:
    """Draw the bands of a posterior and of its refined network along the kept input that matters most.

    Draws that are made afresh for it are the same each time, and the global random state is left as it is.

    Args:
        posterior: The posterior that has chosen the nodes.
        refined: The posterior of the pruned network.
        x: Rows, such as the training rows, shape ``(rows, *input_shape)``.
        reference: The posterior of the whole network, sampled; None if it was not.
        y_mean: As for `bnn_pyro.reports.plots.plot_bands`.
        y_std: Likewise.

    Returns:
        The picture; None where the inputs are no vectors or none is kept, where several numbers per row are predicted,
        or where it cannot be drawn, which is logged.
    """
    if not refined.model.layout.are_features or not len(kept_inputs(refined)):
        return None
    if not refined.is_classification and refined.predict(x[:1], num_samples=1).dim() > 1:
        return None
    shown: dict[str, Posterior] = {_name(posterior): posterior}
    shown |= {} if reference is None else {"reference": reference}
    device = next(posterior.model.net.parameters()).device
    try:
        with seeded(0, device):
            number = most_influential_input(refined, x)
            return plot_bands({**shown, "refined": refined}, x, number, y_mean=y_mean, y_std=y_std)
    except Exception as error:  # a picture is not to cost a run its report
        logger.warning("the picture of the bands cannot be drawn: %s", error)
        return None


def _name(posterior: Posterior) -> str:
    name = "SVI" if isinstance(posterior, GuidePosterior) else "posterior"
    return f"tempered {name}" if posterior.tempered else name
