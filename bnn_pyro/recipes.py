"""The whole main job with settings that work: from a data set to a pruned network and its report."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bnn_pyro.augmentation import Augmentation
from bnn_pyro.data import DATASETS, Dataset, Split
from bnn_pyro.ensemble import Ensemble
from bnn_pyro.evaluation.report import Run, check_run_folder, evaluate_run, write_report
from bnn_pyro.inference.adaptive import Sampler
from bnn_pyro.inference.batches import seeded
from bnn_pyro.inference.checkpoint import load_posterior, save_posterior
from bnn_pyro.inference.dense import train_dense
from bnn_pyro.inference.ensemble_file import load_ensemble, save_ensemble
from bnn_pyro.inference.group_em import GroupEM
from bnn_pyro.inference.one_shot import OneShot
from bnn_pyro.inference.processes import Processes
from bnn_pyro.inference.schedule import LearningRates, Schedule
from bnn_pyro.inference.svi import fit
from bnn_pyro.likelihoods import Categorical, GaussianNoise, Likelihood
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks.named import NETS, check_widths, default_widths, make_net, reads_images
from bnn_pyro.networks.normalize import normalized
from bnn_pyro.posterior import Posterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, Slab, SpikeSlab
from bnn_pyro.pruning import prune
from bnn_pyro.saving import load_net
from guides import AutoSpikeSlab

Task = Literal["classification", "regression"]

_SLABS: dict[str, Callable[..., Slab]] = {"ig": Gaussian, "gl": GroupLasso, "ghs": GroupHorseshoe}
PRIORS: tuple[str, ...] = (*(f"ss-{name}" for name in _SLABS), *_SLABS)
"""The priors by name: spike-and-slab with a Gaussian, group-lasso or group-horseshoe slab, and each slab alone."""
METHODS: tuple[str, ...] = ("svi", "sghmc")
"""The methods by name: stochastic variational inference, and sampling with one-shot pruning."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of the main job.

    Args:
        net: One of `bnn_pyro.networks.named.NETS`.
        prior: One of `PRIORS`; those without `ss-` have no gates, so that nothing is pruned.
        hidden: Width of each hidden layer. For `residual-mlp` the first is the width of the channels that all blocks
            share; each further one, all alike, is a block of that many nodes. For `lenet` the first two are numbers of
            filters; for a `resnet` there is one, the channels of its first stage.
        select_inputs: Whether the inputs have gates too.
        normalize: Whether the net standardises the channels of its images, by those of training; it takes them as they
            come all the same, before pruning and after.
        augmentation: What the images of each batch undergo, in dense training and in variational inference; None leaves
            them as they are.
        sigma: Standard deviation of the slab.
        inclusion: Prior inclusion probability of a node, in (0, 1); None takes the theory's.
        pretrain_epochs: Epochs of dense training that the posterior starts from.
        pretrain_batch_size: Rows a step of dense training.
        pretrain_learning_rate: Learning rate of dense training.
        pretrain_weight_decay: Weight decay of dense training.
        epochs: Epochs of variational inference.
        batch_size: Rows a step.
        hold: Epochs at the start with all gates held open.
        freeze: Epochs at the end with gates frozen.
        kl_weight: Weight of the divergence; below 1 the posterior is a tempered (cold) one.
        kl_warmup: Epochs until the KL weight is reached.
        frozen_kl_weight: Weight of the divergence while gates are frozen, and so that of the posterior in the end; None
            keeps `kl_weight`.
        decay: Fraction of the run over which learning rates fall.
        learning_rates: By the role of a parameter.
        clip_norm: Largest norm of a step's gradient; None does not clip.
        init_inclusion: Inclusion probability of every gate at the start.
        init_scale: Standard deviation of a slab at the start, as a fraction of the root mean square of its weights.
        shrink_below: Nodes below this inclusion probability are left out of further training; None trains all.
        one_shot: Settings of sampling with one-shot pruning, which starts from an untrained net and takes of the above
            the net, its inputs, the slab's `sigma`, `inclusion`, `epochs` and `batch_size` alone; None for variational
            inference.

    Raises:
        ValueError: If a name is unknown or a number is out of range.
    """

    net: str = "mlp"
    prior: str = "ss-ghs"
    hidden: tuple[int, ...] = (50,)
    select_inputs: bool = False
    normalize: bool = False
    augmentation: Augmentation | None = None
    sigma: float = 1.0
    inclusion: float | None = None
    pretrain_epochs: int = 30
    pretrain_batch_size: int = 64
    pretrain_learning_rate: float = 1e-3
    pretrain_weight_decay: float = 0.05
    epochs: int = 150
    batch_size: int = 64
    hold: int = 15
    freeze: int = 15
    kl_weight: float = 1.0
    kl_warmup: float = 0.0
    frozen_kl_weight: float | None = None
    decay: float = 0.4
    learning_rates: LearningRates = LearningRates()  # noqa: RUF009  (frozen)
    clip_norm: float | None = None
    init_inclusion: float = 0.95
    init_scale: float = 0.1
    shrink_below: float | None = None
    one_shot: OneShot | None = None

    def __post_init__(self) -> None:
        """Check all that can be checked before there is any data, so that no run fails late."""
        check_names(net=self.net, prior=self.prior)
        check_widths(self.net, self.hidden)
        if self.reads_images and self.select_inputs:
            raise ValueError(f"select_inputs must be False for a {self.net}, whose first layer is a convolution")
        if self.normalize and not self.reads_images:
            raise ValueError(f"normalize must be False for a {self.net}, which reads no images as they are")
        if self.augmentation is not None and not self.reads_images:
            raise ValueError(f"augmentation must be None for a {self.net}, which reads no images as they are")
        if not (math.isfinite(self.kl_weight) and self.kl_weight > 0):
            raise ValueError(f"kl_weight must be positive and finite, got {self.kl_weight}; 1 is the posterior")
        for name in ("pretrain_epochs", "pretrain_batch_size", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.has_gates and (self.select_inputs or self.inclusion is not None):
            raise ValueError(
                f"select_inputs and inclusion need a prior with gates, ss-{self.prior}, got {self.prior!r}"
            )
        frozen = self.frozen_kl_weight if self.freeze else None
        Schedule(self.epochs, self.hold, self.freeze, self.kl_weight, self.kl_warmup, self.decay, None, frozen)
        if self.one_shot is not None and self.prior not in ("ss-ig", "ig"):
            raise ValueError(f"prior must be ss-ig or ig, with a Gaussian slab, for method sghmc, got {self.prior!r}")
        self.make_prior()

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
        ratio = epochs / self.epochs
        hold, freeze = (int(phase * ratio) for phase in (self.hold, self.freeze))
        one_shot = None if self.one_shot is None else self.one_shot.stretched(ratio, epochs)
        phases = dataclasses.replace(self, hold=hold, freeze=freeze, kl_warmup=self.kl_warmup * ratio, epochs=epochs)
        return dataclasses.replace(phases, one_shot=one_shot)

    def make_prior(self) -> SpikeSlab | Slab:
        """Return the prior to give to a `SparseNetwork`."""
        slab = _SLABS[self.prior.removeprefix("ss-")](sigma=self.sigma)
        return SpikeSlab(slab, inclusion=self.inclusion) if self.has_gates else slab

    def fit_options(self) -> dict[str, Any]:
        """Return what `bnn_pyro.fit` is given: how long, at which weights and rates."""
        names = ("epochs", "batch_size", "kl_weight", "kl_warmup", "hold", "freeze", "decay", "learning_rates")
        options = {name: getattr(self, name) for name in (*names, "clip_norm", "shrink_below", "augmentation")}
        return options | {"frozen_kl_weight": self.frozen_kl_weight if self.freeze else None}

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


_FAST = LearningRates(slab_locs=3e-3, slab_scales=1e-2, scales=1e-2, gates=2e-2)
_IMAGES: dict[str, Any] = {
    "hidden": (400, 400),
    "select_inputs": True,
    "inclusion": 1e-3,
    "pretrain_epochs": 5,
    "pretrain_batch_size": 128,
    "pretrain_learning_rate": 3e-3,
    "epochs": 60,
    "batch_size": 512,
    "hold": 3,
    "freeze": 15,
    "kl_weight": 0.12,
    "kl_warmup": 1.5,
    "frozen_kl_weight": 0.06,
    "learning_rates": _FAST,
    "shrink_below": 0.03,
}
_SETTINGS: dict[str, dict[str, Any]] = {
    "mnist": _IMAGES,
    "fashion-mnist": _IMAGES,
    "cifar10": _IMAGES,
    "cifar10-jpeg": _IMAGES,
    "digits": {
        "hidden": (50, 50),
        "inclusion": 1e-3,
        "pretrain_epochs": 60,
        "pretrain_learning_rate": 3e-3,
        "epochs": 120,
        "hold": 20,
        "freeze": 15,
        "kl_weight": 0.15,
        "kl_warmup": 10.0,
        "learning_rates": _FAST,
        "shrink_below": 0.03,
    },
}
# A wide start of the slabs' posteriors, and fast ones, make nodes close within the first epochs: what is left of LeNet
# then costs a tenth of the time.
_LENET: dict[str, Any] = {
    "sigma": 0.2,
    "inclusion": 1e-3,
    "pretrain_epochs": 2,
    "pretrain_batch_size": 128,
    "pretrain_learning_rate": 2e-3,
    "epochs": 15,
    "batch_size": 256,
    "hold": 1,
    "freeze": 8,
    "kl_weight": 1.0,
    "kl_warmup": 1.3,
    "frozen_kl_weight": 0.05,
    "decay": 0.5,
    "learning_rates": LearningRates(slab_locs=3e-3, slab_scales=4e-2, scales=2e-2, gates=5e-2),
    "init_scale": 0.5,
    "shrink_below": 0.2,
}
_CIFAR_MEAN = (0.4914, 0.4822, 0.4465)  # of the channels: what stands in rectangles that are erased
# The slabs prune unequally at the same weight: these keep about 4 % of the parameters of 784-400-400-10 on MNIST.
_IMAGE_KL_WEIGHTS = {"ss-ghs": (0.12, 0.06), "ss-gl": (0.07, 0.035), "ss-ig": (0.07, 0.035)}
_TABLE_STEPS = 5_000  # of a table, whose rows may be few or many
# Few labels tell little against a full-weight divergence: the 455 of a breast-cancer table keep 2 of 50 nodes and leave
# an ECE of .21 at weight 1, 7 nodes and .03 at .2, at the same accuracy. A regression learns its noise.
_TABLE_KL_WEIGHTS: dict[Task, float] = {"classification": 0.2, "regression": 1.0}


def recipe(
    data: str,
    prior: str | None = None,
    task: Task = "classification",
    *,
    net: str = "mlp",
    rows: int = 1_000,
    method: str = "svi",
) -> Recipe:
    """Return the default settings for a data set, a prior and a net.

    Args:
        data: One of `bnn_pyro.data.DATASETS`, or the path of a table of one's own.
        prior: One of `PRIORS`; None for the method's default.
        task: What the targets are; it matters for tables.
        net: One of `NETS`.
        rows: Number of training rows; it matters for tables, of which small ones need more epochs.
        method: One of `METHODS`.

    Returns:
        The recipe.

    Raises:
        ValueError: If a name is unknown, or the method cannot be used with the prior.
    """
    prior = default_prior(method) if prior is None else prior
    check_names(data=data, net=net, prior=prior, method=method)
    chosen = {**(_SETTINGS.get(data) or _table_settings(task, rows)), "net": net, "prior": prior}
    chosen["hidden"] = default_widths(net, chosen["hidden"])
    if reads_images(net):
        chosen["select_inputs"] = False
    if net.startswith("resnet"):
        chosen |= {"sigma": 0.2, "inclusion": 1e-4, "pretrain_epochs": 30, "batch_size": 128}
    chosen["normalize"] = reads_images(net) and data in ("cifar10", "cifar10-jpeg")
    chosen["augmentation"] = Augmentation(fill=_CIFAR_MEAN) if chosen["normalize"] else None
    if _SETTINGS.get(data) is _IMAGES and prior in _IMAGE_KL_WEIGHTS:
        chosen["kl_weight"], chosen["frozen_kl_weight"] = _IMAGE_KL_WEIGHTS[prior]
    if _SETTINGS.get(data) is _IMAGES and net == "lenet":
        chosen |= _LENET
    if not prior.startswith("ss-"):
        chosen |= {"hold": 0, "freeze": 0, "select_inputs": False, "inclusion": None, "frozen_kl_weight": None}
    if method == "sghmc":
        sampling = _SAMPLING.get(data) or _small_sampling(chosen["epochs"])
        own = sampling if prior.startswith("ss-") else {**sampling, "inclusion": None}
        chosen |= {**own, "hold": 0, "freeze": 0, "kl_weight": 1.0, "kl_warmup": 0.0, "frozen_kl_weight": None}
        chosen["augmentation"] = None
    return Recipe(**chosen)


_SAMPLED_IMAGES: dict[str, Any] = {
    "sigma": 0.3,
    "inclusion": 0.5,
    "epochs": 24,
    "batch_size": 128,
    # With the noise of small tables, N^-1/2, the weights of inputs that say nothing wander as far as the slab is wide.
    "one_shot": OneShot(
        sampler=Sampler(lr=1.0, noise_scale=1 / 60_000),
        em=GroupEM(spike=0.06, soft=7e-4, hard=2e-4, warmup=6),
        cycles=1,
        samples_per_cycle=10,
    ),
}
_SAMPLING: dict[str, dict[str, Any]] = {
    "mnist": _SAMPLED_IMAGES,
    "fashion-mnist": _SAMPLED_IMAGES,
    "cifar10": _SAMPLED_IMAGES,
    "cifar10-jpeg": _SAMPLED_IMAGES,
}


def _small_sampling(epochs: int) -> dict[str, Any]:
    """Return the settings of sampling for a small data set."""
    em = GroupEM(spike=0.05, hard=1e-3, warmup=epochs // 5)
    one_shot = OneShot(sampler=Sampler(lr=0.2), em=em, cycles=1, samples_per_cycle=10)
    return {"sigma": 0.5, "inclusion": 0.5, "epochs": epochs, "one_shot": one_shot}


def _table_settings(task: Task, rows: int) -> dict[str, Any]:
    """Return settings of about as many steps for a small table as for a large one."""
    epochs = min(1_000, max(20, round(_TABLE_STEPS * 64 / rows)))
    return {
        "hidden": (50,),
        "pretrain_epochs": epochs,
        "epochs": epochs,
        "batch_size": 64,
        "hold": epochs // 10,
        "freeze": epochs // 10,
        "kl_weight": _TABLE_KL_WEIGHTS[task],
        "kl_warmup": epochs / 20,
    }


def default_prior(method: str) -> str:
    """Return the prior that a method is used with where none is asked for.

    Args:
        method: One of `METHODS`.
    """
    return "ss-ghs" if method == "svi" else "ss-ig"


def check_names(*, data: str = "digits", net: str = "mlp", prior: str = "ss-ghs", method: str = "svi") -> None:
    """Check that names are known.

    Args:
        data: Name of a data set, or the path of a ``.csv`` or ``.npz`` file.
        net: Name of a net.
        prior: Name of a prior.
        method: Name of a method.

    Raises:
        ValueError: If a name is unknown; the message lists the known ones.
    """
    if data not in DATASETS and Path(data).suffix.lower() not in (".csv", ".npz"):
        raise ValueError(f"data must be one of {', '.join(DATASETS)}, or a path to a .csv or .npz file, got {data!r}")
    for name, value, known in (("net", net, NETS), ("prior", prior, PRIORS), ("method", method, METHODS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def run(
    dataset: Dataset,
    settings: Recipe,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    out: str | Path | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Do the main job: train a dense net, fit the posterior from it, prune, measure, write the run's folder.

    Where `torch.distributed` is initialised, its processes share the training; the first one measures and writes.
    Neither the global random state nor Pyro's parameter store is changed.

    Args:
        dataset: The data, as `bnn_pyro.data.load` gives it; validation rows are watched but not learnt from.
        settings: The settings, such as `recipe` gives.
        seed: Seed of the whole run.
        device: Where to train, `"cpu"` or `"cuda"`.
        out: Folder to write (see `bnn_pyro.evaluation.report.write_report`); None writes nothing.
        progress: Whether to show progress bars; None shows them on a terminal.

    Returns:
        The metrics, as they stand in the folder's `metrics.json`.

    Raises:
        ValueError: If the folder holds a run, there is no such device, or data and settings do not fit each other.
    """
    start = time.perf_counter()
    device = _checked_device(device)
    processes = Processes.found()
    if settings.one_shot is not None and processes.count > 1:
        raise ValueError(f"method must be svi, whose work processes can share, got sghmc in {processes.count} of them")
    if out is not None:
        check_run_folder(out)
    with seeded(seed, device):
        finished = _fit_and_prune(dataset, settings, seed, device, progress)
        if not processes.is_first:
            told: dict[str, Any] = processes.told(None)
            return told
        evaluation = evaluate_run(finished)
    evaluation.metrics["seconds"] = time.perf_counter() - start
    processes.told(evaluation.metrics)
    if out is not None:
        config = _config(dataset, settings, seed, device)
        posterior = finished.posterior
        save: Callable[[Path], None] = partial(save_posterior, posterior)
        if isinstance(posterior, Ensemble):
            save = partial(save_ensemble, posterior)
        write_report(out, finished, evaluation, config=config, save_checkpoint=save)
    return evaluation.metrics


