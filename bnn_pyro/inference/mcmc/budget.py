"""How many transitions a network's chains make in a number of seconds, by counting, and how many chains to take."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.cost import count_flops, evaluating
from bnn_pyro.inference.mcmc.mclmc import GRADIENTS
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.network import SparseNetwork

ENOUGH = 2000  # transitions of a chain, below which fewer chains that are longer are taken
_PER_SECOND = 2.8e10  # of what `gradient_work` counts, by one core
_PER_NUMBER = 100  # operations that take as long as a number that a layer gives, its activation and their slopes


def gradient_work(model: SparseNetwork) -> int:
    r"""Return how much work a row is in a gradient: the FLOPs of a forward pass, and 100 for each node.

    A core does about :math:`2.8 \cdot 10^{10}` of it a second where the gradient is compiled: within a third for
    perceptrons of two hidden layers of 18 to 50 nodes, on 40,000 and 60,000 rows.

    Args:
        model: The network, without gates.
    """
    like = next(model.net.parameters())
    example = torch.zeros(1, *model.input_shape, dtype=like.dtype, device=like.device)
    example = example if model.selection is None else example.index_select(-1, model.selection)
    numbers = 0

    def count(module: nn.Module, given: object, found: object) -> None:
        nonlocal numbers
        numbers += found.numel() if isinstance(found, Tensor) else 0

    layers = {parameter.name.rpartition(".")[0] for parameter in model.bayesian}
    hooks = [model.net.get_submodule(layer).register_forward_hook(count) for layer in layers]
    try:
        with evaluating([model.net]), torch.no_grad():
            model.layout.call(model.net, example)
    finally:
        for hook in hooks:
            hook.remove()
    return count_flops(model.net, model.layout.native(example)) + _PER_NUMBER * numbers


def transitions_within(model: SparseNetwork, plan: SamplingPlan, seconds: float) -> int:
    """Return about how many transitions each chain of ``"mclmc"`` makes in a number of seconds, on one core.

    The number is counted, not timed, so that it is the same on all machines.

    Args:
        model: The network, without gates; its ``num_data`` rows are those of a gradient.
        plan: The plan, of which the number of chains counts.
        seconds: Seconds of sampling.
    """
    work = GRADIENTS * plan.chains * model.num_data * gradient_work(model)
    return int(seconds * _PER_SECOND / work)


def within(plan: SamplingPlan, model: SparseNetwork, seconds: float, *, least: int) -> SamplingPlan:
    """Return a plan with as many of its chains as make enough transitions each in a number of seconds.

    Enough are 2,000, or as many as the plan has if those are fewer. A plan of another kernel than ``"mclmc"``, whose
    gradients cannot be counted beforehand, stays as it is.

    Args:
        plan: The plan.
        model: The network, without gates.
        seconds: Seconds of sampling.
        least: Least number of chains; where they do not make enough transitions there are fewer.
    """
    if plan.kernel != "mclmc":
        return plan
    of_one = transitions_within(model, replace(plan, chains=1), seconds)
    chains = of_one // min(ENOUGH, plan.transitions)
    return replace(plan, chains=min(plan.chains, max(least, chains)))
