"""drive: takes a run of Markov chains to its end, with a progress bar, saving it on its way; Ctrl-C loses nothing."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tqdm.auto import tqdm

from bnn_pyro.inference.mcmc.checkpoint import RunFile
from bnn_pyro.inference.mcmc.runs import Run


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
    before = 0.0 if file is None else file.restore(run)
    started = time.perf_counter()
    with _holding_interrupts(file is not None) as interrupts, _bar(run, progress) as bar:
        while run.done < run.total:
            run.advance()
            bar.update()
            if not bar.disable:
                bar.set_postfix(run.note(), refresh=False)
            if file is None:
                continue
            if interrupts or file.is_due(run.done) or run.done == run.total:
                file.save(run, before + time.perf_counter() - started)
            if interrupts:
                raise KeyboardInterrupt(
                    f"stopped after {run.done} of {run.total} transitions; the same call resumes it from {file.path}"
                )
    return before + time.perf_counter() - started


def _bar(run: Run, progress: bool | None) -> tqdm:
    disable = None if progress is None else not progress
    return tqdm(total=run.total, initial=run.done, unit="draw", disable=disable)


@contextmanager
def _holding_interrupts(wanted: bool) -> Iterator[list[int]]:
    """Notes a Ctrl-C instead of raising it, so that a transition can end; a second one is raised at once."""
    noted: list[int] = []

    def note(number: int, frame: object) -> None:
        if noted:
            raise KeyboardInterrupt
        noted.append(number)

    if not wanted or threading.current_thread() is not threading.main_thread():
        yield noted  # Python lets the main thread alone handle signals
        return
    before = signal.signal(signal.SIGINT, note)
    try:
        yield noted
    finally:
        signal.signal(signal.SIGINT, before)
