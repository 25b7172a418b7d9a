"""Calls that cannot be right of what the sub-packages offer: the same kinds of rows as in the table of `bad_calls`."""

from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

import bnn_pyro
from bnn_pyro import comparison, inference, likelihoods, networks, priors, recipes
from bnn_pyro.data import Dataset, has_columns, is_data, load
from bnn_pyro.estimators import SparseBayesClassifier, SparseBayesRegressor
from bnn_pyro.export import export_net, load_net, save_net
from bnn_pyro.posterior.batch_norm import settle_batch_norm
from guides import AutoSpikeSlabMultivariate, HardGate
from tests.bad_calls import NAN, Row, X, Y, called, model, of_kinds, posterior

NET = networks.mlp(4, (3,), 2)


@cache
def digits() -> Dataset:
    return load("digits", flatten=True)


@cache
def folder() -> Path:
    """An empty one, where nothing may be left."""
    return Path(mkdtemp())


def fitted(estimator: type[Any], **changes: Any) -> None:
    estimator(**changes).fit(X.numpy(), Y.numpy())


RECIPE = recipes.Recipe(hidden=(3,))

CALLS: dict[str, Callable[..., object]] = {
    "choose_inputs": lambda **c: bnn_pyro.choose_inputs(
        **{"posterior": posterior(), "data": (X, Y), "held_out": (X, Y), "seed": 0, "progress": False, **c}
    ),
    "load_posterior": lambda **c: bnn_pyro.load_posterior(**{"path": folder() / "it.pt", "model": model(), **c}),
    "save_posterior": lambda **c: bnn_pyro.save_posterior(**{"posterior": posterior(), "path": folder(), **c}),
    "Categorical": called(likelihoods.Categorical),
    "ClassMap": called(likelihoods.ClassMap),
    "NegativeBinomial": called(likelihoods.NegativeBinomial),
    "MultiOutputNoise": called(likelihoods.MultiOutputNoise, shape=2),
    "RowWeights": called(likelihoods.RowWeights, base=likelihoods.Categorical()),
    "with_weights": called(likelihoods.with_weights, y=Y, weight=torch.ones(40)),
    "export_net": lambda **c: export_net(**{"net": NET, "example_input": X[:2], "path": folder() / "it.pt2", **c}),
    "save_net": lambda **c: save_net(**{"net": NET, "folder": folder(), **c}),
    "load_net": lambda **c: load_net(**{"folder": folder(), "dense": NET, **c}),
    "settle_batch_norm": lambda **c: settle_batch_norm(**{"posterior": posterior(), "x": X, **c}),
    "CompiledELBO": called(inference.CompiledELBO),
    "SpikeSlabSGHMC": lambda **c: inference.SpikeSlabSGHMC(**{"params": NET.parameters(), "num_data": 10, **c}),
    "CyclicalCosine": lambda **c: inference.CyclicalCosine(
        **{"optimizer": torch.optim.SGD(NET.parameters(), lr=0.1), "steps": 10, **c}
    ),
    "Potential": lambda **c: inference.Potential(**{"model": model(), **c}),
    "noncentered": lambda **c: inference.noncentered(**{"model": model(), **c}),
    "to_arviz": called(inference.to_arviz, draws=None),
    "GuidePosterior": lambda **c: inference.GuidePosterior(**{"model": model(), "guide": posterior().guide, **c}),
    "SampledPosterior": lambda **c: inference.SampledPosterior(**{"model": model(), "draws": None, **c}),
    "Ensemble": lambda **c: inference.Ensemble(
        **{"model": model(), "snapshots": [inference.Snapshot(model(), {})], **c}
    ),
    "residual_mlp": called(networks.residual_mlp, in_features=4, width=3, depth=1, out_features=2),
    "ResidualMLP": called(networks.ResidualMLP, in_features=4, width=3, depth=1, out_features=2),
    "resnet": called(networks.resnet),
    "ResNet": called(networks.ResNet, blocks=(1, 1, 1)),
    "gaussian": called(priors.gaussian, name="w", shape=(3, 4)),
    "slab": called(priors.slab, name="w", shape=(3, 4)),
    "group_horseshoe_scale": called(priors.group_horseshoe_scale, name="s", size=3),
    "group_lasso_rate": called(priors.group_lasso_rate, name="s"),
    "group_lasso_scale": called(priors.group_lasso_scale, name="s", size=3, group_size=2, rate=1.0),
    "half_cauchy": called(priors.half_cauchy, name="s"),
    "regularized_scale": called(priors.regularized_scale, scale=torch.ones(3), slab_width=1.0),
    "spike_slab_gaussian": called(priors.spike_slab_gaussian, name="w", shape=(3, 4), inclusion=0.5),
    "spike_slab_group_lasso": called(priors.spike_slab_group_lasso, name="w", shape=(3, 4), inclusion=0.5, rate=1.0),
    "spike_slab_group_horseshoe": called(priors.spike_slab_group_horseshoe, name="w", shape=(3, 4), inclusion=0.5),
    "AutoSpikeSlabMultivariate": lambda **c: AutoSpikeSlabMultivariate(**{"model": model().prior, **c}),
    "HardGate": called(HardGate, temperature=torch.tensor(0.5), logits=torch.zeros(3)),
    "recipe": called(recipes.recipe, data="digits"),
    "check_names": called(recipes.check_names),
    "check_data": called(recipes.check_data),
    "default_prior": called(recipes.default_prior),
    "run": lambda **c: recipes.run(**{"dataset": digits(), "settings": RECIPE, "progress": False, **c}),
    "train_run": lambda **c: recipes.train_run(**{"dataset": digits(), "settings": RECIPE, "progress": False, **c}),
    "refine_run": lambda **c: recipes.refine_run(**{"folder": folder(), "dataset": digits(), **c}),
    "predict_frame": lambda **c: recipes.predict_frame(**{"folder": folder(), "rows": "none.csv", **c}),
    **{
        name: partial(getattr(recipes, name))
        for name in ("load_run", "load_pruned", "load_dense", "load_refined", "load_table")
    },
    "compare": lambda **c: comparison.compare(
        **{"dataset": digits(), "plan": comparison.Comparison(RECIPE), "progress": False, **c}
    ),
    "check_comparison_folder": called(comparison.check_comparison_folder),
    "has_columns": called(has_columns),
    "is_data": called(is_data),
    "SparseBayesClassifier": partial(fitted, SparseBayesClassifier),
    "SparseBayesRegressor": partial(fitted, SparseBayesRegressor),
}

