"""Settings that work, by data set, prior, net and method."""

import math
from dataclasses import replace
from typing import Any, Literal, get_args

from bnn_pyro.arguments import check_choice, check_path, check_whole
from bnn_pyro.data import DATASETS, is_data
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.networks.named import default_widths, reads_images
from bnn_pyro.priors import Gaussian
from bnn_pyro.recipes.definition import METHODS, Recipe, check_names
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.refinement import Refinement

Task = Literal["classification", "regression"]

_Settings = dict[str, Any]  # keywords of Recipe, which checks them

_FAST = LearningRates(slab_locs=3e-3, slab_scales=1e-2, scales=1e-2, gates=2e-2)
_IMAGES: _Settings = {
    "hidden": (400, 400),
    "select_inputs": True,
    "inclusion": 1e-3,
    "dense": DenseTraining(epochs=5, batch_size=128, learning_rate=3e-3),
    "epochs": 60,
    "batch_size": 512,
    "kl_weight": 0.12,
    "schedule": Schedule(hold=3, freeze=15, kl_warmup=1.5, frozen_kl_weight=0.06, shrink_below=0.03),
    "rates": _FAST,
}
_SETTINGS: dict[str, _Settings] = {
    "mnist": _IMAGES,
    "fashion-mnist": _IMAGES,
    "cifar10": _IMAGES,
    "cifar10-jpeg": _IMAGES,
    "digits": {
        "hidden": (50, 50),
        "inclusion": 1e-3,
        "dense": DenseTraining(epochs=60, learning_rate=3e-3),
        "epochs": 120,
        "kl_weight": 0.15,
        "schedule": Schedule(hold=20, freeze=15, kl_warmup=10.0, shrink_below=0.03),
        "rates": _FAST,
    },
}
# A wide start of the slabs' posteriors, and fast ones, make nodes close within the first epochs: what is left of LeNet
# then costs a tenth of the time. The wider the slab, the more a filter must tell to be worth its weights.
_LENET: _Settings = {
    "sigma": 0.3,
    "inclusion": 1e-3,
    "dense": DenseTraining(epochs=6, batch_size=128, learning_rate=2e-3),
    "epochs": 33,
    "batch_size": 256,
    "kl_weight": 1.0,
    "schedule": Schedule(hold=1, freeze=20, kl_warmup=1.3, frozen_kl_weight=0.05, decay=0.5, shrink_below=0.2),
    "rates": LearningRates(slab_locs=3e-3, slab_scales=4e-2, scales=2e-2, gates=5e-2),
    "init_scale": 0.5,
}
_CLOTHING_SIGMA = 0.17  # of LeNet's slab; .2 keeps 10 % of the FLOPs, and a net that fits its training rows no better
_COLOUR = Augmentation(fill=(0.4914, 0.4822, 0.4465))  # the mean of the channels stands in rectangles that are erased
_AUGMENTATIONS = {  # of nets that read images as they are
    "mnist": Augmentation(padding=2, flip=0.0, erase=0.0),
    "cifar10": _COLOUR,
    "cifar10-jpeg": _COLOUR,
}
# The slabs prune unequally at the same weight: these keep about 4 % of the parameters of 784-400-400-10 on MNIST.
_IMAGE_KL_WEIGHTS = {"ss-ghs": (0.12, 0.06), "ss-gl": (0.07, 0.035), "ss-ig": (0.07, 0.035)}
# Of a table and a prior without gates: few labels tell little against a full-weight divergence, a regression learns its
# noise.
_TABLE_KL_WEIGHTS: dict[Task, float] = {"classification": 0.2, "regression": 1.0}
_LARGE_TABLE = 20_000  # rows, above which batches are larger
_TABLE_STEPS = 8_000  # of variational inference on a table, whose rows may be few or many
_SAMPLED_TABLE_STEPS = 5_000  # of sampling
_TABLE_SECONDS = 60.0  # of sampling, so that a run takes less than 3 minutes on a quiet core
_FOLLOWED_ROWS = (
    2_000  # up to which the noise may follow the mean; chains of more rows mix too little, and means suffer
)
_STOPPED_ROWS = 100  # of a table, from which on a tenth of them says when dense training was at its best
_UNSTOPPED_STEPS = 2_000  # of the dense network of a table with fewer rows


