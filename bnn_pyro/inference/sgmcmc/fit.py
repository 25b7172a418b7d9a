"""fit_sghmc: sampling a SparseNetwork and pruning it in one shot, while it is trained."""

import copy
import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only
from tqdm.auto import tqdm

from bnn_pyro.arguments import check_seed, check_type, check_wholes
from bnn_pyro.data.mapped import columns, placed
from bnn_pyro.fields import FLAG, HISTORY, WHOLE, check_fields
from bnn_pyro.identity import described, digest, network_identity
from bnn_pyro.inference.checkpoint import Checkpoint, EpochFile, restoring
from bnn_pyro.inference.checks import Data, as_pair, check_rows, hold_out, warn_of_scales
from bnn_pyro.inference.generators import random_state, seeded, set_random_state
from bnn_pyro.inference.interrupts import Interrupts, StepClock, holding_interrupts
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.likelihood_latent import Latent
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.sgmcmc.sghmc import cosine, effective_temperature
from bnn_pyro.inference.sgmcmc.step import SamplingStep
from bnn_pyro.inference.training.batches import batches, normalises, sizes_of_batches
from bnn_pyro.inference.training.flat_parameters import ParameterVector
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.files import snapshot_of, snapshot_values
from bnn_pyro.posterior.threads import driving
from bnn_pyro.priors.gaussian import Gaussian
from bnn_pyro.pruning.batch_norm import evenly_spread, recompute_batch_norm
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from bnn_pyro.tracing.engine import EngineName, Plan

Record = dict[str, Any]
SETTLED = 25  # epochs without a removal, after which the network is taken to stay as it is
SETTLING_ROWS = 10_000  # for the running statistics of a snapshot's BatchNorms
SAMPLER = ("rho", "momentum", "noise")  # the parts of the sampler's state
_FIELDS = {"epochs": WHOLE, "is_over": FLAG, "history": HISTORY}  # of a state, what is used later on
LATENT = "likelihood"  # the latent's name among the trained parameters; those of a net have a dot or are a layer's