def _fit_and_prune(dataset: Dataset, settings: Recipe, seed: int, device: torch.device, progress: bool | None) -> Run:
    train, test = (_tensors(part, settings, device) for part in (dataset.train, dataset.test))
    likelihood = _likelihood(dataset.task)
    make_untrained = partial(settings.make_net, dataset.input_shape, _outputs(dataset), inputs=dataset.train.x)
    dense = train_dense(
        make_untrained(),
        train,
        likelihood=likelihood,
        epochs=settings.pretrain_epochs,
        batch_size=settings.pretrain_batch_size,
        learning_rate=settings.pretrain_learning_rate,
        weight_decay=settings.pretrain_weight_decay,
        augmentation=settings.augmentation,
        seed=seed,
        progress=progress,
    )
    start = dense if settings.one_shot is None else make_untrained()
    model = _model(start, settings, likelihood, train[0][:2], len(dataset.train))
    validation = None if dataset.validation is None else _tensors(dataset.validation, settings, device)
    posterior = _fit(model, train, validation, settings, seed, progress)
    return Run(
        posterior,
        prune(posterior),
        dense,
        test,
        input_shape=dataset.input_shape,
        y_std=dataset.y_std,
        dense_noise=_noise(dense, train) if dataset.task == "regression" else None,
    )


