"""Posteriors as files: `save_posterior` writes any kind, and `load_posterior` reads it into a network made alike."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar, overload

import pyro
import torch
from pyro.infer.autoguide import AutoGuide
from torch import Tensor
from torch.utils._pytree import tree_map_only

from bnn_pyro.arguments import check_path, check_type
from bnn_pyro.fields import COUNT, NUMBER, RECORDS, STATE, TENSOR, TEXT, VALUES, Rule, check_fields, is_number, one_of
from bnn_pyro.identity import differences, is_short, network_identity, others
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.draws import Draws, current_names
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.settled_draws import SettledDraws
from bnn_pyro.posterior.stacking import Stacking
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from bnn_pyro.storage import check_format, load_into, read_file, write_whole
from guides import AutoProgram, AutoSpikeSlab

FORMAT = 1
_IDENTITY = "network"  # key of what tells the network; files of before have none
_WRITER = "save_posterior"

Path = str | os.PathLike[str]
Content = Mapping[str, Any]  # tensors and plain values by name
T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """Where a posterior is read from, and what it is read into.

    Args:
        path: The file.
        model: A network made as it was when the file was written; None where none is needed.
        guide: A guide of it; None for the usual one.
    """

    path: Path
    model: SparseNetwork | None
    guide: AutoGuide | None

    def network(self) -> SparseNetwork:
        """Return the network.

        Raises:
            ValueError: If there is none.
        """
        if self.model is None:
            raise ValueError(f"model must be a network made as when {self.path} was saved, got None")
        return self.model


@dataclass(frozen=True)
class Kind(Generic[T]):
    """A kind of posterior as it is written to files.

    Args:
        type: Its class.
        mark: Key of the format's number, which no other kind has.
        fields: What a file has besides, and what it must be.
        content: Gives what is written of a posterior.
        read: Gives the posterior back.
        takes: The arguments of `load_posterior` that it is read into, besides the file.
    """

    type: type[T]
    mark: str
    fields: Mapping[str, Rule]
    content: Callable[[T], dict[str, object]]
    read: Callable[[Content, Source], T]
    takes: tuple[str, ...] = ("model",)


def save_posterior(posterior: Posterior | Draws, path: Path) -> None:
    """Write a posterior of any kind, or the draws of any model, to a file, whole or not at all.

    Tensors and plain values only, so that it can be read with ``weights_only=True``. With the posterior of a network go
    its prior, its likelihood and its architecture as plain values, by which `load_posterior` knows another network.

    Args:
        posterior: What `fit`, `sample` or `fit_sghmc` has returned.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If it is no posterior, or the folder of the file does not exist.
    """
    check_path("path", path)
    kind = next((kind for kind in KINDS if isinstance(posterior, kind.type)), None)
    if kind is None:
        names = ", ".join(known.type.__name__ for known in KINDS)
        raise ValueError(f"posterior must be one of {names}, got {type(posterior).__name__}")
    made_from = {} if isinstance(posterior, Draws) else {_IDENTITY: network_identity(posterior.model)}
    write_whole({kind.mark: FORMAT, **kind.content(posterior), **made_from}, path)


@overload
def load_posterior(path: Path, model: None = None, *, guide: None = None) -> Draws: ...


@overload
def load_posterior(path: Path, model: SparseNetwork, *, guide: AutoGuide | None = None) -> Posterior: ...


def load_posterior(
    path: Path, model: SparseNetwork | None = None, *, guide: AutoGuide | None = None
) -> Posterior | Draws:
    """Read a posterior into copies of a model and guide made as they were when it was saved.

    Args:
        path: The file.
        model: A network with the same net, prior and options; it is not changed. Draws of another model take none.
        guide: For the posterior of a guide one for the model, of the saved class; None for
            :class:`~guides.AutoSpikeSlab`.

    Returns:
        The posterior, of the kind that was saved and on the model's device, or the draws, on the CPU.

    Raises:
        ValueError: If there is no such file, it is damaged, it was saved from another guide or a model with another
            net, prior or likelihood, or model and guide are not what such a file takes.
    """
    check_path("path", path)
    if model is not None:
        check_type("model", model, SparseNetwork)
    content = read_file(path, writer=_WRITER)
    kind = next((kind for kind in KINDS if isinstance(content, dict) and kind.mark in content), None)
    if not isinstance(content, dict) or kind is None:
        raise ValueError(f"path must be a file written by {_WRITER} in format {FORMAT}, got {path}: of another kind")
    check_format(content[kind.mark], FORMAT, writer=_WRITER, path=path)
    check_fields(content, kind.fields, path)
    for name, given in {"model": model, "guide": guide}.items():
        if given is not None and name not in kind.takes:
            what = f"a {type(given).__name__} for {path}"
            raise ValueError(f"{name} must be left out for a file of {kind.type.__name__}, got {what}")
    if model is not None:
        check_fields(content, {_IDENTITY: VALUES} if _IDENTITY in content else {}, path)
        _check_network(model, content.get(_IDENTITY, {}), path)
    try:
        found: Posterior | Draws = kind.read(content, Source(path, model, guide))
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:  # of content that fits no model
        raise ValueError(f"path must be a file written by {_WRITER}, got {path}: damaged ({error!r})") from error
    return found


def _check_network(model: SparseNetwork, there: Content, path: Path) -> None:
    """Raise if a network is not made as that of a file."""
    here = network_identity(model)
    if different := differences(there, here):
        name = different[0]
        value, other = there[name], here.get(name)
        values = f"{value!r}, got {other!r}" if is_short(value) and is_short(other) else "of its own, got another one"
        raise ValueError(f"model must be made as when {path} was saved, with {name} {values}{others(different)}")


# ---- the posterior of a guide ----------------------------------------------------------------------------------------


def _guide_content(posterior: GuidePosterior) -> dict[str, object]:
    return {
        "guide_class": type(posterior.guide).__name__,
        "guide": posterior.guide.state_dict(),
        "gate_mode": getattr(posterior.guide, "gate_mode", "free"),
        "model": posterior.model.state_dict(),
        "kl_weight": posterior.kl_weight,
        "history": posterior.history,
        "settled": _settled_content(posterior.settled),
    }


def _settled_content(settled: SettledDraws | None) -> dict[str, object] | None:
    if settled is None:
        return None
    return {"keep": dict(settled.keep), "tensors": dict(settled.drawn.tensors), "latent": settled.drawn.latent}


def _read_guide(content: Content, source: Source) -> GuidePosterior:
    model = source.network()
    like = next(model.parameters())
    with torch.random.fork_rng([like.device] if like.is_cuda else []), pyro.get_param_store().scope():
        model, guide = copies(model, AutoSpikeSlab(model.prior) if source.guide is None else source.guide)
        if not list(guide.parameters()):
            guide()  # Pyro's own guides make their parameters at the first call
    if type(guide).__name__ != content["guide_class"]:
        raise ValueError(f"guide must be a {content['guide_class']}, as in {source.path}, got {type(guide).__name__}")
    load_into("model", model, content["model"], source.path)
    load_into("guide", guide, content["guide"], source.path)
    if isinstance(guide, AutoProgram):
        guide.gate_mode = content["gate_mode"]
    model.net.eval()
    settled = None
    if content.get("settled") is not None:  # older files have none, nor have networks without BatchNorm
        saved = tree_map_only(Tensor, lambda tensor: tensor.to(like.device), content["settled"])
        settled = SettledDraws.of(model, **saved)
    return GuidePosterior(model, guide, history=content["history"], kl_weight=content["kl_weight"], settled=settled)


# ---- draws of Markov chains, of a network or of another model --------------------------------------------------------


def _draws_content(draws: Draws) -> dict[str, object]:
    content = {each.name: getattr(draws, each.name) for each in fields(draws)}
    return {"draws": {**content, "values": dict(draws.values)}}


def _read_draws(content: Content, source: Source) -> Draws:
    found = current_names(content["draws"])
    check_fields(found, _DRAWS, f"the draws in {source.path}")
    shape = found["energy"].shape
    for name in ("vectors", "total_energy", "acceptance", "diverged", "leapfrogs"):
        if found[name].shape[:2] != shape or found["energy"].dim() != 2:
            got = f"{name} of shape {tuple(found[name].shape)} and energy of shape {tuple(shape)}"
            raise ValueError(f"{name!r} in {source.path} must have shape (chains, draws, ...), got {got}")
    if any(value.shape[:2] != shape for value in found["values"].values()):
        raise ValueError(f"'values' in {source.path} must have shapes ({shape[0]}, {shape[1]}, ...)")
    return Draws(**{name: value for name, value in found.items() if name in _DRAWS})


_TENSORS = ("vectors", "energy", "total_energy", "acceptance", "diverged", "leapfrogs", "step_size", "inverse_mass")
_DRAWS: Mapping[str, Rule] = {
    "values": STATE,
    **dict.fromkeys(_TENSORS, TENSOR),
    "kernel": TEXT,
    "thinning": COUNT,
    "seconds": NUMBER,
}


def _sampled_content(posterior: SampledPosterior) -> dict[str, object]:
    stacking = posterior.stacking
    return {
        **_draws_content(posterior.draws),
        "model": posterior.model.state_dict(),
        "chain_weights": posterior.chain_weights,
        "stacking": None if stacking is None else {"elpd": stacking.elpd, "pareto_k": stacking.pareto_k},
    }


def _read_sampled(content: Content, source: Source) -> SampledPosterior:
    model = source.network()
    device = next(model.parameters()).device
    draws = _read_draws(tree_map_only(Tensor, lambda tensor: tensor.to(device), content), source)
    weights, found = content.get("chain_weights"), content.get("stacking")  # older files have neither
    stacking = None if weights is None or found is None else Stacking(weights, **found)
    sampled = SampledPosterior(model, draws, chain_weights=stacking or weights)
    load_into("model", sampled.model, content["model"], source.path)
    return sampled


# ---- snapshots, each as small as it is -------------------------------------------------------------------------------


def _ensemble_content(ensemble: Ensemble) -> dict[str, object]:
    snapshots = [snapshot_values(snapshot) for snapshot in ensemble.snapshots]
    return {"snapshots": snapshots, "history": ensemble.history, "temperature": ensemble.temperature}


def _read_ensemble(content: Content, source: Source) -> Ensemble:
    model = source.network()
    device = next(model.parameters()).device
    try:
        moved = tree_map_only(Tensor, lambda tensor: tensor.to(device), content["snapshots"])
        snapshots = [snapshot_of(saved, model) for saved in moved]
    except (KeyError, RuntimeError, ValueError) as error:
        raise ValueError(f"model must be made as when {source.path} was saved: {error}") from error
    return Ensemble(model, snapshots, history=content["history"], temperature=content["temperature"])


def snapshot_values(snapshot: Snapshot) -> dict[str, object]:
    """Return a snapshot as tensors and plain values, for a file.

    Args:
        snapshot: The snapshot.
    """
    return {"net": dict(snapshot.model.net.state_dict()), "keep": dict(snapshot.keep), "latent": snapshot.latent}


def snapshot_of(saved: Content, model: SparseNetwork) -> Snapshot:
    """Return the snapshot that `snapshot_values` gave the values of.

    Args:
        saved: The values, on the network's device.
        model: The whole network.
    """
    keep = saved["keep"]
    small = smaller_model(model, keep, kept_positions(model.net, model.nodes.groups, keep))
    small.net.load_state_dict(saved["net"])
    small.net.eval()
    return Snapshot(small, keep, _checked_latent(saved["latent"], model))


def _checked_latent(latent: object, model: SparseNetwork) -> Tensor | None:
    """Return the latent of a likelihood, if it is as the likelihood's prior draws it."""
    if latent is None:
        return None
    with torch.random.fork_rng([]):
        drawn = model.likelihood.prior(like=torch.empty((), device="cpu"))
    if drawn is None or not isinstance(latent, Tensor) or latent.shape != drawn.shape:
        wanted = "None" if drawn is None else f"a tensor of shape {tuple(drawn.shape)}"
        raise TypeError(f"the latent of a snapshot must be {wanted}")
    return latent


def _is_temperature(value: object) -> bool:
    return value in ("cooled", "adapted") if isinstance(value, str) else is_number(value)


# ---- all kinds -------------------------------------------------------------------------------------------------------

KINDS: tuple[Kind[Any], ...] = (
    Kind(
        GuidePosterior,
        "format",
        {
            "guide_class": TEXT,
            "guide": STATE,
            "gate_mode": one_of("free", "open", "frozen"),
            "model": STATE,
            "kl_weight": Rule("a number of 0 or more", lambda value: is_number(value) and float(value) >= 0),  # type: ignore[arg-type]
            "history": RECORDS,
        },
        _guide_content,
        _read_guide,
        takes=("model", "guide"),
    ),
    Kind(SampledPosterior, "sampled_format", {"draws": VALUES, "model": STATE}, _sampled_content, _read_sampled),
    Kind(
        Ensemble,
        "ensemble_format",
        {"snapshots": RECORDS, "history": RECORDS, "temperature": Rule("'cooled' or a number", _is_temperature)},
        _ensemble_content,
        _read_ensemble,
    ),
    Kind(Draws, "draws_format", {"draws": VALUES}, _draws_content, _read_draws, takes=()),
)
"""The kinds of posteriors that files hold."""
