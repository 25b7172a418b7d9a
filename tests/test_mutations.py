"""Files that are damaged, or made by others: each loads or is refused by a ValueError, quickly and in little memory."""

import contextlib
import random
import re
import resource
import time
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import torch

from tests.mutations import Subject, mutated, subjects

SEED = 18
STATUS = Path("/proc/self/status")
MOST_SECONDS, MOST_BYTES = 5.0, 1 << 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    return subjects(tmp_path_factory.mktemp("files"))


def peak() -> int:
    """The most memory that this process has had, in bytes, since `forget_peak` where the system can tell that."""
    if STATUS.exists():
        return 1024 * int(re.findall(r"VmHWM:\s+(\d+) kB", STATUS.read_text())[0])
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Let the peak of memory begin at what the process has now, where the system can do that."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


@dataclass
class Outcomes:
    """What has become of mutated files.

    Attributes:
        counts: How many loaded, or were refused.
        faults: What must not be.
        seconds: Most processor's seconds of a file, and which one.
        memory: Most bytes that the peak of memory has risen by, and by which file.
    """

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    seconds: tuple[float, str] = (0.0, "")
    memory: tuple[int, str] = (0, "")

    def note_costs(self, seconds: float, memory: int, where: str) -> None:
        self.seconds, self.memory = max(self.seconds, (seconds, where)), max(self.memory, (memory, where))
        if seconds > MOST_SECONDS or memory > MOST_BYTES:
            self.faults.append(f"{where}: {seconds:.1f} s, {memory / 1e9:.1f} GB")


def is_same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return isinstance(one, tuple) and all(map(torch.equal, one, cast("tuple[torch.Tensor, ...]", other)))


def attack(files: list[Subject], count: int, seed: int = SEED) -> Outcomes:
    """Load mutated files, and return how many loaded or were refused, and what else happened.

    A file that has a digest and was damaged is right if it loads, as what was damaged is not read.
    """
    chance, found = random.Random(seed), Outcomes()
    sound_results = {subject.name: subject.load(subject.folder) for subject in files if subject.is_sealed}
    for number in range(count):
        subject = files[number % len(files)]
        path = subject.folder / subject.file
        sound = path.read_bytes()
        mutation = mutated(sound, chance)
        path.write_bytes(mutation.content)
        where = f"{subject.name}, mutation {number} of seed {seed}"
        forget_peak()
        before, memory = time.process_time(), peak()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = subject.load(subject.folder)
            found.counts["loaded"] += 1
            if subject.is_sealed and not mutation.is_new and not is_same(loaded, sound_results[subject.name]):
                found.faults.append(f"{where}: loads, and is not what was written")
        except ValueError as error:
            found.counts["refused"] += 1
            if not str(error):
                found.faults.append(f"{where}: an empty message")
        except Exception as error:
            found.faults.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            path.write_bytes(sound)
        found.note_costs(time.process_time() - before, peak() - memory, where)
    return found


def test_sound_files_load(files: list[Subject]) -> None:
    for subject in files:
        subject.load(subject.folder)


def test_mutated_files_load_or_are_refused(files: list[Subject]) -> None:
    found = attack(files, 300)
    assert found.faults == []
    assert found.counts["refused"] > 150 and found.counts.total() == 300


@pytest.mark.slow
def test_many_mutated_files_load_or_are_refused(files: list[Subject]) -> None:
    found = attack(files, 2000, seed=SEED + 1)
    print(f"{dict(found.counts)}; at most {found.seconds[0]:.2f} s ({found.seconds[1]})", end=" ")
    print(f"and {found.memory[0] / 1e6:.0f} MB ({found.memory[1]})")
    assert found.faults == []
    assert found.counts.total() == 2000


def test_sizes_are_compared_before_anything_is_allocated(files: list[Subject]) -> None:
    """A config of 1 kB asks for a net of gigabytes, and a description of weights for a tensor of them."""
    by_name = {subject.name: subject for subject in files}
    for name, old, new in (
        ("run-config.json", b'"hidden": [5]', b'"hidden": [40000, 40000]'),
        ("run-config.json", b'"outputs": 1,', b'"outputs": 900000000,'),
        ("pruned-config.json", b'"hidden": [5]', b'"hidden": [999999999999]'),
        ("pruned-architecture.json", b'"inputs": null', b'"inputs": 900000000'),
    ):
        subject = by_name[name]
        path = subject.folder / subject.file
        sound = path.read_bytes()
        assert old in sound
        path.write_bytes(sound.replace(old, new))
        before = peak()
        try:
            if name.startswith("pruned-arch"):  # the weights have their own description, and load
                subject.load(subject.folder)
            else:
                with pytest.raises(ValueError, match="folder must hold|must be those of"):
                    subject.load(subject.folder)
        finally:
            path.write_bytes(sound)
        assert peak() - before < 1 << 28
    assert torch.get_default_dtype() == torch.float32
