"""Compute: how the steps of a training run are computed."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.arguments import check_choice, check_flags, check_whole
from bnn_pyro.inference.training.autocast import PRECISIONS, Precision
from bnn_pyro.tracing.engine import ENGINES, EngineName


@dataclass(frozen=True, kw_only=True)
class Compute:
    """How the steps of a training run are computed; what they compute stays the same, up to rounding.

    Args:
        engine: By Pyro as it stands (``"eager"``), as a program of tensors that was traced once (``"traced"``) or
            compiled (``"compiled"``), or by what is expected to be fastest (``"auto"``). Engines differ in rounding,
            and an eager run draws its noise in another order; a model that cannot be traced runs eagerly, as do Pyro's
            optimisers.
        precision: ``"bf16"`` lets the network run in torch's autocast to bfloat16; draws, divergences, gates, scales,
            likelihood and parameters stay in float32. None computes all in the inputs' dtype.
        accumulate: Parts in which a process computes its batch, one after the other, so that one part fits into memory.
            All have the same draw of weights, gates and scales, so that loss and gradient are those of the batch in one
            piece; where outputs are drawn (local reparameterisation) every part has noise of its own. A BatchNorm sees
            one part at a time.
        channels_last: Whether batches of images are laid out with their channels last, which is faster for convolutions
            on many devices, and gives the same outputs up to rounding.
        data_parallel: Whether the processes of ``torch.distributed`` share the run; None says yes where it is
            initialised. False leaves each process a run of its own.

    Raises:
        ValueError: If a name is unknown or ``accumulate`` is below 1.
    """

    engine: EngineName = "auto"
    precision: Precision | None = None
    accumulate: int = 1
    channels_last: bool = False
    data_parallel: bool | None = None

    def __post_init__(self) -> None:
        check_choice("engine", self.engine, ENGINES)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(map(repr, PRECISIONS))}, got {self.precision!r}")
        check_whole("accumulate", self.accumulate)
        check_flags({"channels_last": self.channels_last})
        check_flags({} if self.data_parallel is None else {"data_parallel": self.data_parallel})

    @property
    def layout(self) -> torch.memory_format:
        """How batches are laid out in memory."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def check_inputs(self, x: Tensor) -> None:
        """Check that inputs can be computed on like this.

        Args:
            x: Inputs, shape ``(rows, ...)``.

        Raises:
            ValueError: If their dtype has no lower precision, or they are no images.
        """
        if self.precision is not None and x.dtype != torch.float32:
            raise ValueError(
                f"precision={self.precision!r} needs inputs in float32, got {x.dtype}: convert them with x.float()"
            )
        if self.channels_last and x.dim() != 4:
            raise ValueError(
                "channels_last needs images of shape (rows, channels, height, width), "
                f"got inputs of shape {tuple(x.shape)}"
            )