ARGUMENTS: dict[str, dict[str, str]] = {
    "choose_inputs": {"object": "posterior settings", "seed": "seed"},
    "load_posterior": {"object": "model"},
    "save_posterior": {"object": "posterior"},
    "ClassMap": {"count": "dims", "flag": "missing"},
    "NegativeBinomial": {"positive": "prior_scale"},
    "MultiOutputNoise": {"positive": "prior_scale", "flag": "shared missing"},
    "Bernoulli": {"flag": "missing"},
    "StudentT": {"positive": "df prior_scale"},
    "HeteroscedasticNoise": {"rate": "min_scale"},
    "refine": {"seed": "seed", "object": "posterior settings"},
    "CorrelatedNoise": {"flag": "missing"},
    "RowWeights": {"object": "base"},
    "export_net": {"object": "net", "choice": "form"},
    "save_net": {"object": "net"},
    "load_net": {"object": "dense"},
    "settle_batch_norm": {"object": "posterior", "count": "draws batch_size"},
    "CompiledELBO": {"object": "elbo", "choice": "engine"},
    "SpikeSlabSGHMC": {"count": "num_data", "rate": "lr eta weight_decay", "positive or None": "noise_scale"},
    "CyclicalCosine": {"count": "steps cycles", "object": "optimizer"},
    "Potential": {"object": "model", "flag": "compiled traced"},
    "noncentered": {"object": "model"},
    "to_arviz": {"object": "draws"},
    "GuidePosterior": {"object": "model guide", "rate": "kl_weight"},
    "SampledPosterior": {"object": "model draws"},
    "Ensemble": {"object": "model"},
    "residual_mlp": {"count": "in_features width depth out_features"},
    "ResidualMLP": {"count": "in_features width depth out_features", "count or None": "block_width"},
    "resnet": {"count": "in_channels out_features", "count or None": "width", "choice": "depth"},
    "ResNet": {"count": "in_channels out_features width", "flag": "bottleneck"},
    "gaussian": {"positive": "sigma", "shape": "shape"},
    "slab": {"positive": "scale", "shape": "shape"},
    "group_horseshoe_scale": {"count": "size", "positive": "global_scale node_scale"},
    "group_lasso_rate": {"positive": "shape rate"},
    "group_lasso_scale": {"count": "size group_size", "positive": "rate"},
    "half_cauchy": {"positive": "scale", "count or None": "size"},
    "spike_slab_gaussian": {"positive": "sigma temperature", "sizes": "shape"},
    "spike_slab_group_lasso": {"positive": "sigma temperature rate", "sizes": "shape"},
    "spike_slab_group_horseshoe": {"positive": "sigma temperature global_scale", "sizes": "shape"},
    "AutoSpikeSlabMultivariate": {"choice": "gates gate_gradient", "positive": "init_scale", "object": "model"},
    "HardGate": {"choice": "gradient"},
    "recipe": {"count": "rows", "choice": "prior task net method", "count or None": "inputs"},
    "check_names": {"choice": "net prior method"},
    "default_prior": {"choice": "method"},
    "run": {"object": "dataset settings", "seed": "seed", "flag": "resume", "flag or None": "progress"},
    "train_run": {"object": "dataset settings", "seed": "seed"},
    "compare": {"object": "dataset plan", "seed": "seed"},
    "SparseBayesClassifier": {"choice": "prior refine", "positive or None": "kl_weight", "count or None": "steps"},
    "SparseBayesRegressor": {"choice": "prior refine", "positive or None": "kl_weight", "count or None": "steps"},
}


