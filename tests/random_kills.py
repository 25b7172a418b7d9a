"""Runs that are killed, or asked to end, at random moments, and resumed until they have ended.

``python -m tests.random_kills --kills 100 --signals 20`` prints a line for each driver, and ends with the number of
results that are not those of an undisturbed run. Reports have no pictures and no programs here; `tests.kills` has
whole ones.
"""

import argparse
import contextlib
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch

from bnn_pyro.reports import folder as reports
from bnn_pyro.reports.claim import PROGRESS
from tests import kills
from tests.cli.calls import made_table

COMMANDS = tuple(kills.COMMANDS)
ENDS_WITH = {signal.SIGINT: 130, signal.SIGTERM: 143}
_POLLED = 0.01  # seconds


@dataclass
class Tally:
    """What became of the runs of a driver.

    Attributes:
        sent: Signals that ended a run before it had ended by itself.
        runs: Runs that have ended in the end.
        resumed: Starts that found something of a run to resume.
        faults: What was not as it must be.
        slowest: Most seconds of the processor from a signal to the end of its process.
    """

    sent: int = 0
    runs: int = 0
    resumed: int = 0
    faults: list[str] = field(default_factory=list)
    slowest: float = 0.0


def begun(what: str, folder: Path, *, resume: bool) -> int:
    """Start a run in a process of its own, which writes its result to ``result.pt``, and return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), number)
        if what in kills.API:
            found = kills.API[what](folder / "run.pt")
            code = 0
        else:
            # pictures and programs would take most of the time, and most of the signals
            mock.patch.object(reports, "_figures", lambda run, evaluation: {}).start()
            mock.patch.object(reports, "export_net", lambda *arguments, **options: None).start()
            out = folder / "out"
            if resume and (out / "report.md").exists() and not (out / PROGRESS).exists():
                code = 0  # it had ended when the signal came
            else:
                code = kills.command(folder, [*kills.COMMANDS[what], "--out", "out"], resume=resume)
            found = kills.outcome(folder / "out") if code == 0 else {}
        if code == 0:
            (folder / "modules.json").write_text(json.dumps(list(sys.modules)))
            torch.save(found, folder / "result.pt")
    finally:
        sys.stderr.flush()
        os._exit(code)


def seconds_of(child: int) -> float | None:
    """Return the processor's seconds that a process has taken; None once it has ended."""
    try:
        return time.clock_gettime((~child << 3) | 2)  # as clock_getcpuclockid(3) makes it
    except OSError:
        return None


def ended(child: int, number: int | None, after: float) -> tuple[int, bool, float]:
    """Wait for the end of a process, to which a signal is sent after some seconds of the processor.

    Returns:
        Its exit code, negative for a signal; whether the signal was sent; and its seconds from then on.
    """
    sent, taken, at = False, 0.0, 0.0
    while True:
        taken = max(taken, seconds_of(child) or 0.0)
        if number is not None and not sent and taken >= after:
            os.kill(child, number)
            sent, at = True, taken
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), sent, taken - at if sent else 0.0
        time.sleep(_POLLED)


def made_folder(what: str, place: Path) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{what}-", dir=place))
    torch.manual_seed(0)
    made_table(folder / "my.csv")
    return folder


def differs(folder: Path, expected: Path) -> bool:
    """Whether a run has another result than an undisturbed one."""
    found, wanted = (torch.load(path / "result.pt", weights_only=True) for path in (folder, expected))
    return not (found.keys() == wanted.keys() and all(_is_same(found[name], wanted[name]) for name in wanted))


def _is_same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    return repr(one) == repr(other)  # also of NaN


@dataclass(frozen=True)
class Whole:
    """A run that nothing has disturbed.

    Attributes:
        folder: Its folder.
        first: The processor's seconds until something was saved.
        seconds: The processor's seconds of all of it.
    """

    folder: Path
    first: float
    seconds: float

    def moment(self, chance: random.Random) -> float:
        """Draw a moment, in three of four cases one from which on there is something to resume."""
        return chance.uniform(self.first if chance.random() < 0.75 else 0.0, self.seconds)


def saved(folder: Path) -> bool:
    """Whether there is something to resume."""
    return any(not path.name.startswith(".") and path.name != "result.pt" for path in folder.rglob("*.pt"))


