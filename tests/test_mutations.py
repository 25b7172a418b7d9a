"""Files that are damaged, or made by others: each loads or is refused by a ValueError, quickly and in little memory."""

import random
import resource
import time
import warnings
from collections import Counter

import pytest
import torch

from tests.mutations import Subject, mutated, subjects

SEED = 18
MOST_SECONDS, MOST_BYTES = 5.0, 1 << 30


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Subject]:
    return subjects(tmp_path_factory.mktemp("files"))


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def attack(files: list[Subject], count: int, seed: int = SEED) -> tuple[Counter[str], list[str]]:
    """Load mutated files, and return how many loaded or were refused, and what else happened."""
    chance, outcomes, faults = random.Random(seed), Counter[str](), []
    for number in range(count):
        subject = files[number % len(files)]
        path = subject.folder / subject.file
        sound = path.read_bytes()
        path.write_bytes(mutated(sound, chance))
        before, memory = time.process_time(), peak()
        where = f"{subject.name}, mutation {number} of seed {seed}"
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                subject.load(subject.folder)
            outcomes["loaded"] += 1
        except ValueError as error:
            outcomes["refused"] += 1
            if not str(error):
                faults.append(f"{where}: an empty message")
        except Exception as error:
            faults.append(f"{where}: {type(error).__name__}: {str(error)[:200]}")
        finally:
            path.write_bytes(sound)
        if time.process_time() - before > MOST_SECONDS or peak() - memory > MOST_BYTES:
            faults.append(f"{where}: {time.process_time() - before:.1f} s, {(peak() - memory) / 1e9:.1f} GB")
    return outcomes, faults


def test_sound_files_load(files: list[Subject]) -> None:
    for subject in files:
        subject.load(subject.folder)


def test_mutated_files_load_or_are_refused(files: list[Subject]) -> None:
    outcomes, faults = attack(files, 300)
    assert faults == []
    assert outcomes["refused"] > 150 and outcomes.total() == 300


@pytest.mark.slow
def test_many_mutated_files_load_or_are_refused(files: list[Subject]) -> None:
    outcomes, faults = attack(files, 2000, seed=SEED + 1)
    assert faults == []
    assert outcomes.total() == 2000


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
