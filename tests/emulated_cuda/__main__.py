"""``python -m tests.emulated_cuda``: run pytest on the emulated device, where there is one; arguments are pytest's."""

import os
import subprocess
import sys

import pytest

from tests.emulated_cuda import self_test
from tests.emulated_cuda.build import Unavailable, built


def main(arguments: list[str]) -> int:
    """Run the tests, and return the exit status; 0, with a line that says why, where there is no such device.

    Args:
        arguments: What pytest is given.
    """
    try:
        built()
        done = subprocess.run([sys.executable, "-m", self_test.__name__], capture_output=True, text=True, timeout=600)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise Unavailable(f"it does not work here: {last}")
    except (Unavailable, subprocess.TimeoutExpired, OSError) as error:
        print(f"skipped, as there is no emulated CUDA device: {error}")
        return 0
    return int(pytest.main(["-p", "tests.emulated_cuda.plugin", *arguments]))


if __name__ == "__main__":
    status = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # threads of the emulated device may abort a process that ends as others do