def fit_sghmc(
    model: SparseNetwork,
    data: Data,
    plan: OneShot = OneShot(),  # noqa: B008  (frozen)
    *,
    epochs: int = 200,
    batch_size: int = 256,
    validation: Data | float | None = None,
    callback: Callable[[Record], bool | None] | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    engine: EngineName = "auto",
    device: str | torch.device | None = None,
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
) -> Ensemble:
    r"""Sample a network's weights in cycles of a falling step size, and remove nodes for good while doing so.

    The weights start at the net's own and follow `bnn_pyro.inference.sgmcmc.sghmc.SpikeSlabSGHMC`. At the start of each
    epoch an EM says which nodes' weights decay much and which little, and a hard rule which nodes go
    (`bnn_pyro.inference.sgmcmc.group_em.GroupEM`). What goes leaves the arrays at once, the optimiser's too, and inputs
    that nothing reads leave the data, so that training gets cheaper; nothing is trained again afterwards.

    The slab is that of the prior, which must be Gaussian: its weight decay is :math:`1 / (N \sigma^2)`. Of the prior's
    spike only the inclusion probability is used, by the exact E-step; the spike here is a narrow Gaussian. Points
    (parameters without a slab) have no weight decay.

    What the user handed in is copied, not changed; so is the global random state if there is a seed. Inputs or targets
    that are far from unit scale are logged as a warning.

    Args:
        model: The network; ``model.num_data`` must be the number of training rows (after the validation split). With a
            bare slab as its prior nothing is pruned, and this is the plain adaptive sampler.
        data: (x, y): inputs ``(rows, *input_shape)``, a tuple or dictionary of several, and observations ``(rows,)``;
            or anything with ``x`` and ``y``, a ``Dataset`` or a ``DataLoader``. Training happens on the inputs' device
            and in their dtype.
        plan: The sampler, the rule of removal, and from where in its cycles snapshots are taken.
        epochs: Passes over the data.
        batch_size: Rows a step.
        validation: (x, y), or the fraction of the training rows to hold out; scored after each epoch.
        callback: Called after each epoch with the epoch's record; True stops.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal.
        engine: How loss and gradient are computed once no node has gone for a while: ``"traced"`` (a program of tensors
            without Python in between, twice as fast for a small network), ``"compiled"``, ``"eager"``, or ``"auto"``
            for what pays; see `bnn_pyro.tracing.engine.Engine`.
        device: Where to compute, such as ``"cuda"``, to which data and copies are moved, inputs in a file batch by
            batch; None for the inputs' device.
        checkpoint: File to save the run in, and to resume it from if it is there, with the same result as a run that
            was not interrupted. A path is saved to after every epoch. None saves nothing. All that decides the run is
            compared: data, network, prior, likelihood and options.

    Returns:
        The snapshots as a posterior, with one record per epoch in ``history``. The BatchNorms of each have running
        statistics of its own weights, by a pass over up to 10,000 rows.

    Raises:
        ValueError: If data, shapes or an option are out of range, the slab is not Gaussian, ``plan.em`` has a threshold
            for nodes that are not there, the loss is not finite, or the checkpoint is damaged or of another run.
    """
    check_type("plan", plan, OneShot)
    check_seed(seed, progress)
    _check_options(model, epochs, batch_size, plan)
    x, y = as_pair("data", data, model.layout, device=device, likelihood=model.likelihood, may_stream=True)
    saving = Checkpoint.of(checkpoint)
    file = None if saving is None else EpochFile(saving, writer="fit_sghmc", mark="sghmc")
    seed = seed if file is None else file.seed(seed)
    with driving("fit_sghmc"), seeded(seed, y.device):
        whole = copy.deepcopy(model).to(y.device, x.dtype)
        train, held_out = hold_out(x, y, validation, model.layout, model.likelihood)
        check_rows(whole, train, held_out)
        warn_of_scales(*train, whole.likelihood, whole.layout)
        if plan.em is not None:
            plan.em.check(whole.nodes.groups)
        run = _Run(whole, train, plan.sampler, plan.em, engine, epochs)
        length = epochs * len(sizes_of_batches(len(train[0]), batch_size, join=run.joins)) / plan.cycles
        taken = plan.epochs_of_snapshots(epochs)
        if file is not None:
            options = {"plan": plan, "epochs": epochs, "batch_size": batch_size, "seed": seed}
            rows = {"data": train, "validation": held_out}
            begun_with = {**network_identity(whole), "weights": digest(list(whole.state_dict().items()))}
            for name, option in {**options, **rows}.items():
                begun_with |= described(name, option)
            if (state := file.begin(begun_with)) is not None:
                check_fields(state, _FIELDS, file.path)
                with restoring(file.path):
                    run.load(state, whole)
        start = time.perf_counter() - (run.history[-1]["seconds"] if run.history else 0.0)
        disable = None if progress is None else not progress
        with (
            holding_interrupts(file is not None) as interrupts,
            tqdm(total=epochs, initial=run.first, unit="epoch", disable=disable) as bar,
        ):
            for epoch in range(run.first, 0 if run.is_over else epochs):
                record = run.epoch(epoch, batch_size, length, Stops(interrupts, file))
                record["seconds"] = time.perf_counter() - start
                if held_out is not None:
                    now = Ensemble(whole, [run.snapshot()]).evaluate_median(*held_out)
                    record |= {f"validation_{name}": score for name, score in now.items()}
                stops = bool(callback is not None and callback(record))
                if stops or epoch in taken:
                    run.snapshots.append(run.settled_snapshot())
                run.is_over = stops or epoch + 1 == epochs
                bar.update()
                if file is not None:
                    if interrupts or run.is_over or file.pace.is_due(epoch + 1):
                        file.write(run.state(epoch + 1))
                    interrupts.stop(f"after {epoch + 1} of {epochs} epochs", file.path)
                if run.is_over:
                    break
    acting = plan if whole.groups else dataclasses.replace(plan, em=None)  # an EM needs groups
    return Ensemble(whole, run.snapshots, history=run.history, temperature=acting.temperature)


