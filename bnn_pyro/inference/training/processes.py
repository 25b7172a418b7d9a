"""The processes that share a run: what they add up, and what the first one tells the others."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

Value = TypeVar("Value")


@dataclass(frozen=True)
class Processes:
    """This process among those of ``torch.distributed``, in its default group; one process alone by default.

    Attributes:
        rank: Number of this process, from 0.
        count: How many there are.
        device: The device that this process computes on, over which NCCL sends objects; None for the current one.
    """

    rank: int = 0
    count: int = 1
    device: torch.device | None = None

    @staticmethod
    def found(data_parallel: bool | None = None, *, device: torch.device | None = None) -> "Processes":
        """Returns the processes that are to share a run.

        Args:
            data_parallel: Whether those of ``torch.distributed`` do; None says yes where it is initialised.
            device: The device that this process computes on.

        Raises:
            ValueError: If they are to, and ``torch.distributed`` is not initialised.
        """
        is_there = distributed.is_available() and distributed.is_initialized()
        if data_parallel and not is_there:
            raise ValueError(
                "data_parallel must be False or None where torch.distributed is not initialised, got True: start the "
                "program by torchrun and call torch.distributed.init_process_group() first"
            )
        if not is_there or data_parallel is False:
            return Processes()
        return Processes(distributed.get_rank(), distributed.get_world_size(), device)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that shows progress and writes files."""
        return self.rank == 0

    def add_up(self, tensors: Iterable[Tensor]) -> None:
        """Puts the sum over the processes into contiguous tensors, the same to the last bit in each process."""
        if self.count > 1:
            for work in [distributed.all_reduce(tensor, async_op=True) for tensor in tensors]:
                work.wait()

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Puts the first process's values into tensors."""
        if self.count > 1:
            for tensor in tensors:
                value = tensor.detach().contiguous()
                distributed.broadcast(value, 0)
                tensor.detach().copy_(value)

    def broadcast(self, value: Value) -> Value:
        """Returns what the first process has."""
        if self.count == 1:
            return value
        sent = [value]
        # NCCL takes the current GPU unless it is told, which may be that of another process
        device = self.device if distributed.get_backend() == "nccl" else None
        distributed.broadcast_object_list(sent, 0, device=device)
        return sent[0]

    def check_alike(self, settings: Mapping[str, object]) -> None:
        """Checks that all processes were given the same.

        Args:
            settings: Plain values by name.

        Raises:
            ValueError: If this process has other ones than the first.
        """
        for name, value in self.broadcast(settings).items():
            if settings[name] != value:
                raise ValueError(f"{name} must be the same in all processes, got {settings[name]} and {value}")

    def settle_buffers(self, net: nn.Module) -> None:
        """Averages the running statistics of BatchNorms over the processes; other buffers become the first one's.

        Running statistics are linear in those of the batches, so that averaging them now and then gives what averaging
        them after every step would.

        Args:
            net: The network, changed in place.
        """
        if self.count == 1:
            return
        averaged = _running_statistics(net)
        self.add_up(averaged)
        for tensor in averaged:
            tensor.div_(self.count)
        known = {id(tensor) for tensor in averaged}
        self.copy_first(buffer for buffer in net.buffers() if id(buffer) not in known)


def _running_statistics(net: nn.Module) -> Sequence[Tensor]:
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    found = [tensor for norm in norms for tensor in (norm.running_mean, norm.running_var) if tensor is not None]
    return list({id(tensor): tensor for tensor in found if isinstance(tensor, torch.Tensor)}.values())
