"""The file ``config.json`` of a run: all that it was given, and what is needed to build its model again."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from bnn_pyro.arguments import check_path
from bnn_pyro.data import Dataset
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.fields import COUNT, COUNTS, FLAG, NUMBER, POSITIVE, TEXT, WHOLE, check_fields, one_of
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.recipes.definition import NOISES, SLABS, Recipe
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.path_plan import PathPlan
from bnn_pyro.refinement import Refinement
from bnn_pyro.storage import read_json

Config = dict[str, Any]
"""The values of a run's ``config.json`` by name, as JSON gives them; the objects made of them check them."""

_LATER = {  # settings that a run may be older than
    "reads": None,
    "normalize": False,
    "augmentation": None,
    "one_shot": None,
    "refinement": None,
    "refine_if_worth": False,
    "reference": False,
    "noise": "constant",
    "path": None,
    "least_kl_weight": None,
}
_FLAT = ("hold", "freeze", "kl_warmup", "frozen_kl_weight", "decay", "shrink_below")  # once no part of a schedule


_FIELDS = {
    "input_shape": COUNTS,
    "outputs": COUNT,
    "task": one_of("classification", "regression"),
    "num_data": COUNT,
}
_OPTIONAL = {"is_weighted": FLAG, "data": TEXT, "seed": WHOLE, "y_mean": NUMBER, "y_std": POSITIVE, "hidden": COUNTS}
_WEIGHTS = ("checkpoint.pt", "dense/weights.safetensors", "weights.safetensors")  # the files of a run's weights
_LEAST_BYTES = 2  # of a number in them


def config_of(dataset: Dataset, settings: Recipe, *, seed: int, device: torch.device) -> dict[str, object]:
    """Return all that a run was given, as JSON values, and what is needed to build its model again.

    Args:
        dataset: The data.
        settings: The settings.
        seed: Seed of the run.
        device: Where it was trained.
    """
    return {
        "data": dataset.name,
        "target": dataset.target,
        "drop": list(dataset.drop),
        "notes": list(dataset.notes),
        "method": settings.method,
        **dataclasses.asdict(settings),
        "refinement": refinement_values(settings.refinement),
        "seed": seed,
        "device": str(device),
        "task": dataset.task,
        "num_data": len(dataset.train),
        "is_weighted": dataset.is_weighted,
        "input_shape": list(dataset.input_shape),
        "outputs": settings.outputs(dataset.num_classes),
        "y_mean": dataset.y_mean,
        "y_std": dataset.y_std,
        "torch": str(torch.__version__),
    }


