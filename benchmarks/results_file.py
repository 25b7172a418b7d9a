"""Results as JSON that several runs may append to."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole(path: Path, content: dict[str, Any]) -> None:
    """Write results, whole or not at all.

    Args:
        path: The JSON file.
        content: What to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a results file against other runs.

    Args:
        path: The JSON file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
