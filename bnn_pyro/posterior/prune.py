"""prune: the median-probability model as a plain, physically smaller module."""

from collections.abc import Mapping

from torch import Tensor, nn

from bnn_pyro.arguments import check_type, check_whole
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.pruning.cutting import cut_net, with_selection


def prune(posterior: Posterior, *, keep: Mapping[str, Tensor] | None = None, multiple: int = 1) -> nn.Module:
    r"""Return the median-probability model as a plain, physically smaller module.

    Of several Markov chains it is a single draw, as :class:`~bnn_pyro.posterior.sampled.SampledPosterior` says, which
    may score worse than the mean over draws: compare ``posterior.evaluate_median`` with ``posterior.evaluate``.

    Args:
        posterior: A fitted posterior.
        keep: Group -> which nodes stay, bool, shape ``(size,)``; for groups without a mask :math:`\gamma > 1/2`.
        multiple: What the number of channels of each group is made a multiple of, by channels that nobody reads; GPUs
            may be faster with 8.

    Returns:
        A plain module in eval mode whose output is that of ``posterior.median_model(keep=keep)``. If inputs are removed
        it still takes all of them and selects its own. Its parameters require gradients, so that it can be trained on,
        but for those that were frozen in the net.

    Raises:
        ValueError: If ``keep`` has an unknown group or a mask of another shape or dtype, or ``multiple`` is below 1.
    """
    check_type("posterior", posterior, Posterior)
    check_whole("multiple", multiple)
    model, masks = posterior.model, posterior.masks(keep)
    net = posterior.median_net(keep=masks)
    small, selection = cut_net(net, model.nodes.groups, masks, multiple=multiple, selection=model.selection)
    bayesian = {parameter.name for parameter in model.bayesian}
    trained = {name for name, point in model.net.named_parameters() if point.requires_grad or name in bayesian}
    for name, parameter in small.named_parameters():
        parameter.requires_grad_(name in trained)
    return with_selection(small, selection)
