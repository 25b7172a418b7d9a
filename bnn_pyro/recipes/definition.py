"""Settings of the main job, and what is made from them: the data's form, the net, the prior, the model, the guide."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnn_pyro.arguments import check_choice, check_flags, check_reals, check_types, check_whole, check_wholes
from bnn_pyro.data import Split
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.inference.svi.timetable import Timetable
from bnn_pyro.likelihoods import (
    Categorical,
    GaussianNoise,
    HeteroscedasticNoise,
    Likelihood,
    MeanDependentNoise,
    RowWeights,
    with_weights,
)
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks.named import NETS, check_widths, make_net, reads_images
from bnn_pyro.networks.normalize import normalized
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, Slab, SpikeSlab
from bnn_pyro.pruning.cutting import cut_inputs
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.path_plan import PathPlan
from bnn_pyro.refinement import Refinement
from guides import AutoSpikeSlab

SLABS: dict[str, Callable[..., Slab]] = {"ig": Gaussian, "gl": GroupLasso, "ghs": GroupHorseshoe}
"""The slabs by name."""


PRIORS: tuple[str, ...] = (*(f"ss-{name}" for name in SLABS), *SLABS)
"""The priors by name: spike-and-slab with a Gaussian, group-lasso or group-horseshoe slab, and each slab alone."""


NoiseName = Literal["constant", "mean", "input"]
NOISES: dict[str, Callable[..., Likelihood]] = {
    "constant": GaussianNoise,
    "mean": MeanDependentNoise,
    "input": HeteroscedasticNoise,
}
"""The noises of a regression by name."""


_SETTLING = 0.4  # of the epochs, in which gates are held open and the weight of the divergence rises
_FLAGS = ("normalize", "refine_if_worth", "reference")
_NUMBERS = ("sigma", "kl_weight", "init_inclusion", "init_scale")
_OPTIONAL = ("inclusion", "clip_norm", "least_kl_weight")


METHODS: tuple[str, ...] = ("svi", "sghmc")
"""The methods by name: stochastic variational inference, and sampling with one-shot pruning."""


def check_names(*, net: str = "mlp", prior: str = "ss-ghs", method: str = "svi") -> None:
    """Check that names are known.

    Args:
        net: Name of a net.
        prior: Name of a prior.
        method: Name of a method.

    Raises:
        ValueError: If a name is unknown; the message lists the known ones.
    """
    for name, value, known in (("net", net, NETS), ("prior", prior, PRIORS), ("method", method, METHODS)):
        check_choice(name, value, known)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of the main job.

    Args:
        net: One of `bnn_pyro.networks.named.NETS`.
        prior: One of `PRIORS`; those without `ss-` have no gates, so that nothing is pruned.
        hidden: Width of each hidden layer. For `residual-mlp` the first is the width of the channels that all blocks
            share; each further one, all alike, is a block of that many nodes. For `lenet` the first two are numbers of
            filters; for a `resnet` there is one, the channels of its first stage.
        select_inputs: Whether the inputs have gates too; ``"auto"`` lets held-out rows decide before the run, by
            `bnn_pyro.recipes.trials.hold_trials`, but on which inputs there are, and none has gates then.
        reads: Numbers of the input features that the net reads, increasing, the others being dropped before variational
            inference; None for all.
        normalize: Whether the net standardises the channels of its images, by those of training; it takes them as they
            come all the same, before pruning and after.
        augmentation: What the images of each batch undergo, in dense training and in variational inference; None leaves
            them as they are.
        sigma: Standard deviation of the slab.
        inclusion: Prior inclusion probability of a node, in (0, 1); None takes the theory's.
        dense: How the dense network is trained that the posterior starts from.
        epochs: Epochs of variational inference.
        batch_size: Rows per step.
        kl_weight: Weight of the divergence; below 1 the posterior is a tempered (cold) one. With a `path`, what it
            chooses takes its place.
        schedule: What changes in the course of the run.
        rates: Learning rates by the role of a parameter.
        clip_norm: Largest norm of a step's gradient; None does not clip.
        init_inclusion: Inclusion probability of every gate at the start.
        init_scale: Standard deviation of a slab at the start, as a fraction of the root mean square of its weights.
        one_shot: Settings of sampling with one-shot pruning, which starts from an untrained net and takes of the above
            the net, its inputs, the slab's `sigma`, `inclusion`, `epochs` and `batch_size` alone; None for variational
            inference.
        refinement: How the posterior of the pruned network is sampled once the nodes are chosen; None leaves it out.
        refine_if_worth: Whether that is left out too where `bnn_pyro.refinement.is_worth_refining` advises so.
        reference: Whether the whole network is sampled as well, to say what was lost by pruning; with a refinement.
        noise: The noise of a regression, of `NOISES`: ``"constant"`` is one number, which is learned
            (``GaussianNoise``); ``"mean"`` follows what is predicted (``MeanDependentNoise``); ``"input"`` is predicted
            by a second output of the network (``HeteroscedasticNoise``). ``"auto"`` is constant, and lets held-out rows
            decide before the run, as for `select_inputs`, whether the noise of the sampled network follows the mean:
            variational inference, and so the pruned network alone, predicts means less well with such a noise. It
            means nothing for classes.
        path: How the KL weight is chosen on held-out rows before the run; None takes `kl_weight` as it is.
        least_kl_weight: Where a group ends without a node, the posterior is fitted again at a tenth of the KL weight,
            and so on, not below this; None leaves it as it is.

    Raises:
        ValueError: If a name is unknown or a number is out of range.
    """

    net: str = "mlp"
    prior: str = "ss-ghs"
    hidden: tuple[int, ...] = (50,)
    select_inputs: bool | Literal["auto"] = False
    reads: tuple[int, ...] | None = None
    normalize: bool = False
    augmentation: Augmentation | None = None
    sigma: float = 1.0
    inclusion: float | None = None
    dense: DenseTraining = DenseTraining()  # noqa: RUF009  (frozen)
    epochs: int = 150
    batch_size: int = 64
    kl_weight: float = 1.0
    schedule: Schedule = Schedule(hold=15, freeze=15)  # noqa: RUF009  (frozen)
    rates: LearningRates = LearningRates()  # noqa: RUF009  (frozen)
    clip_norm: float | None = None
    init_inclusion: float = 0.95
    init_scale: float = 0.1
    one_shot: OneShot | None = None
    refinement: Refinement | None = None
    refine_if_worth: bool = False
    reference: bool = False
    noise: NoiseName | Literal["auto"] = "constant"
    path: PathPlan | None = None
    least_kl_weight: float | None = None

    def __post_init__(self) -> None:
        """Check all that can be checked before there is any data, so that no run fails late."""
        check_names(net=self.net, prior=self.prior)
        check_flags({name: getattr(self, name) for name in _FLAGS})
        optional = {name: getattr(self, name) for name in _OPTIONAL}
        check_reals({name: getattr(self, name) for name in _NUMBERS}, optional=optional)
        check_types({"dense": (self.dense, DenseTraining), "rates": (self.rates, LearningRates)})
        check_widths(self.net, self.hidden)
        if not isinstance(self.select_inputs, bool) and self.select_inputs != "auto":
            raise ValueError(f"select_inputs must be True, False or 'auto', got {self.select_inputs!r}")
        if self.noise not in (*NOISES, "auto"):
            raise ValueError(f"noise must be one of {', '.join(NOISES)} or auto, got {self.noise!r}")
        if self.reads_images and self.select_inputs:
            raise ValueError(f"select_inputs must be False for a {self.net}, whose first layer is a convolution")
        if self.reads is not None:
            self._check_reads(self.reads)
        if self.normalize and not self.reads_images:
            raise ValueError(f"normalize must be False for a {self.net}, which reads no images as they are")
        if self.augmentation is not None and not self.reads_images:
            raise ValueError(f"augmentation must be None for a {self.net}, which reads no images as they are")
        if not (math.isfinite(self.kl_weight) and self.kl_weight > 0):
            raise ValueError(f"kl_weight must be positive and finite, got {self.kl_weight}; 1 is the posterior")
        check_whole("batch_size", self.batch_size)
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"clip_norm must be positive, got {self.clip_norm}")
        for name in ("init_inclusion", "init_scale"):
            if not 0 < getattr(self, name) < (1 if name == "init_inclusion" else math.inf):
                raise ValueError(f"{name} must be positive, and init_inclusion below 1, got {getattr(self, name)}")
        if not self.has_gates and (self.select_inputs or self.inclusion is not None):
            raise ValueError(
                f"select_inputs and inclusion need a prior with gates, ss-{self.prior}, got {self.prior!r}"
            )
        if self.least_kl_weight is not None and not 0 < self.least_kl_weight < math.inf:
            raise ValueError(f"least_kl_weight must be positive or None, got {self.least_kl_weight}")
        Timetable(self.schedule, self.epochs, self.kl_weight)  # checks that they fit each other
        if self.one_shot is not None and self.prior not in ("ss-ig", "ig"):
            raise ValueError(f"prior must be ss-ig or ig, with a Gaussian slab, for method sghmc, got {self.prior!r}")
        self._check_refinement()
        if self.path is not None and (self.one_shot is not None or not self.has_gates):
            what = f"method {self.method} and prior {self.prior}"
            raise ValueError(f"path needs method svi and a prior with gates, whose KL weight it chooses, got {what}")
        self.make_prior()

    def _check_reads(self, reads: tuple[int, ...]) -> None:
        if self.reads_images:
            raise ValueError(f"reads must be None for a {self.net}, which reads no features, got {reads}")
        if isinstance(reads, str) or not isinstance(reads, Sequence):
            raise TypeError(f"reads must be a sequence of whole numbers, or None, got {reads!r}")
        check_wholes({f"reads[{i}]": number for i, number in enumerate(reads)}, least=0)
        if not reads or list(reads) != sorted(set(reads)):
            raise ValueError(f"reads must be increasing numbers, and at least one, or None, got {reads}")

    def _check_refinement(self) -> None:
        if self.refinement is None:
            for name in ("refine_if_worth", "reference"):
                if getattr(self, name):
                    raise ValueError(f"{name} needs a refinement, got None")
            return
        if self.one_shot is not None and self.refinement.start == "draws":
            raise ValueError("refinement.start must be 'ensemble' for method sghmc, got 'draws'")
        if self.refinement.slab is not None and type(self.refinement.slab) not in SLABS.values():
            slab = type(self.refinement.slab).__name__
            raise ValueError(f"refinement.slab must be a slab of {', '.join(SLABS)}, got {slab}")

    @property
    def method(self) -> str:
        """The method's name, one of `METHODS`."""
        return "svi" if self.one_shot is None else "sghmc"

    @property
    def has_gates(self) -> bool:
        """Whether the prior has a spike, and so a gate on every node."""
        return self.prior.startswith("ss-")

    @property
    def reads_images(self) -> bool:
        """Whether the net reads images as they are, shape `(channels, height, width)`, and not flattened."""
        return reads_images(self.net)

    def with_epochs(self, epochs: int) -> "Recipe":
        """Return the same recipe for another number of epochs, its phases scaled in proportion.

        Args:
            epochs: Epochs of variational inference.

        Returns:
            The recipe.

        Raises:
            ValueError: If epochs is below 1.
        """
        check_whole("epochs", epochs)
        ratio = epochs / self.epochs
        one_shot = None if self.one_shot is None else self.one_shot.stretched(ratio, epochs)
        return dataclasses.replace(self, epochs=epochs, schedule=self.schedule.stretched(ratio), one_shot=one_shot)

    def with_kl_weight(self, kl_weight: float) -> "Recipe":
        """Return the same recipe for another KL weight, that of the posterior in the end.

        It is also that of frozen gates, and is kept where a group ends without a node. Slabs settle more slowly under
        a larger weight, and gates that are free before that close too early: where the weight is larger than the
        recipe's and gates are held open for less than two fifths of the run, there are twice the epochs, and for two
        fifths of them gates are held open and the weight rises.

        Args:
            kl_weight: Weight of the divergence.

        Raises:
            ValueError: If it is not positive and finite.
        """
        settings = self._longer() if kl_weight > self.kl_weight else self
        schedule = dataclasses.replace(settings.schedule, frozen_kl_weight=None)
        return dataclasses.replace(settings, kl_weight=kl_weight, schedule=schedule, least_kl_weight=None)

    def _longer(self) -> "Recipe":
        """Return the same recipe with time to settle under a larger KL weight, if it has not that time already."""
        if not self.has_gates or self.one_shot is not None or self.schedule.hold >= int(_SETTLING * self.epochs):
            return self
        longer = self.with_epochs(2 * self.epochs)
        hold = int(_SETTLING * longer.epochs)
        schedule = dataclasses.replace(longer.schedule, hold=hold, kl_warmup=float(hold))
        return dataclasses.replace(longer, schedule=schedule)

    def quick(self) -> "Recipe":
        """Return the same recipe without what takes most of its time: sampling, and what held-out rows choose.

        Where they were to decide, there are no gates on inputs, and the noise is constant.
        """
        return dataclasses.replace(
            self,
            refinement=None,
            refine_if_worth=False,
            reference=False,
            path=None,
            select_inputs=self.select_inputs is True,
            noise="constant" if self.noise == "auto" else self.noise,
        )

    def make_prior(self) -> SpikeSlab | Slab:
        """Return the prior to give to a `SparseNetwork`."""
        slab = SLABS[self.prior.removeprefix("ss-")](sigma=self.sigma)
        return SpikeSlab(slab, inclusion=self.inclusion) if self.has_gates else slab

    def fit_options(self) -> dict[str, Any]:
        """Return what `bnn_pyro.fit` is given: how long, at which weights and rates."""
        names = ("epochs", "batch_size", "kl_weight", "schedule", "rates", "clip_norm", "augmentation")
        return {name: getattr(self, name) for name in names}

    def tensors(self, split: Split, device: str | torch.device = "cpu") -> tuple[Tensor, Tensor]:
        """Return rows as the net reads them: images as they are, or flattened.

        Args:
            split: The rows.
            device: Where to.

        Returns:
            Inputs and targets; of weighted rows with their weights beside them, as `RowWeights` takes them.
        """
        x = split.x if self.reads_images else split.x.flatten(1)
        y = split.y if split.weight is None else with_weights(split.y, split.weight)
        return x.to(device), y.to(device)

    def likelihood(self, task: str, *, is_weighted: bool = False) -> Likelihood:
        """Return the likelihood of a task: of classes, or normal with a noise that is learned.

        Args:
            task: ``"classification"`` or ``"regression"``.
            is_weighted: Whether rows have weights.

        Raises:
            ValueError: If there is no such task.
        """
        if task not in ("classification", "regression"):
            raise ValueError(f"task must be classification or regression, got {task!r}")
        noise = NOISES["constant" if self.noise == "auto" else self.noise]
        likelihood: Likelihood = Categorical() if task == "classification" else noise()
        return RowWeights(likelihood) if is_weighted else likelihood

    def outputs(self, num_classes: int | None) -> int:
        """Return the number of the network's outputs: one per class; one, or two with a noise that varies.

        Args:
            num_classes: Number of classes; None for a regression.
        """
        if num_classes is not None:
            return num_classes
        return 2 if self.noise == "input" else 1

    def make_net(self, input_shape: Sequence[int], out_features: int, *, inputs: Tensor | None = None) -> nn.Module:
        """Return the untrained net.

        Args:
            input_shape: Shape of one input.
            out_features: Number of outputs.
            inputs: Training inputs, shape ``(rows, *input_shape)``, for a net that normalises; None leaves its scale to
                be loaded.

        Raises:
            ValueError: If the net reads images and the inputs are none, or too small.
        """
        net = make_net(self.net, self.hidden, input_shape, out_features)
        return normalized(net, input_shape[0], inputs) if self.normalize else net

    def make_model(self, net: nn.Module, example: Tensor, likelihood: Likelihood, num_data: int) -> SparseNetwork:
        """Return the Bayesian network.

        Args:
            net: The net, of `make_net`, which reads all features; the network's own is cut to those of `reads`.
            example: One or more inputs, as `tensors` gives them.
            likelihood: What the outputs mean.
            num_data: Number of training rows.

        Raises:
            ValueError: If ``select_inputs`` is left to held-out rows, which have not decided yet, or a number of
                ``reads`` is of no feature.
        """
        if self.select_inputs == "auto":
            raise ValueError("select_inputs must be True or False where a model is made, got 'auto'")
        reads = None if self.reads is None else torch.tensor(self.reads, device=example.device)
        return SparseNetwork(
            net if reads is None else cut_inputs(net, example, reads),
            example,
            prior=self.make_prior(),
            likelihood=likelihood,
            num_data=num_data,
            select_inputs=bool(self.select_inputs),
            reads=reads,
        )

    def make_guide(self, model: SparseNetwork, *, gates: Literal["hard", "relaxed"] = "hard") -> AutoSpikeSlab:
        """Return the variational family of a network with the recipe's prior, its gates straight-through.

        That is the gradient that the recipes' KL weights, rates and phases were tuned with.

        Args:
            model: The network.
            gates: ``"hard"`` for the true spike-and-slab model, ``"relaxed"`` for the relaxed one.
        """
        return AutoSpikeSlab(model.prior, gates=gates, **self.guide_options())

    def guide_options(self) -> dict[str, Any]:
        """Return what a guide of a network with the recipe's prior is made with: where it starts, and its gradient."""
        start = {"init_inclusion": self.init_inclusion, "init_scale": self.init_scale}
        return {**start, "gate_gradient": "straight-through"}
