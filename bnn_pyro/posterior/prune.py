"""prune: the median-probability model as a plain, physically smaller module."""

from collections.abc import Mapping

from torch import Tensor, nn

from bnn_pyro.posterior.guide import Posterior
from bnn_pyro.pruning.cutting import chained, cut_net, split_selection, with_selection


def prune(posterior: Posterior, *, keep: Mapping[str, Tensor] | None = None, multiple: int = 1) -> nn.Module:
    r"""Returns the median-probability model as a plain, physically smaller module.

    Args:
        posterior: A fitted posterior.
        keep: Group -> which nodes stay, bool, shape ``(size,)``; for groups without a mask :math:`\gamma > 1/2`.
        multiple: What the number of channels of each group is made a multiple of, by channels that nobody reads; GPUs
            may be faster with 8.

    Returns:
        A plain module in eval mode whose output is that of ``posterior.median_model(keep=keep)``. If inputs are removed
        it still takes all of them and selects its own.

    Raises:
        ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype, or ``multiple`` is below 1.
    """
    model, masks = posterior.model, {**posterior.keep(), **(keep or {})}
    whole = posterior.median_model(keep=masks)
    net = whole if model.selection is None else split_selection(whole)[0]
    small, chosen = cut_net(net, model.nodes.groups, masks, multiple)
    return with_selection(small, chained(model.selection, chosen))
