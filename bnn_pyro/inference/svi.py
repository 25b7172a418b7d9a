"""fit: stochastic variational inference of a SparseNetwork."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pyro
import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from pyro.optim import PyroOptim
from torch import Tensor
from tqdm.auto import tqdm

from bnn_pyro.batch_norm import settle_batch_norm
from bnn_pyro.inference.batches import Data, as_pair, batches, check_rows, hold_out, seeded
from bnn_pyro.inference.engine import EngineName, Plan
from bnn_pyro.inference.objective import SparseELBO
from bnn_pyro.inference.schedule import LearningRates, Schedule
from bnn_pyro.inference.shrinking import WORTH_IT, Whole, settled_open, weights_kept
from bnn_pyro.inference.steps import OptimizerFactory, stepper
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior import Posterior, copies
from bnn_pyro.pruning import shrink
from guides import AutoProgram, AutoSpikeSlab

SETTLING_ROWS = 10_000  # for the running statistics of the posterior's BatchNorms
LOCAL_ROWS = 64  # the largest batch for which drawing outputs is no slower than drawing the weights of 784-400-400-10

Record = dict[str, Any]
Callback = Callable[[Record, Posterior], bool | None]


def fit(
    model: SparseNetwork,
    train_data: Data,
    *,
    epochs: int = 50,
    batch_size: int = 256,
    kl_weight: float = 1.0,
    kl_warmup: float = 0.0,
    frozen_kl_weight: float | None = None,
    hold: int = 0,
    freeze: int = 0,
    decay: float = 0.4,
    temperature: float | tuple[float, float] | None = None,
    learning_rates: LearningRates = LearningRates(),  # noqa: B008  (frozen)
    clip_norm: float | None = None,
    num_particles: int = 1,
    local_reparameterization: bool | Literal["exact"] | None = None,
    validation: Data | float | None = None,
    patience: int | None = None,
    callback: Callback | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    shrink_below: float | None = None,
    guide: Any = None,
    optimizer: PyroOptim | OptimizerFactory | None = None,
    elbo: ELBO | None = None,
    engine: EngineName = "auto",
) -> Posterior:
    r"""Fits a guide to a network's posterior by stochastic variational inference.

    Each step minimises, for a batch of B of the N rows,

    .. math::
        \frac1N \Big[\kappa\,KL(q \| p) - \frac NB \sum_{i \in \text{batch}} \log p(y_i \mid x_i, w)\Big],
        \qquad w \sim q,

    the negative bound per datum. What the user handed in is copied, not changed, and Pyro's parameter store stays as it
    was; so does the global random state if there is a seed.

    Args:
        model: The network; ``model.num_data`` must be the number of training rows (after the validation split).
        train_data: (x, y): inputs ``(rows, *input_shape)`` and observations ``(rows,)``, or anything with ``x`` and
            ``y``, or a ``TensorDataset``. Training happens on the inputs' device and in their dtype.
        epochs: Passes over the data.
        batch_size: Rows a step.
        kl_weight: Weight :math:`\kappa` of the divergence; below 1 the posterior is a tempered (cold) one.
        kl_warmup: Epochs over which the KL weight rises from 0.
        frozen_kl_weight: Weight of the divergence while gates are frozen; None keeps ``kl_weight``. A large weight to
            prune and a smaller one to settle.
        hold: Epochs at the start with all gates held open.
        freeze: Epochs at the end with gates frozen at :math:`\gamma > 1/2`.
        decay: Fraction of the run over which learning rates fall to 0 by a cosine.
        temperature: Temperature of the gates' gradient, or (first, last) of a geometric schedule; None leaves the
            guide's.
        learning_rates: By the role of a parameter.
        clip_norm: Largest norm of the gradient of a step; None does not clip.
        num_particles: Draws of the posterior a step.
        local_reparameterization: Whether linear layers and convolutions draw their outputs instead of their weights:
            less noise in the gradient for a second product. ``"exact"`` does so only where an example has one row, as
            in a perceptron: the positions of a convolution share their weights, but would get noise of their own. None
            is ``"exact"`` for batches of up to 64 rows; in larger ones the product costs more than the draw of the
            weights.
        validation: (x, y), or the fraction of the training rows to hold out.
        patience: Stop after so many epochs, past the hold, without a better validation NLL; needs ``validation``.
        callback: Called after each epoch with the epoch's record and the posterior so far; True stops.
        seed: Seed of this call; None goes on from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal.
        shrink_below: Leave out nodes whose inclusion probability has fallen below this after an epoch with free gates
            (below 1/2 once gates are frozen), so that the rest of the run gets cheaper; in the posterior they are
            closed for good (:math:`\gamma = 10^{-6}`). None trains all nodes to the end. 0.01 is a good value.
        guide: A guide of ``model.prior`` or ``model``: one of ours, or an AutoGuide of Pyro, which cannot hold, freeze
            or leave out gates; default :class:`~guides.AutoSpikeSlab`.
        optimizer: A Pyro optimiser, which has its own learning rates and clipping, or a function from torch parameter
            groups to a torch optimiser; default Adam.
        elbo: An ELBO to use instead of ours; its draws a step count, and the KL weight is that of this call.
        engine: How steps are computed: by Pyro as it stands (``"eager"``), as a program of tensors that was traced
            once (``"traced"``) or compiled (``"compiled"``), or by what is expected to be fastest (``"auto"``). Ways
            differ in rounding, and an eager run draws its noise in another order; a model that cannot be traced runs
            eagerly, as do Pyro's optimisers.

    Returns:
        The posterior, with one record an epoch in ``history``. Running statistics of BatchNorms are those of the
        median-probability model: while it was trained they were averages over many draws of the network.

    Raises:
        ValueError: If data, shapes or an option are out of range, or the loss is not finite.
    """
    schedule = Schedule(epochs, hold, freeze, kl_weight, kl_warmup, decay, _pair(temperature), frozen_kl_weight)
    _check_at_least_one(batch_size=batch_size, num_particles=num_particles, patience=patience)
    _check_optimizer(optimizer, clip_norm, shrink_below)
    _check_guide(guide, schedule, shrink_below)
    if patience is not None and validation is None:
        raise ValueError("patience needs validation data to watch, got validation=None")
    x, y = as_pair("train_data", train_data)
    with _isolated(seed, x.device):
        model, guide = _own(model, guide, x, y)
        (x, y), held_out = hold_out(x, y, validation)
        check_rows(model, (x, y), held_out)
        if local_reparameterization is None:
            local_reparameterization = "exact" if min(batch_size, len(x)) <= LOCAL_ROWS else False
        ours = SparseELBO(num_particles=num_particles, local_reparameterization=local_reparameterization)
        objective = ours if elbo is None else copy.copy(elbo)
        step = stepper(model, guide, optimizer, objective, learning_rates, clip_norm, engine)
        run = _Run(model, guide, step, schedule, (x, y), held_out, batch_size, shrink_below)
        try:
            run.train(patience, callback, progress)
        finally:
            run.step.release()
        settle_batch_norm(run.posterior, x[:: max(1, len(x) // SETTLING_ROWS)])
    return run.posterior


class _Run:
    """A training run: epochs, records, early stopping."""

    def __init__(
        self,
        model: SparseNetwork,
        guide: Any,
        step: Any,
        schedule: Schedule,
        data: tuple[Tensor, Tensor],
        held_out: tuple[Tensor, Tensor] | None,
        batch_size: int,
        shrink_below: float | None,
    ) -> None:
        self.whole = Whole(model, guide)
        self.shrink_below = shrink_below
        self.model, self.guide, self.step, self.schedule = model, guide, step, schedule
        self.data, self.held_out, self.batch_size = data, held_out, batch_size
        self.posterior = Posterior(model, guide, kl_weight=schedule.kl_weight)  # of the whole network
        self.history = self.posterior.history
        self.kl_weight = schedule.kl_weight  # of the latest step

    def train(self, patience: int | None, callback: Callback | None, progress: bool | None) -> None:
        """Runs the epochs."""
        start = time.perf_counter()
        with tqdm(total=self.schedule.epochs, unit="epoch", disable=None if progress is None else not progress) as bar:
            for epoch in range(self.schedule.epochs):
                loss = self._epoch(epoch)
                record = self._record(epoch, loss, time.perf_counter() - start)
                self.history.append(record)
                bar.set_postfix_str(_summary(record))
                bar.update()
                if (callback is not None and callback(record, self.posterior)) or self._stalled(patience):
                    break
                self._shrink(epoch)
        self.posterior.model.net.eval()
        if getattr(self.posterior.guide, "gate_mode", None) == "open":  # stopped early: from here on gates are drawn
            self.posterior.guide.gate_mode = "free"

    def _epoch(self, epoch: int) -> Tensor:
        """Runs one epoch and returns its mean loss per datum."""
        x, y = self.data
        steps = -(-len(x) // self.batch_size)
        if isinstance(self.guide, AutoProgram):
            self.guide.gate_mode = self.schedule.gate_mode(epoch)
        self.model.net.train()
        total = x.new_zeros(())
        for i, (xs, ys) in enumerate(batches(x, y, self.batch_size)):
            now = epoch + i / steps
            self._set_temperature(self.schedule.temperature_at(now))
            self.kl_weight = self.schedule.kl_weight_at(now)
            loss = self.step(xs, ys, self.kl_weight, self.schedule.rate_at(now), self._plan(epoch, len(xs)))
            total += loss.detach() * (len(xs) / len(x))
        return total

    def _plan(self, epoch: int, rows: int) -> Plan:
        """Returns how many steps on batches of some rows are to come with this network, at least and at most."""
        schedule, each = self.schedule, len(self.data[0]) // self.batch_size if rows == self.batch_size else 1
        most = schedule.epochs - epoch
        if not getattr(self.step, "is_switched", False):  # other operations in another mode of the gates
            modes = [schedule.gate_mode(later) for later in range(epoch, schedule.epochs)]
            most = next((i for i, mode in enumerate(modes) if mode != modes[0]), most)
        least = most if self.shrink_below is None else min(most, max(schedule.hold - epoch, 0) + 1)
        return Plan(least * each, most * each)

    def _set_temperature(self, temperature: float | None) -> None:
        if temperature is not None and isinstance(self.guide, AutoProgram):
            self.guide.temperature.fill_(temperature)

    @torch.no_grad()
    def _record(self, epoch: int, loss: Tensor, seconds: float) -> Record:
        """Returns what is known after an epoch; the loss is read from the device here, once an epoch."""
        value = float(loss)
        if not math.isfinite(value):
            raise ValueError(
                f"the loss must stay finite, got {value} in epoch {epoch + 1}: lower learning_rates or set clip_norm"
            )
        self.model.net.eval()
        self.whole.update(self.model, self.guide)
        self.posterior.kl_weight = self.kl_weight  # a run may end, or be stopped, before the schedule's last weight
        keep = self.posterior.keep()
        record: Record = {
            "epoch": epoch + 1,
            "loss": value,
            "kl_weight": self.kl_weight,
            "gates": self.schedule.gate_mode(epoch),
            "nodes_kept": {name: int(mask.sum()) for name, mask in keep.items()},
            "seconds": seconds,
            "compile_seconds": getattr(getattr(self.step, "engine", None), "compile_seconds", 0.0),
        }
        data, prefix = (self.held_out, "validation") if self.held_out is not None else (self._some_rows(), "train")
        try:
            scores = Posterior(self.model, self.guide).evaluate(*data)  # of the smaller network, which gives the same
        except ValueError as error:  # the data was checked: it is the outputs that are not finite
            raise ValueError(
                f"the loss must stay finite, got weights that diverged in epoch {epoch + 1}: lower learning_rates or "
                f"set clip_norm ({error})"
            ) from error
        record.update({f"{prefix}_{name}": score for name, score in scores.items()})
        return record

    def _shrink(self, epoch: int) -> None:
        """Goes on without the nodes whose gates have settled closed, if there are enough of them to pay."""
        is_last = epoch + 1 == self.schedule.epochs
        if self.shrink_below is None or is_last or self.schedule.gate_mode(epoch) == "open":
            return
        freezing = self.schedule.gate_mode(epoch + 1) == "frozen"  # then the closed ones are closed for good
        keep = settled_open(Posterior(self.model, self.guide).inclusion(), 0.5 if freezing else self.shrink_below)
        if not keep or weights_kept(self.model, keep) > WORTH_IT:
            return
        shrunk = shrink(self.model, self.guide, keep)
        self.whole.shrunk_by(shrunk)
        self.step = self.step.moved_to(shrunk)
        self.model, self.guide = shrunk.model, shrunk.guide
        store = pyro.get_param_store()  # the run's own: the smaller net's points have the names of the larger one's
        store.get_state()  # takes Pyro's weak references off the parameters, with which they could not be pickled
        store.clear()

    def _some_rows(self, rows: int = 2000) -> tuple[Tensor, Tensor]:
        """Returns training rows to score, evenly spread, as data may be sorted."""
        x, y = self.data
        stride = max(1, len(x) // rows)
        return x[::stride], y[::stride]

    def _stalled(self, patience: int | None) -> bool:
        """Whether the validation NLL has not improved for ``patience`` epochs past the hold."""
        nll = [r["validation_nll"] for r in self.history if r["gates"] != "open"] if patience is not None else []
        return patience is not None and len(nll) > patience and min(nll[-patience:]) >= min(nll[:-patience])


def _own(model: SparseNetwork, guide: Any, x: Tensor, y: Tensor) -> tuple[SparseNetwork, Any]:
    """Returns copies of model and guide that belong to this run, on the data's device and dtype."""
    if not isinstance(model, SparseNetwork):
        raise ValueError(
            f"model must be a SparseNetwork, got {type(model).__name__}; use pyro.infer.SVI for other Pyro models"
        )
    if guide is None:
        model = copy.deepcopy(model).to(x)
        return model, AutoSpikeSlab(model.prior)
    model, guide = copies(model, guide)
    model.to(x)
    if not list(guide.parameters()):
        guide(x[:1], y[:1])  # Pyro's own guides make their parameters at the first call
    return model, guide.to(x)


