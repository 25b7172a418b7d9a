"""starting_points: where chains start, from an ensemble of dense nets, from values, from a net or from a posterior."""

import copy
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal

import pyro
import torch
from pyro import poutine
from pyro.distributions import RelaxedBernoulli
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn

from bnn_pyro.arguments import check_seed, check_whole
from bnn_pyro.inference.checks import Data, as_pair
from bnn_pyro.inference.generators import seeded
from bnn_pyro.inference.mcmc.potential.dependence import trace_and_constants
from bnn_pyro.inference.mcmc.potential.improper import improper_value, is_improper
from bnn_pyro.inference.mcmc.potential.isolation import data_dtype, in_dtype
from bnn_pyro.inference.mcmc.potential.latents import laid_out, sample_sites
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.training.ensemble import train_ensemble
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from guides import initial_value
from guides.sites import Site, base_distribution, is_subsample

Source = (
    Literal["ensemble"] | Mapping[str, Tensor] | nn.Module | Sequence[nn.Module] | GuidePosterior | SampledPosterior
)
"""What starting points are made from."""

_OPEN = 0.95  # a gate of which nothing is given


def starting_points(
    model: Callable[..., object],
    data: Data,
    source: Source,
    *,
    chains: int,
    seed: int | None = None,
    progress: bool | None = None,
    sites: bool | Collection[str] = True,
) -> Tensor:
    r"""Return starting points for `sample`, in its unconstrained coordinates, made from values of the model's sites.

    Sites of which the source says nothing start at their prior's median, gates at .95.

    Args:
        model: A :class:`~bnn_pyro.network.SparseNetwork`, or any Pyro model with continuous latents.
        data: As for :func:`~bnn_pyro.inference.mcmc.sample.sample`.
        source: ``"ensemble"``, for a network, trains one dense net per chain
            (:func:`~bnn_pyro.inference.training.ensemble.train_ensemble`). A mapping gives values by site, shape
            ``shape`` for all chains alike or ``(chains, *shape)``; a net, or a sequence of as many as there are chains,
            gives the parameters with a slab by their names; a posterior of a guide a draw per chain, and one of chains
            draws that are evenly spaced over all of its chains.
        chains: Number of chains.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show a progress bar of the ensemble; None shows it on a terminal.
        sites: The ``noncentered`` of the plan that is to start there.

    Returns:
        Shape ``(chains, n)``, to be given as ``start``.

    Raises:
        ValueError: If the source is none of these, has a site in another shape, has no site of the model, or the data
            do not fit.
    """
    check_whole("chains", chains)
    check_seed(seed, progress)
    args: tuple[object, ...] = data if isinstance(data, tuple) else (data,)
    if isinstance(model, SparseNetwork):
        args = as_pair("data", data, model.layout, likelihood=model.likelihood)
        model = copy.deepcopy(model).to(args[0])
        model.net.eval()
    device = next((arg.device for arg in args if isinstance(arg, Tensor)), torch.device("cpu"))
    store = pyro.get_param_store()
    with seeded(seed, device), store.scope(store.get_state()), in_dtype(data_dtype(args)):
        values = _values(model, args, source, chains, progress)
        with torch.no_grad():
            latents = _sites(model, args)
            if isinstance(source, Mapping) and (unknown := [name for name in values if name not in latents]):
                raise ValueError(f"source must have values of {', '.join(latents)} alone, got {', '.join(unknown)}")
            values = {name: _of_all(name, value, latents, chains) for name, value in values.items() if name in latents}
            if not values:
                raise ValueError(f"source must have values of {', '.join(latents)}, got {_described(source)}")
            return torch.stack(
                [_vector(model, args, {n: v[i] for n, v in values.items()}, sites) for i in range(chains)]
            )


# ---- the source as values of sites -----------------------------------------------------------------------------------
def _values(
    model: Callable[..., object], args: tuple[Any, ...], source: Source, chains: int, progress: bool | None
) -> Mapping[str, Tensor]:
    """Return the values that a source gives, of one chain or of all."""
    if isinstance(source, Mapping):
        return source
    if isinstance(source, SampledPosterior):
        source = source.weighted(None)  # all draws are good to start from
    if isinstance(source, (GuidePosterior, SampledPosterior)):
        return source.draw_values(chains)
    if isinstance(source, str) and source == "ensemble" and isinstance(model, SparseNetwork):
        return train_ensemble(model, args, members=chains, progress=progress)
    if isinstance(source, nn.Module):
        return dict(source.named_parameters())
    modules = [net for net in source if isinstance(net, nn.Module)] if isinstance(source, (list, tuple)) else []
    if len(modules) == chains:
        nets = [dict(net.named_parameters()) for net in modules]
        return {name: torch.stack([net[name] for net in nets]) for name in nets[0]}
    raise ValueError(
        f"source must be 'ensemble' (of a network), values by site, a net, a posterior, or {chains} nets, one per "
        f"chain, got {_described(source)}"
    )


def _described(source: object) -> str:
    if isinstance(source, Mapping):
        return f"values of {', '.join(map(str, source)) or 'no site'}"
    return repr(source) if isinstance(source, str) else type(source).__name__


def _sites(model: Callable[..., object], args: tuple[Any, ...]) -> dict[str, Tensor]:
    """Return a value of each latent site."""
    found = sample_sites(poutine.trace(_Given({})(model)).get_trace(*args))
    return {name: site["value"] for name, site in found.items() if not site["is_observed"]}


def _of_all(name: str, value: Tensor, sites: Mapping[str, Tensor], chains: int) -> Tensor:
    """Return a site's values of all chains, shape ``(chains, *shape)``."""
    shape = sites[name].shape
    if value.shape == shape:
        return value.detach().to(sites[name]).expand(chains, *shape)
    if value.shape != (chains, *shape):
        raise ValueError(
            f"source must have the site {name!r} in shape {tuple(shape)}, or with the {chains} chains before it, "
            f"got {tuple(value.shape)}"
        )
    return value.detach().to(sites[name])


# ---- values of sites as coordinates ----------------------------------------------------------------------------------
def _vector(
    model: Callable[..., object], args: tuple[Any, ...], values: Mapping[str, Tensor], sites: bool | Collection[str]
) -> Tensor:
    """Return one chain's values in the coordinates of the sampler."""
    trace, constants = trace_and_constants(noncentered(_Given(values)(model), sites), *args)
    latents = {name: site for name, site in sample_sites(trace).items() if not site["is_observed"]}
    layout = laid_out(latents, constants)
    parts = [layout[name].transform.inv(site["value"]).reshape(-1) for name, site in latents.items()]
    return torch.cat(parts).detach()


class _Given(Messenger):
    """Gives the latent sites of a model values, those that are missing where they usually start; none is observed."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_sample(self, message: Site) -> None:
        name = message["name"]
        if message["is_observed"] or message["value"] is not None or is_subsample(message):
            return
        if name in self.values:
            message["value"] = self.values[name]
        elif is_improper(message):
            message["value"] = improper_value(message)
        elif isinstance(base_distribution(message["fn"]), RelaxedBernoulli):
            message["value"] = torch.full_like(initial_value(message), _OPEN)
        else:
            message["value"] = initial_value(message)