def recipe(
    data: str,
    prior: str | None = None,
    task: Task = "classification",
    *,
    net: str = "mlp",
    rows: int = 1_000,
    inputs: int | None = None,
    method: str = "svi",
) -> Recipe:
    """Return the default settings for a data set, a prior and a net.

    Args:
        data: One of `bnn_pyro.data.DATASETS`, or the path of a table.
        prior: One of `PRIORS`; None for the method's default.
        task: What the targets are; it matters for tables and priors without gates.
        net: One of `NETS`.
        rows: Number of training rows; it matters for tables, of which small ones need more epochs, and for sampling
            residual nets.
        inputs: Number of input features; it matters for tables of fewer than four. None if it is not known.
        method: One of `METHODS`.

    Returns:
        The recipe.

    Raises:
        ValueError: If a name is unknown, the method cannot be used with the prior, or ``inputs`` is below 1.
    """
    prior = default_prior(method) if prior is None else prior
    check_data(data)
    check_choice("task", task, get_args(Task))
    check_whole("rows", rows)
    if inputs is not None:
        check_whole("inputs", inputs)
    check_names(net=net, prior=prior, method=method)
    chosen = {**(_SETTINGS.get(data) or _table_settings(rows, inputs, method)), "net": net, "prior": prior}
    chosen["hidden"] = default_widths(net, chosen["hidden"])
    if reads_images(net):
        chosen |= {"select_inputs": False, "refinement": None, "refine_if_worth": False}
    if net.startswith("resnet"):
        dense = replace(chosen["dense"], epochs=30)
        chosen |= {"sigma": 0.2, "inclusion": 1e-4, "dense": dense, "batch_size": 128}
    chosen["normalize"] = reads_images(net) and data in ("cifar10", "cifar10-jpeg")
    chosen["augmentation"] = _AUGMENTATIONS.get(data) if reads_images(net) else None
    if _SETTINGS.get(data) is _IMAGES and prior in _IMAGE_KL_WEIGHTS:
        chosen["kl_weight"], frozen = _IMAGE_KL_WEIGHTS[prior]
        chosen["schedule"] = replace(chosen["schedule"], frozen_kl_weight=frozen)
    if _SETTINGS.get(data) is _IMAGES and net == "lenet":
        chosen |= _LENET | ({"sigma": _CLOTHING_SIGMA} if data == "fashion-mnist" else {})
    if not prior.startswith("ss-"):
        schedule = replace(chosen["schedule"], hold=0, freeze=0, frozen_kl_weight=None)
        chosen |= {"schedule": schedule, "select_inputs": False, "inclusion": None, "least_kl_weight": None}
        chosen |= {"noise": "constant"}
        chosen |= {"refinement": None, "refine_if_worth": False}
        if data not in _SETTINGS:
            chosen["kl_weight"] = _TABLE_KL_WEIGHTS[task]
    if method == "sghmc":
        sampling = _SAMPLING.get(data) or _small_sampling(chosen["epochs"])
        if sampling is _SAMPLED_IMAGES and reads_images(net):
            has_its_thresholds = net == "lenet" and not chosen["normalize"]  # which are by the names of its layers
            sampling = _SAMPLED_LENET if has_its_thresholds else _sampled_resnet(rows)
        own = sampling if prior.startswith("ss-") else {**sampling, "inclusion": None}
        schedule = replace(chosen["schedule"], hold=0, freeze=0, kl_warmup=0.0, frozen_kl_weight=None)
        chosen |= {**own, "kl_weight": 1.0, "schedule": schedule, "augmentation": None}
    return Recipe(**chosen)


_SAMPLED_IMAGES: _Settings = {
    "sigma": 0.2,
    "inclusion": 0.5,
    "epochs": 50,
    "batch_size": 128,
    # With the noise of small tables, N^-1/2, the weights of inputs that say nothing wander as far as the slab is wide.
    # Norms, as the 10 weights that read a node of the last layer are each larger than the 400 that read a pixel.
    "one_shot": OneShot(
        sampler=Sampler(lr=1.5, noise_scale=1 / 60_000),
        em=GroupEM(spike=0.06, soft=0.5, hard=0.25, warmup=6, measure="norm"),
        cycles=1,
        samples_per_cycle=10,
    ),
}
# LeNet's layers are read by 10 to 12,800 weights a node. Means of squares do not grow with that number, so that closing
# the nodes of one layer does not close those before it; the thresholds are about the squares that training starts from.
_SAMPLED_LENET: _Settings = _SAMPLED_IMAGES | {
    "epochs": 30,
    "one_shot": OneShot(
        sampler=Sampler(lr=0.4, noise_scale=1 / 60_000),
        em=GroupEM(
            spike=0.06,
            soft={"conv1": 1e-3, "conv2": 3.6e-4, "hidden1": 3.6e-4, "hidden2": 1.5e-3},
            hard={"conv1": 2.5e-4, "conv2": 9e-5, "hidden1": 9e-5, "hidden2": 4e-4},
            warmup=3,
        ),
        cycles=1,
        samples_per_cycle=10,
    ),
}