class _Run:
    """A run: the network as small as it is by now, its sampler, and what was noted and taken so far."""

    def __init__(
        self,
        whole: SparseNetwork,
        train: tuple[Tensor, Tensor],
        sampler: Sampler,
        em: GroupEM | None,
        engine: EngineName,
        epochs: int,
    ) -> None:
        self.model, self.em = copy.deepcopy(whole), em if whole.groups else None
        self.joins = normalises(whole.net)
        self.whole_x, self.y = train
        self.x = self.whole_x
        self.zero = torch.zeros((), dtype=self.x.dtype, device=self.y.device)  # inputs may lie in a file
        self.slab = cast(Gaussian, whole.slab).sigma
        self.keep = {g.name: torch.ones(g.size, dtype=torch.bool, device=self.y.device) for g in whole.nodes.groups}
        self.latent = Latent.of(whole.likelihood, self.zero)
        self.trained = self._vector()
        self.engine, self.epochs, self.rate = engine, epochs, sampler.lr
        self.steps, self.changed = 0, 0  # steps so far, and the epoch of the latest removal
        self.first, self.is_over = 0, False  # the first epoch that this call makes; whether there are none to come
        self.planned = 0  # epochs that were expected when it was chosen how the network of now is computed
        self.optimizer = sampler.optimizer(self.trained.values, num_data=whole.num_data, weight_decay=0.0)
        self.step = SamplingStep(self._loss, self.trained, self.optimizer, engine)
        self.decay, self.inclusion = self._weight_decay({}), dict[str, Tensor]()
        self.snapshots: list[Snapshot] = []
        self.history: list[Record] = []

    def epoch(self, number: int, batch_size: int, length: float, stops: "Stops") -> Record:
        """Runs an epoch and notes it; a cycle of the step size has the length given, in steps."""
        if self.em is not None and number >= self.em.warmup and self._prune(self.em):
            self.changed = number
        group = self.optimizer.param_groups[0]
        group["lr"] = self.rate * cosine(self.steps, length)
        record: Record = {"epoch": number + 1, "lr": group["lr"], "temperature": effective_temperature(group)}
        self.model.train_net()
        total, left = self.zero.clone(), self._epochs_as_it_is(number)
        if number == self.first and left:  # resumed or not, the same way of computing is to be chosen
            left = self.planned or left
        self.planned = self.planned or left
        sizes = sizes_of_batches(len(self.x), batch_size, join=self.joins)
        clock = StepClock(len(sizes))
        for done, (xs, ys) in enumerate(batches(self.x, self.y, batch_size, join=self.joins), start=1):
            expected = left * sizes.count(len(xs))
            group["lr"] = self.rate * cosine(self.steps, length)
            loss = self.step(xs, ys, self.decay, Plan(expected, expected))
            self.steps += 1
            if self.y.device.type == "cpu":  # nothing waits for other devices before the end of the epoch
                _check_loss(loss, f"epoch {number + 1}, step {done}")
            total.add_(loss, alpha=len(xs) / len(self.x))
            if stops.interrupts and stops.file is not None and clock.is_long(done):
                stops.interrupts.stop(f"in epoch {number + 1} of {self.epochs}", stops.file.path)
        record["loss"] = float(total)
        _check_loss(total, f"epoch {number + 1}")
        record["nodes_kept"] = {g.name: g.size for g in self.model.nodes.groups}
        self.history.append(record)
        return record

    def _epochs_as_it_is(self, number: int) -> int:
        """Returns how many more epochs the network is expected to keep its present size; 0 where nodes still go."""
        if self.em is not None and number < self.em.warmup:
            return min(self.em.warmup, self.epochs) - number
        settled = self.em is None or number - self.changed >= max(SETTLED, number // 4)
        return self.epochs - number if settled else 0

    def snapshot(self) -> Snapshot:
        """Returns the network as it is now."""
        model = copy.deepcopy(self.model)
        for parameter in model.bayesian:
            model.net.get_parameter(parameter.name).requires_grad_(False)
        model.net.eval()
        latent = None if self.latent is None else self.latent.value().detach()
        return Snapshot(model, {name: mask.clone() for name, mask in self.keep.items()}, latent)

    def settled_snapshot(self) -> Snapshot:
        """Returns the network as it is now, its BatchNorms with the running statistics of these very weights."""
        taken = self.snapshot()
        rows = taken.model.layout.native(evenly_spread(self.x, SETTLING_ROWS).to(self.y.device))
        taken.model.net = recompute_batch_norm(taken.model.net, rows, frozen=taken.model.frozen)
        return taken

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the mean negative log-likelihood, with the prior of the likelihood's own latent."""
        latent = None if self.latent is None else self.latent.value()
        distribution: Any = self.model.likelihood.distribution(self.model.layout.call(self.model.net, x), latent)
        loss: Tensor = -distribution.log_prob(y).mean()
        return loss if self.latent is None else loss - self.latent.log_prior() / self.model.num_data

    # ---- stopping and resuming ---------------------------------------------------------------------------------------

    def state(self, epochs: int) -> dict[str, Any]:
        """Returns all that the rest of the run depends on, after so many epochs."""
        return {
            "epochs": epochs,
            "is_over": self.is_over,
            "counts": [self.steps, self.changed, self.planned],
            "keep": dict(self.keep),
            "net": dict(self.model.net.state_dict()),
            "latent": None if self.latent is None else self.latent.unconstrained.detach(),
            "sampler": dict(zip(SAMPLER, self.optimizer.started(self.trained.values), strict=True)),
            "decay": self.decay,
            "inclusion": dict(self.inclusion),
            "snapshots": [snapshot_values(snapshot) for snapshot in self.snapshots],
            "history": [dict(record) for record in self.history],
            "random": random_state(self.y.device),
        }

    def load(self, state: Mapping[str, Any], whole: SparseNetwork) -> None:
        """Takes over the state of a run of the whole network that was begun in the same way."""
        random, device = state["random"], self.y.device  # states of generators stay on the CPU
        state = tree_map_only(Tensor, lambda tensor: tensor.to(device), {**state, "random": None})
        if not all(bool(mask.all()) for mask in state["keep"].values()):
            self._shrink(state["keep"])
        self.first, self.is_over = state["epochs"], state["is_over"]
        self.steps, self.changed, self.planned = state["counts"]
        with torch.no_grad():
            self.model.net.load_state_dict(state["net"])
            if self.latent is not None:
                self.latent.unconstrained.copy_(state["latent"])
            for name, value in zip(SAMPLER, self.optimizer.started(self.trained.values), strict=True):
                value.copy_(state["sampler"][name])
        self.decay, self.inclusion = state["decay"], state["inclusion"]
        self.snapshots = [snapshot_of(saved, whole) for saved in state["snapshots"]]
        self.history.extend(state["history"])
        set_random_state(random, device)

    # ---- expectation, maximisation, removal --------------------------------------------------------------------------

    def _prune(self, em: GroupEM) -> bool:
        """Removes nodes by the hard rule, and gives those that are left their weight decays; returns if any went."""
        keep = em.keep(self.model.nodes.groups, self._weights())
        goes = not all(torch.stack([mask.all() for mask in keep.values()]).tolist())
        if goes:
            self._shrink(keep)
        weights, groups = self._weights(), self.model.nodes.groups
        inclusion = em.inclusion(groups, weights, slab=self.slab, prior=self.model.inclusion)
        if goes or not _are_equal(inclusion, self.inclusion):
            decays = em.weight_decays(groups, weights, inclusion, slab=self.slab, num_data=self.model.num_data)
            self.decay, self.inclusion = self._weight_decay(decays), inclusion
        return goes

    def _shrink(self, keep: dict[str, Tensor]) -> None:
        """Goes on without the nodes that are not kept: in the net, the optimiser and the data."""
        positions = kept_positions(self.model.net, self.model.nodes.groups, keep)
        before, self.model = self.trained, smaller_model(self.model, keep, positions)
        self.trained = self._vector()
        self.optimizer.replace(before.values, self.trained.values, {0: before.positions(positions)})
        self.step, self.planned = SamplingStep(self._loss, self.trained, self.optimizer, self.engine), 0
        for name, mask in keep.items():
            self.keep[name][self.keep[name].clone()] = mask
        if self.model.selection is not None:
            self.x = placed(columns(self.whole_x, self.model.selection), self.y.device)

    def _vector(self) -> ParameterVector:
        """Makes one vector of all that is trained: slabs, points that require grad, the likelihood's latent."""
        slabs = {p.name for p in self.model.bayesian}
        named = {n: p for n, p in self.model.net.named_parameters() if p.requires_grad or n in slabs}
        for parameter in named.values():
            parameter.requires_grad_(True)
        return ParameterVector(named if self.latent is None else {**named, LATENT: self.latent.unconstrained})

    def _weights(self) -> dict[str, Tensor]:
        return {p.name: self.model.net.get_parameter(p.name).detach() for p in self.model.bayesian}

    def _weight_decay(self, decays: dict[str, Tensor]) -> Tensor:
        """Returns a weight decay for each number: slabs have that of an M-step or else the slab's, points have none."""
        nothing, slab = self.zero, self.zero.new_full((), 1 / (self.model.num_data * self.slab**2))
        of_all = {**dict.fromkeys(self.trained.named, nothing), **dict.fromkeys(self._weights(), slab), **decays}
        return self.trained.joined(of_all)


def _check_loss(loss: Tensor, where: str) -> None:
    if not torch.isfinite(loss):
        raise ValueError(f"the loss must stay finite, got {float(loss)} in {where}: lower the sampler's lr")


class Stops(NamedTuple):
    """What may stop an epoch, and the file that the run is resumed from then."""

    interrupts: Interrupts
    file: EpochFile | None


def _are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def _check_options(model: SparseNetwork, epochs: int, batch_size: int, plan: OneShot) -> None:
    if not isinstance(model, SparseNetwork):
        raise ValueError(f"model must be a SparseNetwork, got {type(model).__name__}")
    if not isinstance(model.slab, Gaussian):
        raise ValueError(
            f"prior must have a Gaussian slab, whose precision is a weight decay, got {type(model.slab).__name__}"
        )
    check_wholes({"epochs": epochs, "batch_size": batch_size})
    if plan.cycles > epochs:
        raise ValueError(f"cycles must be at most the {epochs} epochs, got {plan.cycles}")
