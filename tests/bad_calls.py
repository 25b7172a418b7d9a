"""Calls that cannot be right: what is called, the argument, the value, and what the message must say of it."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

import bnn_pyro
from bnn_pyro import (
    Bernoulli,
    Categorical,
    Checkpoint,
    Compute,
    CorrelatedNoise,
    Gaussian,
    GaussianNoise,
    GroupEM,
    GroupHorseshoe,
    GroupLasso,
    HeteroscedasticNoise,
    LearningRates,
    MeanDependentNoise,
    OneShot,
    Refinement,
    Sampler,
    SamplingPlan,
    Schedule,
    SparseELBO,
    SparseNetwork,
    SpikeSlab,
    StoppingRule,
    StudentT,
    networks,
)
from bnn_pyro.comparison import Comparison
from bnn_pyro.data import load
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import gate, inclusion_probability
from bnn_pyro.recipes import DenseTraining, PathPlan, Recipe
from guides import AutoCentered, AutoSpikeSlab

NAN, INF = float("nan"), float("inf")


class Row(NamedTuple):
    """A call that must fail.

    Attributes:
        what: Name of what is called, in `CALLS`.
        argument: The argument that is wrong; a number for one by position.
        value: Its value.
        words: A regular expression that the message must match.
    """

    what: str
    argument: str
    value: Any
    words: str


X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


@cache
def model() -> SparseNetwork:
    torch.manual_seed(0)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(networks.mlp(4, (3,), 2), X[:2], prior=prior, likelihood=Categorical(), num_data=40)


@cache
def posterior() -> GuidePosterior:
    return GuidePosterior(model(), AutoSpikeSlab(model().prior))


def other_guide(outputs: int = 3) -> Any:
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    net = networks.mlp(4, (3,), outputs)
    return AutoSpikeSlab(SparseNetwork(net, X[:2], prior=prior, likelihood=Categorical(), num_data=40).prior)


def network(**changes: Any) -> SparseNetwork:
    given = {"net": networks.mlp(4, (3,), 2), "example_input": X[:2], "prior": SpikeSlab(Gaussian(), inclusion=0.3)}
    return SparseNetwork(**{**given, "likelihood": Categorical(), "num_data": 40, **changes})


def called(function: Callable[..., object], **base: Any) -> Callable[..., object]:
    """Return a call with sound arguments, of which one is replaced."""
    return lambda **changes: function(**{**base, **changes})


QUICK: dict[str, Any] = {"epochs": 1, "batch_size": 20, "seed": 0, "progress": False}
EAGER = Compute(engine="eager")
PLAN = SamplingPlan(kernel="chees", chains=2, warmup=1, draws=1, max_tree_depth=1)

CALLS: dict[str, Callable[..., object]] = {
    "fit": lambda **c: bnn_pyro.fit(**{"model": model(), "data": (X, Y), "compute": EAGER, **QUICK, **c}),
    "train_dense": called(
        bnn_pyro.train_dense, net=networks.mlp(4, (3,), 2), data=(X, Y), likelihood=Categorical(), **QUICK
    ),
    "train_ensemble": lambda **c: bnn_pyro.train_ensemble(
        **{"model": model(), "data": (X, Y), "members": 1, "steps": 1, "seed": 0, "progress": False, **c}
    ),
    "fit_sghmc": lambda **c: bnn_pyro.fit_sghmc(
        **{"model": model(), "data": (X, Y), "plan": OneShot(cycles=1), "engine": "eager", **QUICK, **c}
    ),
    "sample": lambda **c: bnn_pyro.sample(
        **{"model": model(), "data": (X, Y), "plan": PLAN, "engine": "eager", "seed": 0, "progress": False, **c}
    ),
    "sparsity_path": lambda **c: bnn_pyro.sparsity_path(
        **{"model": model(), "data": (X, Y), "kl_weights": (1.0,), **QUICK, **c}
    ),
    "starting_points": lambda **c: bnn_pyro.starting_points(
        **{"model": model(), "data": (X, Y), "source": model().net, "chains": 2, "seed": 0, **c}
    ),
    "refine": lambda **c: bnn_pyro.refine(
        **{"posterior": posterior(), "data": (X, Y), "seed": 0, "progress": False, **c}
    ),
    "predict": lambda **c: posterior().predict(**{"x": X, **c}),
    "evaluate": lambda **c: posterior().evaluate(**{"x": X, "y": Y, **c}),
    "prune": lambda **c: bnn_pyro.prune(**{"posterior": posterior(), **c}),
    "SparseNetwork": network,
    "find_nodes": called(bnn_pyro.find_nodes, net=networks.mlp(4, (3,), 2), example_input=X[:2]),
    "SamplingPlan": called(SamplingPlan),
    "StoppingRule": called(StoppingRule),
    "Schedule": called(Schedule, freeze=1),
    "LearningRates": called(LearningRates),
    "Compute": called(Compute),
    "SparseELBO": called(SparseELBO),
    "Checkpoint": called(Checkpoint, path="run.pt"),
    "OneShot": called(OneShot),
    "Sampler": called(Sampler),
    "GroupEM": called(GroupEM),
    "Refinement": called(Refinement),
    "Recipe": called(Recipe),
    "DenseTraining": called(DenseTraining),
    "PathPlan": called(PathPlan),
    "Comparison": called(Comparison, recipe=Recipe(hidden=(3,))),
    "Augmentation": called(Augmentation),
    "SpikeSlab": called(SpikeSlab, slab=Gaussian()),
    "Gaussian": called(Gaussian),
    "GroupLasso": called(GroupLasso),
    "GroupHorseshoe": called(GroupHorseshoe),
    "GaussianNoise": called(GaussianNoise),
    "StudentT": called(StudentT),
    "HeteroscedasticNoise": called(HeteroscedasticNoise),
    "MeanDependentNoise": called(MeanDependentNoise),
    "CorrelatedNoise": called(CorrelatedNoise, targets=3),
    "Bernoulli": called(Bernoulli),
    "mlp": called(networks.mlp, in_features=4, hidden=(3,), out_features=2),
    "lenet": called(networks.lenet, in_channels=1, out_features=10),
    "gate": called(gate, name="z", inclusion=0.5),
    "inclusion_probability": called(inclusion_probability, widths=(3, 4, 1), num_data=10),
    "AutoSpikeSlab": lambda **c: AutoSpikeSlab(**{"model": model().prior, **c}),
    "AutoCentered": lambda **c: AutoCentered(**{"model": model().prior, **c}),
    "load": called(load, name="digits"),
}

_TEXT: tuple[Any, ...] = ("3", [1], None, object())
_FRACTIONS: tuple[Any, ...] = (2.5, NAN, INF)

# kind of argument -> values that it cannot have
KINDS: dict[str, tuple[Any, ...]] = {
    "count": (0, -1, True, 1j, *_FRACTIONS, *_TEXT),
    "count or None": (0, -1, True, *_FRACTIONS, "3", [1]),
    "phase": (-1, *_FRACTIONS, *_TEXT),
    "seed": (0.5, NAN, True, "0", [0]),
    "flag": ("no", 1, 0.5, []),
    "flag or None": ("no", 1, 0.5, []),
    "positive": (-1, NAN, True, 1j, *_TEXT),
    "positive or None": (-1, NAN, True, "3", [1]),
    "rate": (-1, NAN, INF, True, *_TEXT),
    "fraction or None": (-0.1, 1.5, NAN, "3", [1]),
    "choice": ("none of these", 3, [], object()),
    "object": (3, "x", [], object()),
    "sizes": (3, "x", object(), (2.5,), (0,), ("3",), (None,)),
    "shape": (3, "x", object(), (2.5,), (), (-1,), ("3",), (None,)),
}

# what is called -> kind of argument -> names of the arguments
ARGUMENTS: dict[str, dict[str, str]] = {
    "fit": {
        "count": "epochs batch_size",
        "rate": "kl_weight",
        "positive or None": "clip_norm",
        "seed": "seed",
        "flag or None": "progress",
        "object": "schedule rates compute guide model elbo",
    },
    "train_dense": {
        "count": "epochs batch_size",
        "rate": "learning_rate weight_decay",
        "seed": "seed",
        "flag or None": "progress",
        "object": "net compute likelihood",
    },
    "train_ensemble": {
        "count": "members steps batch_size",
        "rate": "learning_rate weight_decay",
        "seed": "seed",
        "object": "model",
    },
    "fit_sghmc": {"count": "epochs batch_size", "seed": "seed", "object": "plan model", "choice": "engine"},
    "sample": {"seed": "seed", "object": "plan until", "choice": "engine", "flag or None": "progress"},
    "sparsity_path": {"count": "epochs batch_size", "seed": "seed", "object": "model"},
    "starting_points": {"count": "chains", "seed": "seed"},
    "predict": {"count": "batch_size", "count or None": "num_samples"},
    "evaluate": {"count": "batch_size", "count or None": "num_samples", "positive": "y_std"},
    "prune": {"count": "multiple", "object": "posterior"},
    "SparseNetwork": {"count": "num_data", "flag": "select_inputs", "object": "net prior likelihood example_input"},
    "find_nodes": {"object": "net example_input"},
    "SamplingPlan": {
        "count": "chains warmup draws thinning max_tree_depth",
        "fraction or None": "target_accept",
        "flag": "dense_mass",
        "choice": "kernel gates",
        "positive or None": "target_error trajectory_length",
    },
    "StoppingRule": {"count": "rounds", "positive or None": "seconds", "positive": "median tail"},
    "Schedule": {
        "phase": "hold freeze",
        "rate": "kl_warmup",
        "fraction or None": "shrink_below",
        "count or None": "patience",
        "positive or None": "temperature frozen_kl_weight",
    },
    "LearningRates": {"rate": "slab_locs slab_scales scales gates points"},
    "Compute": {"count": "accumulate", "choice": "engine precision", "flag": "channels_last"},
    "SparseELBO": {"count": "num_particles", "rate": "kl_weight", "choice": "local_reparameterization"},
    "Checkpoint": {"count or None": "every", "rate": "seconds"},
    "OneShot": {"count": "cycles samples_per_cycle", "phase": "burn_in", "object": "sampler em"},
    "Sampler": {"rate": "lr eta", "positive or None": "noise_scale"},
    "GroupEM": {"positive": "spike", "phase": "warmup", "choice": "side measure", "positive or None": "hard soft"},
    "Refinement": {"count": "least_chains", "choice": "start weights", "object": "plan until"},
    "Recipe": {
        "count": "epochs batch_size",
        "choice": "net prior select_inputs",
        "flag": "normalize refine_if_worth reference",
        "rate": "kl_weight",
        "positive": "sigma init_scale init_inclusion",
        "positive or None": "clip_norm least_kl_weight",
        "fraction or None": "inclusion",
        "object": "dense rates schedule",
        "sizes": "hidden",
    },
    "DenseTraining": {
        "count": "epochs batch_size",
        "rate": "learning_rate weight_decay",
        "fraction or None": "validation",
    },
    "PathPlan": {"flag": "refine", "object": "kl_weights"},
    "Comparison": {
        "count": "chains batch_chains max_tree_depth",
        "count or None": "warmup draws",
        "positive": "minutes",
        "object": "recipe",
    },
    "Augmentation": {"phase": "padding", "positive": "erased_aspect", "fraction or None": "flip erase"},
    "SpikeSlab": {"fraction or None": "inclusion", "positive": "temperature", "object": "slab"},
    "Gaussian": {"positive": "sigma"},
    "GroupLasso": {"positive": "sigma"},
    "GroupHorseshoe": {"positive": "sigma"},
    "GaussianNoise": {"positive or None": "scale"},
    "MeanDependentNoise": {"positive": "prior_scale"},
    "CorrelatedNoise": {"count": "targets", "positive": "concentration prior_scale"},
    "mlp": {"count": "in_features out_features", "sizes": "hidden"},
    "lenet": {"count": "in_channels out_features"},
    "gate": {"positive": "temperature", "count or None": "size"},
    "AutoSpikeSlab": {"choice": "gates", "positive": "init_scale", "object": "model"},
    "AutoCentered": {"choice": "gates", "object": "model"},
    "load": {"phase": "split", "fraction or None": "validation", "choice": "task"},
}


def single(row: int = 0) -> Iterator[Row]:
    """Rows of their own, the wrongly accepted ones of before first."""
    bad = X.clone()
    bad[3, 1] = NAN
    yield Row("fit", "guide", other_guide(), "guide must be of the model")
    yield Row("fit", "guide", other_guide(7), "guide must be of the model")
    yield Row("sample", "start", torch.full((2, 21), NAN), "start must")
    yield Row("sample", "start", "anywhere", "start must be points, None, or 'ensemble'")
    yield Row("sample", "start", [0.0], "start must be a Tensor")
    yield Row("SparseNetwork", "num_data", NAN, "num_data must be a whole number, got nan")
    yield Row("lenet", "filters", (2, 3, 99), "filters must be two numbers")
    yield Row("lenet", "filters", (2, 0), r"filters\[1\] must be at least 1")
    yield Row("lenet", "image_size", 15, "image_size must be at least 16")
    yield Row("Recipe", "rates", None, "rates must be a LearningRates")
    yield Row("inclusion_probability", "num_data", NAN, "num_data must be at least 1, got nan")
    yield Row("inclusion_probability", "widths", (3, NAN, 1), "widths must be at least three positive numbers")
    yield Row("inclusion_probability", "constant", NAN, "constant must be finite")
    yield Row("gate", "inclusion", torch.tensor(1), "inclusion must be a floating-point tensor")
    yield Row("gate", "inclusion", 1.0, r"inclusion must lie in \(0, 1\)")
    for name in ("predict", "evaluate"):
        yield Row(name, "x", X.to(torch.complex64), "x must hold real numbers, got torch.complex64")
        yield Row(name, "x", X.double() * 1e300, "x must be finite in torch.float32")
        yield Row(name, "x", bad, "x must be finite")
        yield Row(name, "x", X[:, :3], r"x must have shape \(rows, 4\)")
        yield Row(name, "x", X[:0], r"x must have shape \(rows, 4\) and a row")
        yield Row(name, "x", "digits", "x must be a tensor, an array or a DataFrame, got str")
        yield Row(name, "x", np.array([["a"] * 4]), "x must hold numbers")
    for name in ("fit", "train_dense", "train_ensemble", "fit_sghmc", "sample", "sparsity_path"):
        yield Row(name, "data", (bad, Y), "data must be finite, got NaN or infinite values in x")
        yield Row(name, "data", (X, Y[:5]), "data must have as many rows in y as in x")
        yield Row(name, "data", (X.to(torch.complex64), Y), "data must hold real numbers|data must have floating-point")
        kind = "data must have floating-point inputs, got torch.int64|data must have inputs that the net takes, got"
        yield Row(name, "data", (X.long(), Y), kind)
        yield Row(name, "data", (X, Y + 5), "y must hold labels in 0 ... 1|labels")
        yield Row(name, "data", (X, Y.float()), "torch.int64|labels")
        yield Row(name, "data", X, "data must be a pair")
        yield Row(name, "data", None, "data must be a pair")
        yield Row(name, "data", "digits", "data must be a pair")
        yield Row(name, "data", (X[:0], Y[:0]), "data must have as many rows in y as in x, and one at least")
    for name in ("fit", "train_dense", "fit_sghmc"):
        yield Row(name, "validation", 1.5, "validation must be a fraction")
        yield Row(name, "validation", NAN, "validation must be a fraction")
        yield Row(name, "validation", True, "validation must be rows, a fraction or None")
        yield Row(name, "validation", "a fifth", "validation must be a pair")
        yield Row(name, "checkpoint", 3, "checkpoint must be a path")
        yield Row(name, "checkpoint", "no/such/folder/run.pt", "checkpoint must be a file in a folder that exists")
    yield Row("sparsity_path", "checkpoint", "run.pt", "checkpoint must be a function")
    yield Row("sample", "checkpoint", 3, "checkpoint must be a path")
    yield Row("sample", "model", 3, "model must be a SparseNetwork or a function")
    yield Row("fit", "augmentation", 3, "augmentation must be a function")
    yield Row("fit", "optimizer", 3, "optimizer must be")
    yield Row("fit", "schedule", Schedule(hold=1), r"hold \+ freeze must be below epochs")
    yield Row("fit_sghmc", "plan", OneShot(cycles=2), "cycles must be at most the 1 epochs")
    yield Row("OneShot", "burn_in", 4, "burn_in must leave a cycle")
    yield Row("Comparison", "methods", ("none",), "methods must be of")
    yield Row("Comparison", "recipe", Recipe(prior="ss-ig", one_shot=OneShot()), "recipe must be one of method svi")
    yield Row("PathPlan", "kl_weights", (), "kl_weights must be positive and finite, and one at least")
    yield Row("PathPlan", "kl_weights", (NAN,), "kl_weights must be positive and finite")
    yield Row("Sampler", "betas", (0.1,), "betas must be two numbers")
    yield Row("Sampler", "betas", (1.0, 1.0), "betas must be a fraction below 1")
    yield Row("Sampler", "alpha", 0.7, "alpha must be 1/2")
    yield Row("Sampler", "temperature", "hot", "temperature must be 'cooled'")
    yield Row("Schedule", "temperature", (1.0,), "temperature must be a number or")
    yield Row("load", "name", "nothing", "name must be one of")
    yield Row("load", "name", "nothing.csv", "name must be the path of a file that exists")
    yield Row("load", "drop", "a,b", "drop must be a sequence of names")
    yield Row("mlp", "hidden", (0,), r"hidden\[0\] must be at least 1")
    yield Row("find_nodes", "exclude", ["nothing"], "exclude")


def of_kinds(arguments: dict[str, dict[str, str]]) -> Iterator[Row]:
    """Rows of the values that no argument of a kind can have.

    Args:
        arguments: What is called -> kind of argument -> names of the arguments.
    """
    for what, kinds in arguments.items():
        for kind, names in kinds.items():
            for name in names.split():
                for value in KINDS[kind]:
                    yield Row(what, name, value, name)


def rows() -> Iterator[Row]:
    """All rows."""
    yield from single()
    yield from of_kinds(ARGUMENTS)


def shown(value: Any) -> str:
    return f"a tensor of {value.dtype}" if isinstance(value, Tensor) else repr(value)[:60]