def _fit(
    model: SparseNetwork,
    train: tuple[Tensor, Tensor],
    validation: tuple[Tensor, Tensor] | None,
    settings: Recipe,
    seed: int,
    progress: bool | None,
) -> Posterior:
    if settings.one_shot is not None:
        options = {"epochs": settings.epochs, "batch_size": settings.batch_size}
        return settings.one_shot.fit(model, train, validation=validation, seed=seed, progress=progress, **options)
    return fit(
        model,
        train,
        **settings.fit_options(),
        channels_last=settings.reads_images,
        local_reparameterization="exact",  # with which the settings were chosen, whatever the size of the batches
        validation=validation,
        seed=seed,
        progress=progress,
        guide=_guide(model, settings),
    )


def _guide(model: SparseNetwork, settings: Recipe) -> AutoSpikeSlab:
    return AutoSpikeSlab(model.prior, init_inclusion=settings.init_inclusion, init_scale=settings.init_scale)


def _model(net: nn.Module, settings: Recipe, likelihood: Likelihood, example: Tensor, num_data: int) -> SparseNetwork:
    return SparseNetwork(
        net,
        example,
        prior=settings.make_prior(),
        likelihood=likelihood,
        num_data=num_data,
        select_inputs=settings.select_inputs,
    )


def _likelihood(task: str) -> Likelihood:
    return Categorical() if task == "classification" else GaussianNoise()