def single() -> Iterator[Row]:
    """Rows of their own."""
    for value in (0.0, -1.0, NAN, "3", [1], 1j):
        yield Row("regularized_scale", "slab_width", value, "slab_width must")
    yield Row("regularized_scale", "scale", 3, "scale must be a tensor")
    yield Row("load_posterior", "path", "no/such.pt", "no such file")
    yield Row("load_posterior", "path", 3, "path must be")
    yield Row("save_posterior", "path", "no/such/it.pt", "path must be in a folder that exists")
    yield Row("save_posterior", "path", 3, "path must be")
    yield Row("Categorical", "weight", (1.0, -1.0), "weight must")
    yield Row("Categorical", "weight", (), "weight must")
    yield Row("Categorical", "weight", "1", "weight must")
    yield Row("with_weights", "weight", torch.ones(3), "weight must")
    yield Row("with_weights", "weight", -torch.ones(40), "weight must")
    yield Row("with_weights", "weight", torch.full((40,), NAN), "weight must")
    yield Row("with_weights", "weight", 3, "weight must")
    yield Row("with_weights", "y", 3, "y must")
    yield Row("export_net", "path", "no/such/it.pt2", "path must be in a folder that exists")
    yield Row("export_net", "path", 3, "path must be")
    yield Row("export_net", "example_input", X[:0], "example_input must have a row")
    yield Row("export_net", "example_input", 3, "example_input must")
    yield Row("save_net", "folder", 3, "folder must be")
    yield Row("load_net", "folder", "no/such", "folder must hold")
    yield Row("load_net", "folder", 3, "folder must be")
    yield Row("settle_batch_norm", "x", 3, "x must")
    yield Row("Ensemble", "snapshots", [], "snapshots must hold at least one")
    yield Row("Ensemble", "snapshots", [3], "snapshots must")
    yield Row("ResNet", "blocks", (), "blocks must")
    yield Row("ResNet", "blocks", (0,), r"blocks\[0\] must")
    yield Row("ResNet", "blocks", 3, "blocks must")
    yield Row("check_data", "data", 3, "data must be")
    yield Row("check_data", "data", "nothing", "data must be one of")
    yield Row("recipe", "data", 3, "data must be")
    for name in ("load_run", "load_pruned", "load_dense", "load_refined", "load_table"):
        yield Row(name, "folder", "no/such", "folder must hold|run must be one on a table")
        yield Row(name, "folder", 3, "folder must be")
    yield Row("predict_frame", "folder", "no/such", "folder must hold")
    yield Row("refine_run", "folder", "no/such", "folder must hold")
    yield Row("refine_run", "folder", 3, "folder must be")
    yield Row("check_comparison_folder", "path", 3, "path must be")
    for name in ("has_columns", "is_data"):
        yield Row(name, "name", 3, "name must be")
    yield Row("run", "out", 3, "out must be")
    yield Row("run", "out", "", "out must be the name of a folder")
    yield Row("run", "device", "abacus", "device must be")
    yield Row("run", "device", 3.5, "device must be")
    for name in ("SparseBayesClassifier", "SparseBayesRegressor"):
        yield Row(name, "hidden", "x", "hidden must be")
        yield Row(name, "hidden", (0,), "hidden")
        yield Row(name, "device", "abacus", "device must be")


def rows() -> Iterator[Row]:
    """All rows."""
    yield from single()
    yield from of_kinds(ARGUMENTS)