def read_config(folder: str | Path) -> tuple[Config, Recipe]:
    """Return all that a run was given, and the settings among it.

    Args:
        folder: The run's folder.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    check_path("folder", folder)
    path = Path(folder) / "config.json"
    config = read_json(path, what="the config.json of a run")
    try:
        check_fields(
            config, _FIELDS | {name: rule for name, rule in _OPTIONAL.items() if name in config}, "config.json"
        )
        settings = settings_of(config)
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        reason = error if isinstance(error, ValueError) else repr(error)
        raise ValueError(f"folder must hold the config.json of a run, got '{folder}' ({reason})") from error
    return config, settings


def check_sizes(folder: str | Path, config: Config, settings: Recipe) -> None:
    """Check that the network of a run is no larger than the files that hold its weights, before it is made.

    Args:
        folder: The run's folder.
        config: What `read_config` has read.
        settings: The settings.

    Raises:
        ValueError: If it is larger.
    """
    where = f"'hidden' and 'input_shape' in '{Path(folder) / 'config.json'}'"
    held = sum(path.stat().st_size for path in map(Path(folder).joinpath, _WEIGHTS) if path.is_file())
    try:
        with torch.device("meta"):
            net = settings.make_net(config["input_shape"], config["outputs"])
        needed = sum(parameter.numel() for parameter in net.parameters()) * _LEAST_BYTES
    except (RuntimeError, TypeError, OverflowError) as error:  # sizes beyond what torch can count
        raise ValueError(f"{where} must be those of a net ({error})") from error
    if needed > held:
        raise ValueError(
            f"{where} must be those of the run's net, got a net of {needed:,} bytes at least, and {held:,} in the "
            "files of its weights"
        )


def settings_of(config: Config) -> Recipe:
    """Return the settings of a run, also where they were written as one flat list, as they were at first.

    Args:
        config: What :func:`config_of` gave, perhaps by way of JSON.

    Raises:
        KeyError: If a setting is missing.
        ValueError: If a setting is out of range.
    """
    given = {**_LATER, **(config if "schedule" in config else _nested(config))}
    if config.get("varying_noise"):  # as it was called once
        given["noise"] = "input"
    values = {field.name: given[field.name] for field in dataclasses.fields(Recipe)}
    schedule = dict(values["schedule"])
    if isinstance(schedule["temperature"], list):
        schedule["temperature"] = tuple(schedule["temperature"])
    augmentation, one_shot, refinement = (values[name] for name in ("augmentation", "one_shot", "refinement"))
    path = values["path"]
    return Recipe(
        **{
            **values,
            "hidden": tuple(values["hidden"]),
            "reads": None if values["reads"] is None else tuple(values["reads"]),
            "augmentation": None if augmentation is None else Augmentation.of(augmentation),
            "dense": DenseTraining(**values["dense"]),
            "schedule": Schedule(**schedule),
            "rates": LearningRates(**values["rates"]),
            "one_shot": None if one_shot is None else OneShot.of(one_shot),
            "refinement": None if refinement is None else _refinement_of(refinement),
            "path": None if path is None else PathPlan(**{**path, "kl_weights": tuple(path["kl_weights"])}),
        }
    )


def refinement_values(refinement: Refinement | None) -> Config | None:
    """Return how a run is refined as JSON values, a slab and a noise with their names among them.

    Args:
        refinement: The settings; None for a run that is not refined.
    """
    if refinement is None:
        return None
    named = {"slab": _named(refinement.slab, SLABS), "likelihood": _named(refinement.likelihood, NOISES)}
    return {**dataclasses.asdict(refinement), **named}


def _named(value: Any, kinds: Mapping[str, Callable[..., Any]]) -> Config | None:
    """Return the name of an object's kind and the object's fields; None for kinds that have no name."""
    names = [name for name, kind in kinds.items() if type(value) is kind]
    return {"name": names[0], **dataclasses.asdict(value)} if names else None


def _of_name(values: Config | None, kinds: Mapping[str, Callable[..., Any]]) -> Any:
    """Return the object that `_named` gave the fields of."""
    return None if values is None else kinds[values["name"]](**{n: v for n, v in values.items() if n != "name"})


def _refinement_of(values: Config) -> Refinement:
    until = values["until"]
    return Refinement(
        plan=SamplingPlan(**values["plan"]),
        until=None if until is None else StoppingRule(**until),
        start=values["start"],
        weights=values.get("weights", "equal"),
        slab=_of_name(values["slab"], SLABS),
        likelihood=_of_name(values.get("likelihood"), NOISES),
        least_chains=values.get("least_chains", Refinement.least_chains),  # which older files lack
    )


def _nested(config: Config) -> Config:
    """Return a flat list of settings as it is written now; a weight for frozen gates then needed no frozen gates."""
    schedule = {name: config[name] for name in _FLAT} | {"temperature": None}
    schedule["frozen_kl_weight"] = schedule["frozen_kl_weight"] if schedule["freeze"] else None
    given = (field.name for field in dataclasses.fields(DenseTraining) if field.name != "validation")  # there was none
    dense = {name: config[f"pretrain_{name}"] for name in given}
    return {**config, "dense": dense, "schedule": schedule, "rates": config["learning_rates"]}
