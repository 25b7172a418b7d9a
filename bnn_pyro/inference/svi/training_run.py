"""A training run of ``fit``: its epochs and records, when it shrinks and stops, and what it is resumed from."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pyro
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from bnn_pyro.data.mapped import every
from bnn_pyro.inference.generators import RandomState, random_state, set_random_state
from bnn_pyro.inference.interrupts import Interrupts, StepClock, holding_interrupts
from bnn_pyro.inference.svi.best_epoch import BestEpoch, is_stalled, phase_of
from bnn_pyro.inference.svi.checkpoint import Progress, RunFile
from bnn_pyro.inference.svi.divergence import Diverged, GoodState, StepMade, fault_of_rows, first_fault
from bnn_pyro.inference.svi.shrinking import WORTH_IT, Whole, settled_open, weights_kept
from bnn_pyro.inference.svi.steps import Step
from bnn_pyro.inference.svi.timetable import Timetable
from bnn_pyro.inference.training.batches import Change, batches, normalises, sizes_of_batches
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.pruning.shrink import Shrunk, shrink
from bnn_pyro.storage import load_into
from bnn_pyro.tracing.engine import Plan
from guides import AutoProgram
from guides.protocols import Guide

logger = logging.getLogger(__name__)

LEAST_STEPS = 10  # from one copy of what steps change to the next
MOST_SCORES = 200  # of a run, about: a score takes longer than a step, and small tables are trained for many epochs
Record = dict[str, Any]
Callback = Callable[[Record, GuidePosterior], bool | None]


class TrainingRun:
    """A training run: epochs, records, early stopping.

    Args:
        model: The network, which belongs to the run.
        guide: Its guide, likewise.
        step: What makes the steps.
        timetable: What changes when.
        data: Training inputs and observations.
        held_out: Those to validate on, or None.
        batch_size: Rows a step.
        augmentation: What changes the inputs of a batch; None leaves them.
        layout: How batches are laid out in memory.
        processes: Those that share the run.
    """

    def __init__(
        self,
        model: SparseNetwork,
        guide: Guide,
        step: Step,
        timetable: Timetable,
        data: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor] | None,
        *,
        batch_size: int,
        augmentation: Change | None = None,
        layout: torch.memory_format = torch.contiguous_format,
        processes: Processes = Processes(),  # noqa: B008  (frozen)
    ) -> None:
        self.whole = Whole(model, guide)
        self.model, self.guide, self.step = model, guide, step
        self.timetable, self.schedule = timetable, timetable.schedule
        self.data, self.held_out, self.batch_size = data, held_out, batch_size
        self.device = data[1].device  # inputs may lie in a file
        self.augmentation, self.layout, self.processes = augmentation, layout, processes
        self.posterior = GuidePosterior(model, guide, kl_weight=timetable.kl_weight)  # of the whole network
        self.history = self.posterior.history
        self.kl_weight = timetable.kl_weight  # of the latest step
        self.first = 0  # the first epoch that this call makes
        self.since = 0  # the first epoch with the network of now
        self.is_over = False
        self.joins = normalises(model.net)
        self.sizes = sizes_of_batches(len(data[0]), batch_size, join=self.joins)  # of the batches of an epoch
        self.good: GoodState | None = None  # from which steps are repeated
        self.randoms: list[RandomState] = []  # at the beginning of the epochs since then
        self.best: BestEpoch | None = None  # of the phase of now; tracked where the schedule has patience

    def train(self, callback: Callback | None, progress: bool | None, file: RunFile | None = None) -> None:
        """Run the epochs that are left.

        Args:
            callback: Called after each epoch, by the first process; True stops.
            progress: Whether to show a bar; None shows it on a terminal.
            file: What the progress is saved in; None saves it nowhere.
        """
        start = time.perf_counter() - (self.history[-1]["seconds"] if self.history else 0.0)
        disable = (None if progress is None else not progress) if self.processes.is_first else True
        epochs = self.timetable.epochs
        with (
            holding_interrupts(file is not None) as interrupts,
            tqdm(total=epochs, initial=self.first, unit="epoch", disable=disable) as bar,
        ):
            for epoch in range(self.first, 0 if self.is_over else epochs):
                loss = self._epoch(epoch, interrupts, file)
                record = self._record(epoch, loss, time.perf_counter() - start)
                self.history.append(record)
                self._note_best(record)
                bar.set_postfix_str(_summary(record))
                bar.update()
                self.is_over = self._stops(record, callback) or epoch + 1 == epochs
                if not self.is_over:
                    self._shrink(epoch)
                if file is not None and self.processes.is_first:
                    if self.is_over or interrupts or file.is_due(epoch + 1):
                        file.write(self._progress(epoch + 1))
                    interrupts.stop(f"after {epoch + 1} of {epochs} epochs", file.path)
                if self.is_over:
                    break
        if self.best is not None and self.schedule.patience is not None:
            self.best.restore(self.whole.model, self.whole.guide)
            logger.info("the state after epoch %d is returned: its validation NLL is the best", self.best.epoch)
        self.posterior.model.net.eval()
        guide = self.whole.guide
        if isinstance(guide, AutoProgram) and guide.gate_mode == "open":  # stopped early: from here on gates are drawn
            guide.gate_mode = "free"

    def _epoch(self, epoch: int, interrupts: Interrupts, file: RunFile | None) -> Tensor:
        """Runs one epoch and returns its mean loss per datum."""
        self._keep(epoch)
        rows, clock = len(self.data[0]), StepClock(len(self.sizes))
        total = torch.zeros((), dtype=self.data[0].dtype, device=self.device)
        for step in self._steps(epoch):
            total += step.loss.detach() * (len(step.x) / rows)
            if self.device.type == "cpu" and not torch.isfinite(step.loss):  # nothing waits for other devices
                raise self._divergence(epoch, float(step.loss), step)
            if interrupts and file is not None and clock.is_long(step.number):
                interrupts.stop(f"in epoch {epoch + 1} of {self.timetable.epochs}", file.path)
        self.processes.settle_buffers(self.model.net)
        return total

    def _steps(self, epoch: int) -> Iterator[StepMade]:
        """Makes the steps of an epoch, one at a time."""
        if isinstance(self.guide, AutoProgram):
            self.guide.gate_mode = self.timetable.gate_mode(epoch)
        self.model.train_net()
        rows = batches(*self.data, self.batch_size, self.augmentation, join=self.joins)
        for i, (xs, ys) in enumerate(rows):
            now = epoch + i / len(self.sizes)
            self._set_temperature(self.timetable.temperature_at(now))
            self.kl_weight = self.timetable.kl_weight_at(now)
            xs = xs.contiguous(memory_format=self.layout)
            loss = self.step(xs, ys, self.kl_weight, self.timetable.rate_at(now), self._plan(epoch, len(xs)))
            yield StepMade(epoch, i + 1, xs, ys, loss)

    def _plan(self, epoch: int, rows: int) -> Plan:
        """Returns how many steps on batches of some rows are to come with this network, at least and at most."""
        timetable, each = self.timetable, self.sizes.count(rows)
        is_switched = self.step.is_switched
        if epoch == self.first:  # resumed or not, the same way of computing is to be chosen
            same = (e for e in range(self.since, epoch) if timetable.gate_mode(e) == timetable.gate_mode(epoch))
            epoch = self.since if is_switched else next(same, epoch)
        most = timetable.epochs - epoch
        if not is_switched:  # other operations in another mode of the gates
            modes = [timetable.gate_mode(later) for later in range(epoch, timetable.epochs)]
            most = next((i for i, mode in enumerate(modes) if mode != modes[0]), most)
        shrinks = self.schedule.shrink_below is not None
        least = min(most, max(self.schedule.hold - epoch, 0) + 1) if shrinks else most
        return Plan(least * each, most * each)

    def _note_kl_weight(self) -> None:
        """Give the posterior the smaller of the weights that its gates and its slabs were fitted at."""
        self.posterior.kl_weight = min(self.kl_weight, self.timetable.kl_weight)

    def _set_temperature(self, temperature: float | None) -> None:
        if temperature is not None and isinstance(self.guide, AutoProgram):
            self.guide.temperature.fill_(temperature)

    @torch.no_grad()
    def _record(self, epoch: int, loss: Tensor, seconds: float) -> Record:
        """Return what is known after an epoch; the loss is read from the device here, once per epoch."""
        value = float(loss)
        if not math.isfinite(value):
            raise self._divergence(epoch, value)
        self.model.net.eval()
        self.whole.update(self.model, self.guide)
        self._note_kl_weight()  # a run may end, or be stopped, before the schedule's last weight
        keep = self.posterior.keep()
        record: Record = {
            "epoch": epoch + 1,
            "loss": value,
            "kl_weight": self.kl_weight,
            "gates": self.timetable.gate_mode(epoch),
            "nodes_kept": {name: int(mask.sum()) for name, mask in keep.items()},
            "seconds": seconds,
            "compile_seconds": self.step.compile_seconds,
        }
        if not self._is_scored(epoch):
            return record
        data, prefix = (self.held_out, "validation") if self.held_out is not None else (self._some_rows(), "train")
        try:
            scores = GuidePosterior(self.model, self.guide).evaluate_median(*data)  # the smaller network: the same
        except ValueError as error:
            if "finite" not in str(error):
                raise  # the data was checked: else it is the outputs that are not finite
            raise ValueError(
                f"the loss must stay finite, got weights that diverged in epoch {epoch + 1}: lower rates or "
                f"set clip_norm ({error})"
            ) from error
        record.update({f"{prefix}_{name}": score for name, score in scores.items()})
        return record

    def _is_scored(self, epoch: int) -> bool:
        """Whether the median model is scored after an epoch: where epochs are many, after each k-th alone."""
        last, every = self.timetable.epochs - 1, max(1, self.timetable.epochs // MOST_SCORES)
        return self.schedule.patience is not None or epoch % every == 0 or epoch == last

    def _note_best(self, record: Record) -> None:
        """Keep the state after an epoch if its validation NLL is the best of its phase, as the first process has it."""
        phase = phase_of(record)
        if self.schedule.patience is None or phase is None:
            return
        is_best = self.best is None or self.best.is_worse_than(record, phase)
        if self.processes.count > 1:
            is_best = self.processes.broadcast(is_best)
        if is_best:
            self.best = BestEpoch.of(record, phase, self.whole.model, self.whole.guide)

    def _some_rows(self, rows: int = 2000) -> tuple[Tensor, Tensor]:
        """Returns training rows to score, evenly spread, as data may be sorted."""
        x, y = self.data
        stride = max(1, len(x) // rows)
        return every(x, stride), y[::stride]

    def _stops(self, record: Record, callback: Callback | None) -> bool:
        """Whether the run is to stop, as the first process has it; random states become its own, too."""
        stops = self.schedule.patience is not None and is_stalled(self.history, self.schedule.patience)
        if callback is not None and self.processes.is_first:
            stops = bool(callback(record, self.posterior)) or stops
        if self.processes.count > 1:
            stops, state = self.processes.broadcast((stops, random_state(self.device)))
            set_random_state(state, self.device)
        return stops

    # ---- losses that are not finite ----------------------------------------------------------------------------------

    def _keep(self, epoch: int) -> None:
        """Keeps a copy of all that steps change, at most once in ten steps, and the random states since then."""
        if self.good is None or (epoch - self.good.epoch) * len(self.sizes) >= LEAST_STEPS:
            self.good = GoodState.of(epoch, self.kl_weight, self._modules(), self.step)
            self.randoms = []
        self.randoms.append(random_state(self.device))

    def _divergence(self, epoch: int, value: float, step: StepMade | None = None) -> Diverged:
        """Returns what is raised for a loss that is not finite, of a step if it is known; takes the run back."""
        good, modules = self.good, self._modules()
        if good is None:
            return Diverged(f"the loss must stay finite, got {value} in epoch {epoch + 1}")
        fault = "" if step is None else fault_of_rows(step.x, step.y)
        if not fault:
            good.restore(modules, self.step)
            step, fault = first_fault(self._repeated(good.epoch, epoch), modules)
        good.restore(modules, self.step)
        self.kl_weight = good.kl_weight
        self.whole.update(self.model, self.guide)
        self._note_kl_weight()
        self.posterior.model.net.eval()
        del self.history[good.epoch :]
        at = f"epoch {epoch + 1}" if step is None else f"epoch {step.epoch + 1}, step {step.number}"
        return Diverged(
            f"the loss must stay finite, got {value} in {at}: {fault}; lower rates or set clip_norm",
            self.posterior if good.epoch else None,
        )

    def _modules(self) -> tuple[nn.Module, nn.Module]:
        """Returns what steps change."""
        return self.model, cast(nn.Module, self.guide)

    def _repeated(self, first: int, last: int) -> Iterator[StepMade]:
        """Makes the steps of some epochs again."""
        for epoch, state in zip(range(first, last + 1), self.randoms, strict=True):
            set_random_state(state, self.device)
            yield from self._steps(epoch)

    # ---- shrinking ---------------------------------------------------------------------------------------------------

    def _shrink(self, epoch: int) -> None:
        """Goes on without the nodes whose gates have settled closed, if there are enough of them to pay."""
        shrink_below = self.schedule.shrink_below
        if shrink_below is None or self.timetable.gate_mode(epoch) == "open":
            return
        freezing = self.timetable.gate_mode(epoch + 1) == "frozen"  # then the closed ones are closed for good
        keep = settled_open(GuidePosterior(self.model, self.guide).inclusion(), 0.5 if freezing else shrink_below)
        if not keep or weights_kept(self.model, keep) > WORTH_IT:
            return
        self._move_to(shrink(self.model, self.guide, keep), since=epoch + 1)

    def _move_to(self, shrunk: Shrunk, *, since: int) -> None:
        self.whole.shrunk_by(shrunk)
        self.step = self.step.moved_to(shrunk)
        self.model, self.guide, self.since, self.good = shrunk.model, shrunk.guide, since, None
        store = pyro.get_param_store()  # the run's own: the smaller net's points have the names of the larger one's
        store.get_state()  # takes Pyro's weak references off the parameters, with which they could not be pickled
        store.clear()

    # ---- stopping and resuming ---------------------------------------------------------------------------------------

    def _progress(self, epoch: int) -> Progress:
        """Returns all that the rest of the run depends on."""
        guide = self.whole.guide
        return Progress(
            epoch=epoch,
            since=self.since,
            is_over=self.is_over,
            kl_weight=self.kl_weight,
            gate_mode=guide.gate_mode if isinstance(guide, AutoProgram) else "free",
            history=[dict(record) for record in self.history],
            model=self.whole.model.state_dict(),
            guide=guide.state_dict(),
            keep=self.whole.kept(),
            steps=self.step.state(),
            random=random_state(self.device),
            best=None if self.best is None else vars(self.best),
        )

    def resume(self, progress: Progress, path: str | os.PathLike[str]) -> None:
        """Puts the run where it was when its progress was kept.

        Args:
            progress: What was kept; the run is new, and was begun in the same way.
            path: Where it was kept, for the message.

        Raises:
            ValueError: If it is of another model or guide.
        """
        load_into("model", self.whole.model, progress.model, path)
        load_into("guide", self.whole.guide, progress.guide, path)
        if isinstance(self.guide, AutoProgram):
            self.guide.gate_mode = progress.gate_mode
        if progress.keep:
            self._move_to(shrink(self.model, self.guide, progress.keep), since=progress.since)
        self.step.load_state(progress.steps)
        self.history.extend(progress.history)
        self.kl_weight = progress.kl_weight
        self._note_kl_weight()
        self.first, self.is_over = progress.epoch, progress.is_over
        self.best = None if progress.best is None else BestEpoch.from_values(progress.best)
        set_random_state(progress.random, self.device)


def _summary(record: Record) -> str:
    """Returns the line beside the progress bar."""
    scores = [f"{k.split('_')[-1]} {v:.4f}" for k, v in record.items() if k.endswith(("accuracy", "rmse"))]
    nodes = "-".join(str(n) for n in record["nodes_kept"].values())
    return ", ".join([f"ELBO/datum {-record['loss']:.4f}", *scores, f"nodes {nodes or 'all'}"])
