"""What a network costs: parameters, FLOPs and measured latency, and how much of a dense network's cost pruning leaves.

Two counts of parameters stand side by side in the literature. The two-sided one is what the physically pruned network
holds: a weight counts when both its nodes live (`count_parameters` of that network). The one-sided one counts a weight
when its own output node lives, even if the node that it reads is dead (`one_sided_parameters`); it is never smaller.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from bnn_pyro.input_layout import Inputs, returned_by


@dataclass(frozen=True)
class Cost:
    """Size of a network.

    Attributes:
        parameters: Number of parameters, buffers not counted.
        flops: FLOPs of one forward pass of one datum, 2 for each multiply-accumulate.
    """

    parameters: int
    flops: int


@dataclass(frozen=True)
class CostComparison:
    """Cost of a pruned network beside that of the dense one; kept fractions, so 1 is dense, counted two-sided.

    Attributes:
        dense: Cost of the dense network.
        pruned: Cost of the pruned network.
    """

    dense: Cost
    pruned: Cost

    @property
    def params_kept(self) -> float:
        """Fraction of the dense network's parameters that the pruned one holds."""
        return self.pruned.parameters / self.dense.parameters

    @property
    def flops_kept(self) -> float:
        """Fraction of the dense network's FLOPs that the pruned one needs."""
        return self.pruned.flops / self.dense.flops


@dataclass(frozen=True)
class Latency:
    """Seconds of one forward pass of the whole batch, over the timed repeats."""

    median: float
    minimum: float
    maximum: float


def count_parameters(net: nn.Module) -> int:
    """Count a network's parameters, trainable or not, a shared one once, buffers never.

    Args:
        net: The network.
    """
    return sum(parameter.numel() for parameter in net.parameters())


def count_flops(net: nn.Module, example_input: Inputs) -> int:
    """Count the FLOPs of one forward pass of one datum in evaluation mode.

    They are FLOPs as torch counts them: 2 for each multiply-accumulate of a matrix product, convolution or attention;
    biases, activations, normalisation and other elementwise work are not counted.

    Args:
        net: The network; its training flags are left as they were.
        example_input: Input of the network, `(rows, ...)`, or a tuple or dictionary of several; the count is divided by
            the number of rows.

    Raises:
        ValueError: If example_input has no rows.
    """
    rows = _check_batch("example_input", example_input)
    # attention as products, and with gradients on: in fused kernels it is one operation that the counter may not know
    in_parts = sdpa_kernel(SDPBackend.MATH)
    with evaluating([net]), torch.enable_grad(), in_parts, FlopCounterMode(display=False) as counter:
        returned_by(net, example_input)
    total: int = counter.get_total_flops()
    return round(total / rows)


def measure_cost(net: nn.Module, example_input: Inputs) -> Cost:
    """Count a network's parameters and FLOPs.

    Args:
        net: The network; its training flags are left as they were.
        example_input: Input of the network, `(rows, ...)`, or a tuple or dictionary of several.

    Raises:
        ValueError: If example_input has no rows.
    """
    return Cost(parameters=count_parameters(net), flops=count_flops(net, example_input))


def compare_cost(dense: nn.Module, pruned: nn.Module, example_input: Inputs) -> CostComparison:
    """Count what a pruned network keeps of a dense one's parameters and FLOPs, both two-sided.

    Args:
        dense: The network before pruning.
        pruned: The network after pruning; it takes the same input.
        example_input: Input of both networks, `(rows, ...)`, or a tuple or dictionary of several.

    Raises:
        ValueError: If example_input has no rows, or the dense network no parameters or no FLOPs to compare with.
    """
    cost = measure_cost(dense, example_input)
    if cost.parameters == 0 or cost.flops == 0:
        raise ValueError(
            f"dense must have parameters and FLOPs to compare with, got {cost}: give the network that was pruned, "
            "with at least one matrix product or convolution."
        )
    return CostComparison(dense=cost, pruned=measure_cost(pruned, example_input))