def _outputs(dataset: Dataset) -> int:
    return dataset.num_classes or 1


def _tensors(split: Split, settings: Recipe, device: torch.device) -> tuple[Tensor, Tensor]:
    x = split.x if settings.reads_images else split.x.flatten(1)
    return x.to(device), split.y.to(device)


@torch.no_grad()
def _noise(dense: nn.Module, train: tuple[Tensor, Tensor]) -> Tensor:
    """Return the standard deviation of a network's errors on the training rows, what maximum likelihood would take."""
    x, y = train
    errors: Tensor = dense(x).squeeze(-1) - y
    return errors.square().mean().sqrt().clamp(min=1e-6)


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be cpu or cuda, got {device!r}") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be cpu where torch finds no CUDA device, got {str(device)!r}")
    return found


# ---- a run's settings, and back --------------------------------------------------------------------------------------


def _config(dataset: Dataset, settings: Recipe, seed: int, device: torch.device) -> dict[str, Any]:
    """Return all that the run was told, as JSON values, and what is needed to build its model again."""
    return {
        "data": dataset.name,
        "method": settings.method,
        **dataclasses.asdict(settings),
        "seed": seed,
        "device": str(device),
        "task": dataset.task,
        "num_data": len(dataset.train),
        "input_shape": list(dataset.input_shape),
        "outputs": _outputs(dataset),
        "y_mean": dataset.y_mean,
        "y_std": dataset.y_std,
        "torch": str(torch.__version__),
    }


