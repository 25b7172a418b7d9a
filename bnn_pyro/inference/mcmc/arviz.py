"""to_arviz: draws as ArviZ holds them, before its version 1.0 and after."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial, singledispatch
from types import ModuleType
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Tensor

from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.inference.checks import as_pair
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.sampled import SampledPosterior
from guides.sites import sites_of

OBSERVED = "obs"
"""The site of a network's observations."""

_Group = Mapping[str, Tensor]


def to_arviz(
    draws: Draws | SampledPosterior,
    data: object = None,
    *,
    model: Callable[..., object] | None = None,
    sites: Sequence[str] | None = None,
    batch_size: int = 1024,
) -> Any:
    """Return draws as ArviZ holds them, for its plots, its summaries and for comparing models.

    The groups are ``posterior``; ``sample_stats`` with ``lp``, ``energy`` (potential and kinetic), ``diverging``,
    ``acceptance_rate``, ``step_size``, ``n_steps`` and, of NUTS without thinning, ``tree_depth``; and, if there are
    data, ``log_likelihood`` of each observation and ``observed_data``.

    Args:
        draws: What :func:`~bnn_pyro.inference.mcmc.sample.sample` returned.
        data: What it was given, or other data, for the last two groups; None leaves them out.
        model: The model, if the draws are not a network's and there are data.
        sites: The sites of the posterior; None for all.
        batch_size: Rows that a network is called with at a time.

    Returns:
        An ``InferenceData`` before ArviZ 1.0, and a ``DataTree`` from there on.

    Raises:
        ImportError: If ArviZ is not installed.
        ValueError: If there are no draws, a site is unknown, the data do not fit, or the model is missing.
    """
    chains = _chains(draws, model, batch_size)  # first, so that wrong draws are named with ArviZ or without
    arviz = _arviz()
    values = chains.draws.values
    for name in sites or ():
        if name not in values:
            raise ValueError(f"sites must be of {', '.join(values)}, got {name!r}")
    groups: dict[str, _Group] = {
        "posterior": {name: values[name] for name in sites or values},
        "sample_stats": _statistics(chains.draws),
    }
    if data is not None:
        groups |= chains.observe(data)
    found = _made(arviz, groups, chains.dimensions)
    found["posterior"].attrs.update(inference_library="bnn_pyro", sampling_time=chains.draws.seconds)
    return found


@dataclass(frozen=True)
class _Chains:
    """What is exported of chains.

    Args:
        draws: Their draws.
        observe: Gives the groups of some data.
        dimensions: Site -> names of its dimensions, where they have names.
    """

    draws: Draws
    observe: Callable[[object], dict[str, _Group]]
    dimensions: Mapping[str, list[str]] = field(default_factory=dict)


@singledispatch
def _chains(given: object, model: Callable[..., object] | None, batch_size: int) -> _Chains:
    raise ValueError(f"draws must be what sample has returned, got {type(given).__name__}")


@_chains.register
def _(given: Draws, model: Callable[..., object] | None, batch_size: int) -> _Chains:
    return _Chains(given, partial(_of_model, given, model))


@_chains.register
def _(given: SampledPosterior, model: Callable[..., object] | None, batch_size: int) -> _Chains:
    return _Chains(given.draws, partial(_of_network, given, batch_size), _dimensions(given.model))


def _arviz() -> ModuleType:
    try:
        import arviz
    except ImportError as error:
        raise ImportError("to_arviz needs ArviZ: pip install 'bnn_pyro[diagnostics]'") from error
    module: ModuleType = arviz
    return module


def _made(arviz: ModuleType, groups: Mapping[str, _Group], dims: Mapping[str, list[str]]) -> Any:
    """Calls ArviZ; from version 1.0 on it takes all groups in one dictionary."""
    arrays = {
        group: {name: value.detach().cpu().numpy() for name, value in values.items()}
        for group, values in groups.items()
    }
    named = {name: dim for name, dim in dims.items() if any(name in values for values in groups.values())}
    if "posterior" in inspect.signature(arviz.from_dict).parameters:
        return arviz.from_dict(**arrays, dims=named)
    return arviz.from_dict(arrays, dims=named)


def _dimensions(model: SparseNetwork) -> dict[str, list[str]]:
    """Returns the names of the dimensions of gates, and of observations."""
    return {**{gate_site(name): [f"{name}_node"] for name in model.groups}, OBSERVED: ["row"]}


def _statistics(draws: Draws) -> dict[str, Tensor]:
    """Returns how the chains went, under the names of ArviZ's schema."""
    found = {
        "lp": -draws.energy,
        "energy": draws.total_energy,
        "diverging": draws.diverged > 0,
        "acceptance_rate": draws.acceptance,
        "step_size": draws.step_size.unsqueeze(1).expand_as(draws.energy),
        "n_steps": draws.leapfrogs,
    }
    if draws.kernel == "nuts" and draws.thinning == 1:
        leaves = draws.leapfrogs + 1  # a tree of depth d has 2^d
        found["tree_depth"] = leaves.double().log2().floor().long()
    return found


# ---- the likelihood --------------------------------------------------------------------------------------------------


def _of_network(sampled: SampledPosterior, rows: int, data: object) -> dict[str, _Group]:
    """Return what a network's draws say of each observation."""
    x, y = as_pair("data", data, sampled.model.layout, likelihood=sampled.model.likelihood)
    terms = sampled.log_likelihood(x, y, batch_size=rows)
    return {"log_likelihood": {OBSERVED: terms}, "observed_data": {OBSERVED: y}}


@torch.no_grad()
def _of_model(draws: Draws, model: Callable[..., object] | None, data: object) -> dict[str, _Group]:
    """Return what a model's draws say of each observation, one draw after the other."""
    if model is None:
        raise ValueError("model must be given with the data of draws that are not a network's, got None")
    args = data if isinstance(data, tuple) else (data,)
    stacked, shape = draws.stacked(), draws.energy.shape
    terms: dict[str, list[Tensor]] = {}
    observed: dict[str, Tensor] = {}
    with pyro.get_param_store().scope(pyro.get_param_store().get_state()), pyro.validation_enabled(False):
        for number in range(draws.energy.numel()):
            values = {name: value[number] for name, value in stacked.items()}
            found = poutine.trace(poutine.condition(model, values)).get_trace(*args)
            found.compute_log_prob()
            for name in found.observation_nodes:
                if name in stacked:
                    continue
                terms.setdefault(name, []).append(found.nodes[name]["unscaled_log_prob"])
                observed[name] = sites_of(found)[name]["value"]
    return {
        "log_likelihood": {name: torch.stack(parts).unflatten(0, tuple(shape)) for name, parts in terms.items()},
        "observed_data": observed,
    }