def measure_latency(
    nets: Mapping[str, nn.Module], x: Inputs, *, repeats: int = 30, warmup: int = 5
) -> dict[str, Latency]:
    """Time one forward pass of each network, side by side.

    The networks take turns (A B A B ...), so that a change in the machine's load meets them all alike. Each runs in
    evaluation and inference mode, and on a CUDA device every timing waits until its work is done.

    Args:
        nets: Networks by name; their training flags are left as they were.
        x: Input of all networks, `(rows, ...)`, or a tuple or dictionary of several.
        repeats: Timed passes of each network.
        warmup: Passes of each network before the timed ones.

    Returns:
        The latency of each network, under its name.

    Raises:
        ValueError: If there is no network or row, or a number of passes is too small.
    """
    _check_batch("x", x)
    if not nets:
        raise ValueError("nets must hold at least one network, got none: give a mapping of names to networks.")
    if repeats < 1 or warmup < 0:
        raise ValueError(f"repeats must be at least 1 and warmup at least 0, got {repeats} and {warmup}.")
    with evaluating(nets.values()), torch.inference_mode():
        rounds = [{name: _seconds(net, x) for name, net in nets.items()} for _ in range(warmup + repeats)][warmup:]
    return {name: _latency([seconds[name] for seconds in rounds]) for name in nets}


def nodes_kept(keep: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Count the kept nodes of each group: `group -> [kept, total]`.

    Args:
        keep: Bool mask over the nodes of each group, `(nodes,)`, True where a node is kept.

    Raises:
        ValueError: If a mask is not bool or not one-dimensional.
    """
    for name, mask in keep.items():
        _check_mask(f"keep[{name!r}]", mask)
    return {name: [int(mask.sum()), mask.numel()] for name, mask in keep.items()}


def one_sided_parameters(net: nn.Module, alive_rows: Mapping[str, Tensor]) -> int:
    """Count a dense network's parameters whose own output node is alive, dead inputs or not.

    Args:
        net: The dense network, before pruning.
        alive_rows: Parameter name -> bool mask over its dimension 0 (output nodes), True where the node is alive.
            A parameter that is not named counts in full.

    Raises:
        ValueError: If a name is not a parameter of net, or a mask does not fit its parameter.
    """
    parameters = dict(net.named_parameters())
    unknown = sorted(set(alive_rows) - set(parameters))
    if unknown:
        raise ValueError(
            f"alive_rows must name parameters of net, got {', '.join(unknown)}: net has {', '.join(parameters)}."
        )
    return sum(_alive(name, parameter, alive_rows.get(name)) for name, parameter in parameters.items())


def _alive(name: str, parameter: Tensor, rows: Tensor | None) -> int:
    """Count the elements of a parameter in its alive rows, or all of them."""
    if rows is None:
        return parameter.numel()
    _check_mask(f"alive_rows[{name!r}]", rows)
    if rows.shape != parameter.shape[:1]:
        raise ValueError(f"alive_rows[{name!r}] must have shape {tuple(parameter.shape[:1])}, got {tuple(rows.shape)}.")
    return int(rows.sum()) * parameter[0].numel()


def _latency(seconds: list[float]) -> Latency:
    """Summarise the timed passes of one network."""
    return Latency(median=median(seconds), minimum=min(seconds), maximum=max(seconds))


def _seconds(net: nn.Module, x: Inputs) -> float:
    """Time one forward pass, the work that it leaves on a CUDA device included."""
    _wait(x)
    start = perf_counter()
    returned_by(net, x)
    _wait(x)
    return perf_counter() - start


def _wait(x: Inputs) -> None:
    """Wait for the inputs' device; the CPU has nothing to wait for."""
    for device in {tensor.device for tensor in tree_leaves(x) if tensor.is_cuda}:
        torch.cuda.synchronize(device)


@contextmanager
def evaluating(nets: Iterable[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode, and every module back into its own mode afterwards.

    Args:
        nets: The networks.
    """
    flags = [(module, module.training) for net in nets for module in net.modules()]
    try:
        for (
            module,
            _,
        ) in flags:  # the flags themselves, because a module's own train() may do more than what can be undone
            module.training = False
        yield
    finally:
        for module, training in flags:
            module.training = training


def _check_batch(name: str, x: Inputs) -> int:
    """Return the number of rows, or raise if there is none."""
    tensors: list[Tensor] = tree_leaves(x)
    for tensor in tensors:
        if tensor.ndim == 0 or tensor.shape[0] == 0:
            raise ValueError(
                f"{name} must have shape (rows, ...) with at least one row, got {tuple(tensor.shape)}: "
                f"give a batch, of a single datum by {name}.unsqueeze(0)."
            )
    return tensors[0].shape[0]


def _check_mask(name: str, mask: Tensor) -> None:
    """Raise unless a mask is bool and one-dimensional."""
    if mask.dtype != torch.bool or mask.ndim != 1:
        raise ValueError(
            f"{name} must be a one-dimensional bool mask, got {mask.dtype} of shape {tuple(mask.shape)}: "
            "compare the inclusion probabilities with a threshold first."
        )