def _sampled_resnet(rows: int) -> _Settings:
    """Return settings of sampling by relative sizes of channels; weight decays do not grow where rows are few."""
    width = math.sqrt(60_000 / rows)
    em = GroupEM(spike=0.06 * width, soft=0.9, hard=0.6, warmup=12, measure="relative")
    one_shot = OneShot(sampler=Sampler(lr=0.5, noise_scale=1 / rows), em=em, cycles=1, samples_per_cycle=10)
    return _SAMPLED_IMAGES | {"sigma": 0.2 * width, "one_shot": one_shot}


_SAMPLING: dict[str, _Settings] = {
    "mnist": _SAMPLED_IMAGES,
    "fashion-mnist": _SAMPLED_IMAGES,
    "cifar10": _SAMPLED_IMAGES,
    "cifar10-jpeg": _SAMPLED_IMAGES,
}


def _small_sampling(epochs: int) -> _Settings:
    """Return the settings of sampling for a small data set."""
    em = GroupEM(spike=0.05, hard=1e-3, warmup=epochs // 5)
    one_shot = OneShot(sampler=Sampler(lr=0.2), em=em, cycles=1, samples_per_cycle=10)
    return {"sigma": 0.5, "inclusion": 0.5, "epochs": epochs, "one_shot": one_shot}


def _table_settings(rows: int, inputs: int | None, method: str) -> _Settings:
    """Return settings of about as many steps for a small table as for a large one.

    Those of variational inference are those of ``benchmarks/select_then_sample.py``, but that for two fifths of the
    run gates are held open, and the weight of the divergence rises (``benchmarks/table_recipe.py``). Nodes are
    selected by a tempered posterior, as at weight 1 too few are left; the posterior of the pruned network, which is
    sampled then where that is likely to pay, is not tempered.
    """
    if method == "sghmc":
        epochs = min(1_000, max(20, round(_SAMPLED_TABLE_STEPS * 64 / rows)))
        phases = {"dense": DenseTraining(epochs=epochs), "schedule": Schedule(), "epochs": epochs}
        return {"hidden": (50,), "batch_size": 64, **phases}
    batch_size = 64 if rows <= _LARGE_TABLE else 256
    per_epoch = -(-rows // batch_size)
    epochs = max(20, round(_TABLE_STEPS / per_epoch))
    hold = 2 * epochs // 5
    is_stopped = rows >= _STOPPED_ROWS
    dense_epochs = epochs if is_stopped else min(epochs, round(_UNSTOPPED_STEPS / per_epoch))
    return {
        "hidden": (50, 50),
        "inclusion": 0.1,
        "dense": DenseTraining(epochs=dense_epochs, batch_size=batch_size, validation=0.1 if is_stopped else None),
        "epochs": epochs,
        "batch_size": batch_size,
        "kl_weight": 0.3,
        "schedule": Schedule(hold=hold, freeze=epochs // 7, kl_warmup=hold),
        "rates": _FAST,
        "select_inputs": "auto",
        "noise": "auto" if rows <= _FOLLOWED_ROWS else "constant",
        "least_kl_weight": 0.03,
        "refinement": Refinement(until=StoppingRule(seconds=_TABLE_SECONDS), slab=sampled_slab(inputs)),
        "refine_if_worth": True,
    }


def sampled_slab(inputs: int | None) -> Gaussian:
    r"""Return the slab of the sampled network: :math:`\sigma_0 = \max(1, 2 / \sqrt d)` for d inputs.

    What a node of the first layer is given has the standard deviation :math:`\sigma_0 \sqrt d` then, bias aside, of 2
    at least. With :math:`\sigma_0 = 1` functions of one input that turn often, such as :math:`\sin 3x`, are unlikely
    beforehand, and few rows do not outweigh that (``benchmarks/table_recipe.py``).

    Args:
        inputs: Number of input features, d; None if it is not known.
    """
    return Gaussian(1.0 if inputs is None else max(1.0, 2 / math.sqrt(inputs)))


def default_prior(method: str) -> str:
    """Return the prior that a method is used with where none is asked for.

    Args:
        method: One of `METHODS`.
    """
    check_choice("method", method, METHODS)
    return "ss-ghs" if method == "svi" else "ss-ig"


def check_data(data: str) -> None:
    """Check that there is such a data set.

    Args:
        data: Name of a data set, or the path of a ``.csv``, ``.tsv``, ``.txt`` or ``.npz`` file.

    Raises:
        ValueError: If there is none; the message lists the known ones.
    """
    check_path("data", data)
    if not is_data(data):
        raise ValueError(f"data must be one of {', '.join(DATASETS)}, or a path to a .csv or .npz file, got {data!r}")
