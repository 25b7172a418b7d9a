"""settle_batch_norm: a fitted posterior's BatchNorms get statistics that fit the networks it predicts with."""

import torch
from torch import Tensor

from bnn_pyro.arguments import check_type, check_wholes
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.memory import draws_held
from bnn_pyro.posterior.settled_draws import SettledDraws
from bnn_pyro.pruning.batch_norm import evenly_spread, recompute_batch_norm, running_statistics

_ROWS = 10_000  # for the median-probability model
_ROWS_PER_DRAW = 4_000  # 32 draws then cost as much as 2 to 3 forward passes over 50,000 rows


@torch.no_grad()
def settle_batch_norm(posterior: GuidePosterior, x: Tensor, *, draws: int = 32, batch_size: int = 1024) -> None:
    """Give a posterior's median-probability model, and draws that it keeps, running statistics of their own, in place.

    ``posterior.model.net`` gets those of the median model, by a pass over up to 10,000 rows, evenly spread. Then so
    many draws are made, from the global random state, and each gets its own by a pass over up to 4,000 rows: they are
    ``posterior.settled``, go to the posterior's file, and are what `predict` and `evaluate` average over from here on.
    They take the memory of as many networks, of the nodes that are open in one of them at least, and are fewer where
    the whole network's would take more than 1 GiB. `fit` calls this at the end with the training rows; call it again
    for other draws, or for more. A network whose BatchNorms have no running statistics, or are frozen, is left alone.

    Args:
        posterior: A posterior that belongs to the caller; its network is changed.
        x: Training inputs, shape ``(rows, *input_shape)``.
        draws: How many draws to keep.
        batch_size: Largest number of rows at a time.

    Raises:
        ValueError: If there is no row, or ``draws`` or ``batch_size`` is below 1.
    """
    check_type("posterior", posterior, GuidePosterior)
    check_type("x", x, Tensor)
    check_wholes({"draws": draws, "batch_size": batch_size})
    model = posterior.model
    if not running_statistics(model.net, frozen=model.frozen):
        return
    rows = evenly_spread(x, _ROWS)
    read = rows if model.selection is None else rows.index_select(-1, model.selection)
    native = model.layout.native(read)
    settled = recompute_batch_norm(posterior.median_net(), native, batch_size=batch_size, frozen=model.frozen)
    fresh = dict(settled.named_buffers())
    for name, buffer in model.net.named_buffers():
        buffer.copy_(fresh[name])
    values = posterior.draw_values(draws_held(model, draws))
    rows = evenly_spread(x, _ROWS_PER_DRAW)
    posterior.settled = SettledDraws.settled(model, values, rows, batch_size=batch_size)
