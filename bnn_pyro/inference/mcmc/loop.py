"""drive: takes a run of Markov chains to its end, with a progress bar, saving it on its way; Ctrl-C loses nothing."""

import logging
import time
from collections.abc import Callable

from torch import Tensor
from tqdm.auto import tqdm

from bnn_pyro.inference.interrupts import holding_interrupts
from bnn_pyro.inference.mcmc.checkpoint import RunFile
from bnn_pyro.inference.mcmc.runs import BatchRun, Run
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.posterior.diagnostics import LEAST_DRAWS

logger = logging.getLogger(__name__)

_FIRST, _TIMED = 5, 50  # transitions that are not timed, as programs are made in them, and those that tell the pace
_TIMED_PART = 0.05  # of the seconds there are, after which fewer will do


def drive(run: Run, file: RunFile | None, *, progress: bool | None = None) -> float:
    """Take a run to its end, from where its file has it.

    With a file, Ctrl-C lets the transition end and saves the run before it stops it; a second one stops it at once.

    Args:
        run: The run; its generators are seeded.
        file: What keeps its state; None keeps it nowhere.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The seconds that it took in all.

    Raises:
        ValueError: If the file is damaged or of another run.
    """
    return _Drive(run, file, None).go(progress)


def drive_until(
    run: BatchRun,
    rule: StoppingRule,
    r_hat: Callable[[], Tensor],
    file: RunFile | None = None,
    *,
    progress: bool | None = None,
) -> tuple[float, Tensor]:
    """Take a run to where its chains have mixed, or its rounds or seconds are over, from where its file has it.

    Args:
        run: The run; its generators are seeded.
        rule: When it ends.
        r_hat: Gives R-hat of what is asked of the chains, by the draws of the run so far; called once per round.
        file: What keeps its state; None keeps it nowhere.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        The seconds that it took in all, and R-hat by all of its draws.

    Raises:
        ValueError: If the file is damaged or of another run.
    """
    drive = _Drive(run, file, rule.seconds)
    seconds, found = drive.go(progress), r_hat()
    while not drive.is_late and run.rounds < rule.rounds and not rule.is_met(found):
        run.extend()
        seconds, found = drive.go(progress), r_hat()
    return seconds, found


class _Drive:
    """A run on its way, with its file and its clock."""

    def __init__(self, run: Run, file: RunFile | None, limit: float | None) -> None:
        self.run, self.file, self.limit = run, file, limit
        self.before = 0.0 if file is None else file.restore(run)
        self.started, self.begun = time.perf_counter(), run.done
        self.timed: tuple[int, float] | None = None
        self.is_paced = False
        if limit is not None and isinstance(run, BatchRun):
            run.may_adapt_longer = False

    @property
    def seconds(self) -> float:
        """What the run took so far."""
        return self.before + time.perf_counter() - self.started

    @property
    def is_late(self) -> bool:
        """Whether the run has no time left."""
        return self.limit is not None and self.seconds >= self.limit

    def go(self, progress: bool | None) -> float:
        """Go on until the transitions or the seconds are over, and return the seconds so far."""
        run, file = self.run, self.file
        with holding_interrupts(file is not None) as interrupts, _bar(run, progress) as bar:
            while run.done < run.total and not self._must_stop():
                self._keep_pace(bar)
                run.advance()
                bar.total = run.total
                bar.update()
                if not bar.disable:
                    bar.set_postfix(run.note(), refresh=False)
                if file is None:
                    continue
                if interrupts or file.is_due(run.done) or run.done == run.total:
                    file.save(run, self.seconds)
                interrupts.stop(f"after {run.done} of {run.total} transitions", file.path)
        return self.seconds

    def _must_stop(self) -> bool:
        return self.is_late and isinstance(self.run, BatchRun) and self.run.draws >= LEAST_DRAWS

    def _keep_pace(self, bar: tqdm) -> None:
        """Shorten a run that would take longer than it may: once it is known how fast it is, and when time is up."""
        run = self.run
        if self.limit is None or not isinstance(run, BatchRun) or run.done >= run.warmup_transitions:
            return
        if self.is_late:
            self._shorten(run, 0.0, bar)
        elif self.timed is None and run.done >= self.begun + _FIRST:
            self.timed = (run.done, time.perf_counter())
        elif self.timed is not None and not self.is_paced:
            made, passed = run.done - self.timed[0], time.perf_counter() - self.timed[1]
            if made < _TIMED and passed < _TIMED_PART * self.limit:
                return
            self.is_paced = True
            needed, left = passed / made * (run.total - run.done), self.limit - self.seconds
            if needed > left:
                self._shorten(run, left / needed, bar)

    def _shorten(self, run: BatchRun, factor: float, bar: tqdm) -> None:
        run.shorten(factor)
        bar.total = run.total
        logger.warning(
            "the transitions planned would take longer than %g seconds: there are %d, %d of them of warm-up",
            self.limit,
            run.total,
            run.warmup_transitions,
        )


def _bar(run: Run, progress: bool | None) -> tqdm:
    disable = None if progress is None else not progress
    return tqdm(total=run.total, initial=run.done, unit="draw", disable=disable)
