"""fit_sghmc: sampling a SparseNetwork and pruning it in one shot, while it is trained."""

import copy
import math
import time
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from tqdm.auto import tqdm

from bnn_pyro.inference.checks import Data, as_pair, check_rows, hold_out, warn_of_scales
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.likelihood_latent import Latent
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.sgmcmc.sghmc import cosine, effective_temperature
from bnn_pyro.inference.sgmcmc.step import SamplingStep
from bnn_pyro.inference.training.batches import batches
from bnn_pyro.inference.training.flat_parameters import ParameterVector
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.threads import driving
from bnn_pyro.priors.gaussian import Gaussian
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from bnn_pyro.tracing.engine import EngineName, Plan

Record = dict[str, Any]
SETTLED = 25  # epochs without a removal, after which the network is taken to stay as it is
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

    Returns:
        The snapshots as a posterior, with one record per epoch in ``history``.

    Raises:
        ValueError: If data, shapes or an option are out of range, the slab is not Gaussian, ``plan.em`` has a threshold
            for nodes that are not there, or the loss is not finite.
    """
    _check_options(model, epochs, batch_size, plan)
    x, y = as_pair("data", data, model.layout)
    with driving("fit_sghmc"), seeded(seed, x.device):
        whole = copy.deepcopy(model).to(x)
        train, held_out = hold_out(x, y, validation, model.layout)
        check_rows(whole, train, held_out)
        warn_of_scales(*train, whole.likelihood, whole.layout)
        if plan.em is not None:
            plan.em.check(whole.nodes.groups)
        run = _Run(whole, train, plan.sampler, plan.em, engine, epochs)
        length = epochs * -(-len(train[0]) // batch_size) / plan.cycles
        taken = plan.epochs_of_snapshots(epochs)
        start = time.perf_counter()
        for epoch in tqdm(range(epochs), unit="epoch", disable=None if progress is None else not progress):
            record = run.epoch(epoch, batch_size, length)
            record["seconds"] = time.perf_counter() - start
            if held_out is not None:
                now = Ensemble(whole, [run.snapshot()]).evaluate_median(*held_out)
                record |= {f"validation_{name}": score for name, score in now.items()}
            stops = callback is not None and callback(record)
            if stops or epoch in taken:
                run.snapshots.append(run.snapshot())
            if stops:
                break
    return Ensemble(whole, run.snapshots, history=run.history, temperature=plan.sampler.temperature)


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
        self.whole_x, self.y = train
        self.x = self.whole_x
        self.slab = cast(Gaussian, whole.slab).sigma
        self.keep = {g.name: torch.ones(g.size, dtype=torch.bool, device=self.x.device) for g in whole.nodes.groups}
        self.latent = Latent.of(whole.likelihood, self.x)
        self.trained = self._vector()
        self.engine, self.epochs, self.rate = engine, epochs, sampler.lr
        self.steps, self.changed = 0, 0  # steps so far, and the epoch of the latest removal
        self.optimizer = sampler.optimizer(self.trained.values, num_data=whole.num_data, weight_decay=0.0)
        self.step = SamplingStep(self._loss, self.trained, self.optimizer, engine)
        self.decay, self.inclusion = self._weight_decay({}), dict[str, Tensor]()
        self.snapshots: list[Snapshot] = []
        self.history: list[Record] = []

    def epoch(self, number: int, batch_size: int, length: float) -> Record:
        """Runs an epoch and notes it; a cycle of the step size has the length given, in steps."""
        if self.em is not None and number >= self.em.warmup and self._prune(self.em):
            self.changed = number
        group = self.optimizer.param_groups[0]
        group["lr"] = self.rate * cosine(self.steps, length)
        record: Record = {"epoch": number + 1, "lr": group["lr"], "temperature": effective_temperature(group)}
        self.model.train_net()
        total, left = self.x.new_zeros(()), self._epochs_as_it_is(number)
        for xs, ys in batches(self.x, self.y, batch_size):
            expected = left * (len(self.x) // batch_size if len(xs) == batch_size else 1)
            group["lr"] = self.rate * cosine(self.steps, length)
            loss = self.step(xs, ys, self.decay, Plan(expected, expected))
            self.steps += 1
            total.add_(loss, alpha=len(xs) / len(self.x))
        record["loss"] = float(total)
        if not math.isfinite(record["loss"]):
            raise ValueError(
                f"the loss must stay finite, got {record['loss']} in epoch {number + 1}: lower the sampler's lr"
            )
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

    def _loss(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the mean negative log-likelihood, with the prior of the likelihood's own latent."""
        latent = None if self.latent is None else self.latent.value()
        distribution: Any = self.model.likelihood.distribution(self.model.layout.call(self.model.net, x), latent)
        loss: Tensor = -distribution.log_prob(y).mean()
        return loss if self.latent is None else loss - self.latent.log_prior() / self.model.num_data

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
        self.step = SamplingStep(self._loss, self.trained, self.optimizer, self.engine)
        for name, mask in keep.items():
            self.keep[name][self.keep[name].clone()] = mask
        if self.model.selection is not None:
            self.x = self.whole_x.index_select(-1, self.model.selection)

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
        nothing, slab = self.x.new_zeros(()), self.x.new_full((), 1 / (self.model.num_data * self.slab**2))
        of_all = {**dict.fromkeys(self.trained.named, nothing), **dict.fromkeys(self._weights(), slab), **decays}
        return self.trained.joined(of_all)


def _are_equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def _check_options(model: SparseNetwork, epochs: int, batch_size: int, plan: OneShot) -> None:
    if not isinstance(model, SparseNetwork):
        raise ValueError(f"model must be a SparseNetwork, got {type(model).__name__}")
    if not isinstance(model.slab, Gaussian):
        raise ValueError(
            f"prior must have a Gaussian slab, whose precision is a weight decay, got {type(model.slab).__name__}"
        )
    for name, value in {"epochs": epochs, "batch_size": batch_size}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if plan.cycles > epochs:
        raise ValueError(f"cycles must be at most the {epochs} epochs, got {plan.cycles}")
