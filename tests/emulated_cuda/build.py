"""Builds the kernels of the emulated device, once for a source and a torch, into a folder that git ignores."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import torch

FOLDER = Path(__file__).resolve().parent
CACHE = FOLDER.parents[1] / ".emulated_cuda"
SOURCES = tuple(FOLDER / name for name in ("kernels.cpp", "call.h", "device.h"))
NAME = "emulated_cuda_kernels"
DEVICE = "emulated"  # what it is called
TORCH = "2.14"  # the kernels stand on what is private to it
SECONDS = 900  # to build, at most


class Unavailable(RuntimeError):
    """The device cannot be built here; the message says why."""


def is_emulated() -> bool:
    """Return whether the device is in the place of CUDA in this process."""
    return torch.cuda.is_available() and torch.cuda.get_device_name() == DEVICE


def built() -> Path:
    """Return the file of the kernels, which is built first if it is not there.

    Raises:
        Unavailable: If this machine or this torch has no such device.
    """
    check_place()
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES))
    digest.update(f"{torch.__version__} {sys.version} {platform.machine()}".encode())
    target = CACHE / f"{NAME}-{digest.hexdigest()[:16]}.so"
    if not target.exists():
        print("building the emulated CUDA device, once; it takes a minute or two", file=sys.stderr)
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            fresh = Path(folder, target.name)
            _compile(fresh)
            os.replace(fresh, target)
    return target


def check_place() -> None:
    """Refuse what the kernels were not written for.

    Raises:
        Unavailable: If that is so.
    """
    if not torch.__version__.startswith(f"{TORCH}."):
        raise Unavailable(f"it is written for torch {TORCH}, this is {torch.__version__}")
    if torch.version.cuda is None:
        raise Unavailable(f"it needs a torch that is built for CUDA, this is {torch.__version__}")
    if platform.system() != "Linux":
        raise Unavailable(f"it is written for Linux, this is {platform.system()}")
    if torch.cuda.is_available():
        raise Unavailable("there is a GPU: run pytest -m gpu on it")
    if shutil.which("g++") is None:
        raise Unavailable("there is no g++ to build it with")


def _compile(target: Path) -> None:
    include, library = Path(torch.__file__).parent / "include", Path(torch.__file__).parent / "lib"
    headers = (include, include / "torch" / "csrc" / "api" / "include", sysconfig.get_paths()["include"])
    libraries = ("c10", "torch_cpu", "torch", "torch_python")
    command = ["g++", "-shared", "-fPIC", "-O1", "-w", "-std=c++20", f"-DTORCH_EXTENSION_NAME={NAME}"]
    command += [f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    command += [*(f"-I{folder}" for folder in headers), str(SOURCES[0]), "-o", str(target)]
    command += [f"-L{library}", *(f"-l{name}" for name in libraries)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"it was not built in {SECONDS} seconds") from error
    if done.returncode:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[-200:])
        raise Unavailable(f"it does not build: {first.strip()}")
