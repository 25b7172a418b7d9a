"""How much memory a forward pass holds beside the network itself, computed without running it."""

import copy
import weakref
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from bnn_pyro.evaluation.cost import evaluating
from bnn_pyro.input_layout import Inputs, returned_by


def peak_activations(net: nn.Module, example_input: Inputs) -> int:
    """Count the bytes that one forward pass without gradients holds at most at once.

    They are those of the input, and of what the layers give until nobody needs it any more. Parameters and buffers do
    not count, nor what a kernel needs within itself. Nothing is computed: the pass is made by tensors that have a shape
    and no values, on torch's device ``meta``.

    Args:
        net: The network; it is left alone.
        example_input: Input of the network, shape ``(rows, ...)``, or a tuple or dictionary of several; the bytes are
            those of all its rows.

    Returns:
        The bytes.
    """
    shadow = copy.deepcopy(net).to("meta")
    x: Inputs = tree_map_only(Tensor, lambda tensor: torch.empty_like(tensor, device="meta"), example_input)
    with evaluating([shadow]), torch.no_grad(), _Held((*shadow.parameters(), *shadow.buffers())) as held:
        for tensor in tree_leaves(x):
            held.note(tensor)
        returned_by(shadow, x)
    peak: int = held.peak
    return peak


class _Held(TorchDispatchMode):
    """Counts the bytes of the storages that operations make, from their making until they are freed."""

    def __init__(self, uncounted: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet(
            tensor.untyped_storage() for tensor in uncounted
        )

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage not in self._known:
            self._known.add(storage)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage.nbytes())

    def _forget(self, size: int) -> None:
        self.now -= size

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: Iterable[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self.note(value)
        return result
