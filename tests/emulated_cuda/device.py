"""The emulated device in the place of CUDA: what torch asks in Python, and what a host would wait for."""

import importlib.machinery
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests.emulated_cuda.build import DEVICE, NAME, built

OURS = ("/bnn_pyro/", "/guides/")
PROPERTIES = SimpleNamespace(
    name=DEVICE,
    major=9,
    minor=0,
    total_memory=80 * 2**30,
    multi_processor_count=132,
    max_threads_per_multi_processor=2048,
    regs_per_multiprocessor=65536,
    warp_size=32,
    gcnArchName="",
    L2_cache_size=50 * 2**20,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
)
_MODES = {"default": 0, "warn": 1, "error": 2}


class _Device:
    """The kernels, what is done where a host would wait, and what was waited for."""

    def __init__(self) -> None:
        self.kernels: Any = None
        self.mode = 0
        self.counted: Counter[str] | None = None

    def watch(self) -> None:
        """Have the kernels tell of waits where somebody wants to know."""
        self.kernels.watch(self.told if self.mode or self.counted is not None else None)

    def told(self, what: str) -> None:
        """Note a wait, or refuse it."""
        if self.counted is not None:
            self.counted[f"{what} at {_place()}"] += 1
        if self.mode == _MODES["error"]:
            raise RuntimeError(f"called a synchronizing CUDA operation ({what})")


_DEVICE = _Device()


def install(devices: int = 2) -> None:
    """Put the device in the place of CUDA, for the rest of the process.

    Args:
        devices: How many there are.

    Raises:
        Unavailable: If it cannot be built here.
    """
    kernels = _loaded()
    kernels.install(devices)
    _DEVICE.kernels = kernels
    torch._C._jit_set_texpr_fuser_enabled(False)  # TorchScript's fuser would compile by NVRTC
    for name, value in _functions(kernels).items():
        for module in (torch.cuda, torch.cuda.random):
            if module is torch.cuda or hasattr(module, name):
                setattr(module, name, value)
    _storages()


@contextmanager
def waits() -> Iterator[Counter[str]]:
    """Count what a host would wait for a GPU for.

    Yields:
        What was waited for, with file and line -> how often.
    """
    before, _DEVICE.counted = _DEVICE.counted, Counter()
    _DEVICE.watch()
    try:
        yield _DEVICE.counted
    finally:
        _DEVICE.counted = before
        _DEVICE.watch()


def refuse_double(does: bool) -> None:
    """Refuse float64, as Apple's MPS does.

    Args:
        does: Whether to.
    """
    _DEVICE.kernels.refuse_double(does)


def _loaded() -> ModuleType:
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(built()))
    spec = importlib.util.spec_from_loader(NAME, loader)
    if spec is None:
        raise ImportError(f"no module {NAME}")
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def _functions(kernels: Any) -> dict[str, Any]:
    """Return what stands in the place of functions of ``torch.cuda``."""

    def set_device(device: object) -> None:
        index = device if isinstance(device, int) else torch.device(device).index  # type: ignore[call-overload]
        kernels.exchange_device(-1 if index is None else index)

    def set_sync_debug_mode(mode: int | str) -> None:
        _DEVICE.mode = _MODES[mode] if isinstance(mode, str) else mode
        _DEVICE.watch()

    def synchronize(device: object = None) -> None:
        _DEVICE.told("synchronize")

    def ignored(*args: object, **kwargs: object) -> None:
        return None

    def always(value: object) -> Callable[..., object]:
        return lambda *args, **kwargs: value

    return {
        "_initialized": True,
        "_lazy_init": ignored,
        "_lazy_call": lambda function, **kwargs: function(),
        "_exchange_device": lambda device: kernels.exchange_device(device),
        "_maybe_exchange_device": lambda device: kernels.exchange_device(device),
        "default_generators": tuple(kernels.generators()),
        "is_initialized": always(True),
        "is_available": always(True),
        "device_count": lambda: kernels.device_count(),
        "current_device": lambda: kernels.current_device(),
        "set_device": set_device,
        "set_sync_debug_mode": set_sync_debug_mode,
        "get_sync_debug_mode": lambda: _DEVICE.mode,
        "synchronize": synchronize,
        "is_bf16_supported": always(True),
        "is_current_stream_capturing": always(False),
        "get_device_name": always(PROPERTIES.name),
        "get_device_capability": always((PROPERTIES.major, PROPERTIES.minor)),
        "get_device_properties": always(PROPERTIES),
        "memory_allocated": always(0),
        "max_memory_allocated": always(0),
        "reset_peak_memory_stats": ignored,
        "empty_cache": ignored,
    }


def _storages() -> None:
    """Let storages be copied and moved by kernels, as those of torch copy CUDA's memory themselves."""

    def clone(self: torch.UntypedStorage) -> torch.UntypedStorage:
        if self.device.type != "cuda":
            return type(self)(self.nbytes(), device=self.device).copy_(self)
        return _bytes(self).clone().untyped_storage()

    def to(self: torch.UntypedStorage, device: torch.device, non_blocking: bool = False) -> torch.UntypedStorage:
        if device.type != "cuda" or self.device == device:
            return theirs(self, device, non_blocking)  # type: ignore[no-any-return]
        whole = torch.empty(self.nbytes(), dtype=torch.uint8, device=device)
        return whole.copy_(_bytes(self)).untyped_storage()

    theirs: Any = torch._utils._to
    for owner, name, value in (
        (torch.UntypedStorage, "clone", torch.no_grad()(clone)),
        *((module, "_to", torch.no_grad()(to)) for module in (torch._utils, torch.storage, torch.serialization)),
    ):
        if hasattr(owner, name):
            setattr(owner, name, value)


def _bytes(storage: torch.UntypedStorage) -> torch.Tensor:
    whole: Any = torch.empty(0, dtype=torch.uint8, device=storage.device)
    found: torch.Tensor = whole.set_(storage)
    return found


def _place() -> str:
    """Return the file and the line that made the host wait: the innermost of the packages, or else of all."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if any(part in name for part in OURS):
            return f"{name.rpartition('/bnn_pyro/')[2] or name}:{frame.f_lineno}"
        frame = frame.f_back
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
