"""Posteriors of one small regression whose draws know the hidden nodes by other numbers."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor

from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from guides import AutoSpikeSlab

HIDDEN, OPEN = 8, 5  # nodes, and how many of them are needed
CHAINS, DRAWS = 6, 20
NOISE = 0.1


def regression(prior: Gaussian | SpikeSlab | None = None) -> tuple[SparseNetwork, tuple[Tensor, Tensor]]:
    """The network that the data are from, whose first `OPEN` hidden nodes make the function; the others are junk."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(200, 3, generator=generator, dtype=torch.float64)
    net = mlp(3, (HIDDEN,), 1).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        needed = copy.deepcopy(net)
        needed.get_parameter("output.weight")[:, OPEN:] = 0
        y = needed(x).squeeze(-1)
    y = y + NOISE * torch.randn(200, generator=generator, dtype=torch.float64)
    prior = prior or SpikeSlab(Gaussian(), inclusion=0.5)
    return SparseNetwork(net, x[:2], prior=prior, likelihood=GaussianNoise(), num_data=len(x)), (x, y)


def _values(model: SparseNetwork, order: Tensor) -> dict[str, Tensor]:
    """A draw near the network's weights, with hidden nodes in another order; closed ones have slabs of no use."""
    net = model.net
    weight, bias, out = (net.get_parameter(n).detach() for n in ("hidden1.weight", "hidden1.bias", "output.weight"))
    values = {"hidden1.weight": weight[order], "hidden1.bias": bias[order], "output.weight": out[:, order]}
    if not model.groups:
        values["output.weight"] = values["output.weight"] * (order < OPEN)
    values["output.bias"] = net.get_parameter("output.bias").detach()
    values = {name: value + 0.003 * torch.randn_like(value) for name, value in values.items()}
    gates = {f"{name}.gate": (order < OPEN).double() for name in model.groups}
    noise = NOISE * (0.1 * torch.randn((), dtype=torch.float64)).exp()
    return {**values, **gates, "noise_scale": noise}


def chains(model: SparseNetwork, data: tuple[Tensor, Tensor]) -> SampledPosterior:
    """Chains each with an order of the nodes of its own; the energy is that of the likelihood."""
    orders = [torch.randperm(HIDDEN) for _ in range(CHAINS)]
    each = [[_values(model, order) for _ in range(DRAWS)] for order in orders]
    values = {name: torch.stack([torch.stack([d[name] for d in chain]) for chain in each]) for name in each[0][0]}
    flat = torch.zeros(CHAINS, DRAWS, dtype=torch.float64)
    draws = Draws(
        values=values,
        vectors=torch.cat([value.reshape(CHAINS, DRAWS, -1) for value in values.values()], -1),
        energy=flat,
        total_energy=flat,
        acceptance=flat,
        diverged=flat.long(),
        leapfrogs=flat.long(),
        step_size=flat[:, 0],
        inverse_mass=torch.ones(CHAINS, 1, dtype=torch.float64),
        kernel="nuts",
        thinning=1,
        seconds=1.0,
    )
    posterior = SampledPosterior(model, draws)
    posterior.draws.energy.copy_(-posterior.log_likelihood(*data).sum(-1))
    return posterior


def _guided(model: SparseNetwork) -> GuidePosterior:
    """A guide whose means are one draw, in one order."""
    guide, values = AutoSpikeSlab(model.prior, init_scale=0.003), _values(model, torch.arange(HIDDEN))
    with torch.no_grad():
        for role, site, parameter in guide.named_site_parameters():
            if role == "logits":
                parameter.copy_(torch.where(values[site] > 0.5, 30.0, -30.0))
            elif role == "locs":
                parameter.copy_(values[site].log() if site == "noise_scale" else values[site])
    return GuidePosterior(model, guide)


def _snapshots(model: SparseNetwork) -> Iterator[Snapshot]:
    """Snapshots, each with an order of the nodes of its own; closed nodes are zeros."""
    for _ in range(3):
        order = torch.randperm(HIDDEN)
        values, small = _values(model, order), copy.deepcopy(model)
        weights = {p.name: values[p.name] for p in model.bayesian}
        gates = {name: values[f"{name}.gate"] for name in model.groups}
        with torch.no_grad():
            for name, value in model.assemble(weights, gates, absent=True).items():
                small.net.get_parameter(name).copy_(value)
        keep = {name: torch.ones(group.size, dtype=torch.bool) for name, group in model.groups.items()}
        yield Snapshot(small, keep, values["noise_scale"])


def permuted(kind: type[Posterior]) -> tuple[Posterior, tuple[Tensor, Tensor]]:
    """A posterior of this kind, and its data."""
    model, data = regression()
    if kind is SampledPosterior:
        return chains(model, data), data
    return (_guided(model) if kind is GuidePosterior else Ensemble(model, list(_snapshots(model)))), data
