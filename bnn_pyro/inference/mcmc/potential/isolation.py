"""isolated: a model runs without a trace in Pyro's and torch's global state, in the dtype of its data."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyro
import torch
from torch import Tensor
from torch.utils._pytree import PyTree, tree_leaves

from bnn_pyro.inference.generators import random_state_kept
from bnn_pyro.tracing.failures import FailuresAsNaN


@contextmanager
def isolated(dtype: torch.dtype | None, device: torch.device) -> Iterator[None]:
    """Keep the random state and Pyro's parameter store as they were; the model reads the store's values.

    Distributions are not checked, and where a matrix cannot be factorised the model goes on with NaN.

    Args:
        dtype: That of priors of plain numbers, ``Normal(0.0, 1.0)``; None for torch's default one.
        device: The device that the model draws on, whose random state is kept too.
    """
    store = pyro.get_param_store()
    with random_state_kept(device), store.scope(store.get_state()), pyro.validation_enabled(False):
        with in_dtype(dtype), FailuresAsNaN():
            yield


@contextmanager
def in_dtype(dtype: torch.dtype | None) -> Iterator[None]:
    """Make a dtype torch's default one, that of distributions of plain numbers.

    Args:
        dtype: The dtype; None changes nothing.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype or default)
    try:
        yield
    finally:
        torch.set_default_dtype(default)


def data_dtype(*nests: PyTree) -> torch.dtype | None:
    """Return double precision where a tensor of some nests has it; None where none has.

    Args:
        *nests: A model's arguments, or values of its sites.
    """
    tensors = [leaf for leaf in tree_leaves(nests) if isinstance(leaf, Tensor)]
    return torch.float64 if any(tensor.dtype == torch.float64 for tensor in tensors) else None


def data_device(*nests: PyTree) -> torch.device:
    """Return the device of some nests: that of the first tensor that is not on the CPU, else torch's default one.

    Args:
        *nests: A model's arguments.
    """
    devices = [leaf.device for leaf in tree_leaves(nests) if isinstance(leaf, Tensor)]
    return next((device for device in devices if device.type != "cpu"), torch.get_default_device())