def _pair(temperature: float | tuple[float, float] | None) -> tuple[float, float] | None:
    return (temperature, temperature) if isinstance(temperature, (int, float)) else temperature


def _check_at_least_one(**values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def _check_optimizer(optimizer: object, clip_norm: float | None, shrink_below: float | None) -> None:
    if optimizer is not None and not callable(optimizer):
        raise ValueError(
            "optimizer must be a Pyro optimiser, or a function from parameter groups to a torch optimiser such as "
            f"torch.optim.Adam itself, got {type(optimizer).__name__}"
        )
    if clip_norm is not None and not clip_norm > 0:
        raise ValueError(f"clip_norm must be positive, got {clip_norm}")
    if isinstance(optimizer, PyroOptim) and clip_norm is not None:
        raise ValueError("clip_norm needs a torch optimiser; give a Pyro optimiser its own clip_args")
    if isinstance(optimizer, PyroOptim) and shrink_below is not None:
        raise ValueError("shrink_below needs a torch optimiser, whose state can be cut; got a Pyro optimiser")
    if shrink_below is not None and not 0 < shrink_below < 0.5:
        raise ValueError(f"shrink_below must lie in (0, 0.5), got {shrink_below}")


def _check_guide(guide: object, schedule: Schedule, shrink_below: float | None) -> None:
    """Checks that a guide can do what is asked of it; only ours have gates that can be led."""
    if guide is not None and not isinstance(guide, AutoGuide):
        raise ValueError(f"guide must be one of ours or an AutoGuide of Pyro, got {type(guide).__name__}")
    asked = {
        "hold": schedule.hold,
        "freeze": schedule.freeze,
        "temperature": schedule.temperature,
        "shrink_below": shrink_below,
    }
    if guide is not None and not isinstance(guide, AutoProgram):
        for name in (name for name, value in asked.items() if value):
            raise ValueError(f"{name} needs an AutoSpikeSlab or AutoCentered guide, got {type(guide).__name__}")


@contextmanager
def _isolated(seed: int | None, device: torch.device) -> Iterator[None]:
    """Keeps Pyro's parameter store, its validation and (with a seed) the random state as they were."""
    with seeded(seed, device), pyro.get_param_store().scope(), pyro.validation_enabled(False):
        yield


def _summary(record: Record) -> str:
    """Returns the line beside the progress bar."""
    score = next((f"{k.split('_')[-1]} {v:.4f}" for k, v in record.items() if k.endswith(("accuracy", "rmse"))), "")
    nodes = "-".join(str(n) for n in record["nodes_kept"].values())
    return f"ELBO/datum {-record['loss']:.4f}, {score}, nodes {nodes or 'all'}"