def load_run(folder: str | Path) -> Posterior:
    """Load the posterior of a run from its folder, on the CPU.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        The posterior.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    config, settings = _read_config(folder)
    input_shape = config["input_shape"]
    with torch.random.fork_rng([]):
        net = settings.make_net(input_shape, config["outputs"])
        example = torch.zeros(2, *(input_shape if settings.reads_images else [math.prod(input_shape)]))
        model = _model(net, settings, _likelihood(config["task"]), example, config["num_data"])
        path = Path(folder) / "checkpoint.pt"
        if settings.one_shot is not None:
            return load_ensemble(path, model)
        return load_posterior(path, model, guide=_guide(model, settings))


def load_pruned(folder: str | Path) -> nn.Module:
    """Load the pruned network of a run from its folder, on the CPU.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        A plain module, in evaluation mode: the one that the run has measured.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    config, settings = _read_config(folder)
    with torch.random.fork_rng([]):
        return load_net(folder, settings.make_net(config["input_shape"], config["outputs"]))


def _read_config(folder: str | Path) -> tuple[dict[str, Any], Recipe]:
    """Return all that a run was told, and the settings among it."""
    try:
        config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        settings = _settings(config)
        missing = {"input_shape", "outputs", "task", "num_data"} - config.keys()
        if missing:
            raise KeyError(*sorted(missing))
    except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"folder must hold the config.json of a run, got '{folder}' ({error!r})") from error
    return config, settings


def _settings(config: Mapping[str, Any]) -> Recipe:
    names = [field.name for field in dataclasses.fields(Recipe)]
    given = {"normalize": False, "augmentation": None, **config}  # a run may be older than these settings
    values = {name: given[name] for name in names}
    values |= {"hidden": tuple(values["hidden"]), "learning_rates": LearningRates(**values["learning_rates"])}
    values["one_shot"] = None if values["one_shot"] is None else OneShot.of(values["one_shot"])
    values["augmentation"] = None if values["augmentation"] is None else Augmentation.of(values["augmentation"])
    return Recipe(**values)