def undisturbed(what: str, place: Path) -> Whole:
    """Make a run that nothing disturbs."""
    folder = made_folder(what, place)
    child = begun(what, folder, resume=False)
    first, taken = 0.0, 0.0
    while not os.waitpid(child, os.WNOHANG)[0]:
        taken = max(taken, seconds_of(child) or 0.0)
        first = first or (taken if saved(folder) else 0.0)
        time.sleep(_POLLED)
    if not (folder / "result.pt").exists():
        raise RuntimeError(f"{what} must end by itself: {(folder / 'stderr').read_text()[-2000:]}")
    for name in json.loads((folder / "modules.json").read_text()):  # which the next ones need not load again
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return Whole(folder, first, taken)


def disturbed(
    what: str, place: Path, numbers: Iterator[int], whole: Whole, tally: Tally, chance: random.Random
) -> None:
    """Make a run that a signal ends at a random moment, resume it under another signal, and so on until it has ended.

    Args:
        what: The run.
        place: Where its folder is made.
        numbers: The signals that are left to be sent.
        whole: The undisturbed run.
        tally: What became of it is noted there.
        chance: Draws the moments.
    """
    folder, resume = made_folder(what, place), False
    most = 6  # signals that a run gets
    for attempt in range(most + 1):
        number = next(numbers, None) if attempt < most else None
        tally.resumed += attempt > 0 and saved(folder)
        child = begun(what, folder, resume=resume)
        code, was_sent, after = ended(child, number, whole.moment(chance))
        text = (folder / "stderr").read_text()
        if code == 0:
            tally.runs += 1
            if differs(folder, whole.folder):
                tally.faults.append(f"{folder}: another result after {attempt} signals")
            hidden = [path for path in folder.rglob(".*")]
            if hidden:
                tally.faults.append(f"{folder}: left {hidden}")
            shutil.rmtree(folder)
            return
        resume = True
        tally.sent += 1
        tally.slowest = max(tally.slowest, after)
        if number == signal.SIGKILL:
            as_wanted = code == -signal.SIGKILL and text == ""
        else:
            as_wanted = number is not None and code == ENDS_WITH[signal.Signals(number)] and text.count("\n") == 1
        if not (was_sent and as_wanted):
            tally.faults.append(f"{folder}: exit code {code} after signal {number}, and on stderr {text!r}")
            return


def campaign(place: Path, counts: dict[str, list[int]], seed: int = 0) -> dict[str, Tally]:
    """Disturb the runs of each driver until so many signals have ended one.

    Args:
        place: A folder.
        counts: Name of a run -> the signals to send.
        seed: Seed of the moments.
    """
    chance, found = random.Random(seed), {}
    for what, numbers in counts.items():
        whole = undisturbed(what, place)
        tally = found[what] = Tally()
        while tally.sent < len(numbers) and not tally.faults:
            disturbed(what, place, iter(numbers[tally.sent :]), whole, tally, chance)
            print(f"  {what}: {tally.sent} of {len(numbers)} signals", file=sys.stderr, flush=True)
        print(
            f"{what}: {tally.sent} signals, {tally.resumed} starts with something to resume, {tally.runs} results, "
            f"{len(tally.faults)} faults; {whole.seconds:.1f} s undisturbed, the first save after {whole.first:.1f} s, "
            f"at most {tally.slowest:.1f} s to end",
            *tally.faults,
            sep="\n  ",
            flush=True,
        )
    return found


def shared_out(kills_: int, signals: int) -> dict[str, list[int]]:
    """Return which signals each run gets: as many kills for each driver as for the command line, and signals for it."""
    counts: dict[str, list[int]] = {}
    groups = (("svi", "dense"), ("sample", "nuts"), ("sghmc",), COMMANDS)
    for index, group in enumerate(groups):
        of_group = kills_ // len(groups) + (index < kills_ % len(groups))
        for place, what in enumerate(group):
            number = of_group // len(group) + (place < of_group % len(group))
            counts[what] = [int(signal.SIGKILL)] * number
    for number_ in (signal.SIGTERM, signal.SIGINT):
        for index in range(signals):
            counts[COMMANDS[index % len(COMMANDS)]].append(int(number_))
    return {what: numbers for what, numbers in counts.items() if numbers}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--signals", type=int, default=20, help="of each of SIGTERM and SIGINT")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="names of runs")
    given = parser.parse_args()
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which is ignored in a job in the background
    counts = shared_out(given.kills, given.signals)
    with tempfile.TemporaryDirectory() as place:
        counts = {what: numbers for what, numbers in counts.items() if what in (given.only or counts)}
        found = campaign(Path(place), counts, given.seed)
    faults = sum(len(tally.faults) for tally in found.values())
    print(f"{sum(tally.sent for tally in found.values())} signals, {faults} faults")
    sys.exit(faults)


if __name__ == "__main__":
    main()
