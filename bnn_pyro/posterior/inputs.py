"""Inputs that a posterior is asked about: whether they fit its network, and whether they can be as it was trained."""

import logging
from typing import Any

from torch import Tensor

from bnn_pyro.data.mapped import every
from bnn_pyro.data.sources import as_inputs, check_finite
from bnn_pyro.evaluation.scale import LARGEST, largest_rms
from bnn_pyro.network import SparseNetwork

logger = logging.getLogger(__name__)

_LEAST_ROWS, _MOST_ROWS = 10, 10_000  # of which a column's root mean square tells its scale


def checked_inputs(model: SparseNetwork, x: Any) -> Tensor:
    """Return inputs as one tensor.

    Args:
        model: The network.
        x: Inputs, shape ``(rows, *input_shape)``, of any form that `bnn_pyro.data.sources.as_inputs` takes.

    Raises:
        TypeError: If they hold no numbers.
        ValueError: If they have another shape, no row, or numbers that are not finite.
    """
    rows = model.layout.pack("x", as_inputs("x", x))
    if tuple(rows.shape[1:]) != model.input_shape or not len(rows):
        wanted = ", ".join(map(str, model.input_shape))
        raise ValueError(f"x must have shape (rows, {wanted}) and a row, got {tuple(rows.shape)}")
    check_finite("x", rows, next(model.net.parameters()).dtype)
    return rows


def warn_of_raw_inputs(model: SparseNetwork, rows: Tensor) -> None:
    """Log a warning where inputs are far from unit scale, as numbers are that were not standardised.

    Of fewer than `_LEAST_ROWS` rows nothing is said, as single rows of a standardised table may be far out.

    Args:
        model: The network.
        rows: What `checked_inputs` returned.
    """
    if len(rows) < _LEAST_ROWS:
        return
    some = every(rows, -(-len(rows) // _MOST_ROWS))
    real = model.layout.real_numbers(some).to(next(model.net.parameters()).dtype)
    rms = largest_rms(real if model.selection is None else real.index_select(-1, model.selection.to(real.device)))
    if rms > LARGEST:
        logger.warning(
            "x is far from unit scale, as the largest root mean square of a column is %.3g: unless the training inputs "
            "were so too, give it scaled as they were; load_table(folder).raw_inputs() scales rows of a run's table",
            rms,
        )
