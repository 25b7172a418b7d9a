"""Models and guides' parameters that several tests share."""

import itertools
import math
from collections.abc import Callable
from operator import attrgetter
from typing import Any, TypeVar

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor

from bnn_pyro.inference.svi.elbo import elbo_terms
from bnn_pyro.priors import gate, slab, spike_slab_gaussian
from bnn_pyro.priors.slab import Slab
from guides import AutoProgram
from tests.cases import FAN_IN, NODES

DOUBLE = torch.float64
INCLUSION, NOISE = 0.3, 0.5

Model = Callable[..., Any]
Guide = TypeVar("Guide", bound=AutoProgram)


def traced(program: Callable[..., Any]) -> Callable[..., Any]:
    """Returns the function that runs a program and returns its trace."""
    return poutine.trace(program).get_trace


def hints(**values: Any) -> Any:
    """Returns what a site's ``infer`` takes."""
    return values


def data(rows: int = 12, columns: int = FAN_IN) -> tuple[Tensor, Tensor]:
    """Inputs and outputs in double precision."""
    x = torch.randn(rows, columns, dtype=DOUBLE)
    return x, x[:, 0].tanh() + 0.1 * torch.randn(rows, dtype=DOUBLE)


def one_layer(prior: Slab, *, gated: bool = True) -> Model:
    """A layer of gated nodes with a slab of any kind, summed up."""

    def model(x: Tensor, y: Tensor | None = None) -> Tensor:
        shared = prior.shared([(NODES, FAN_IN)], x)
        scale = prior.scale("w", NODES, FAN_IN, shared, x)
        z = gate("z", torch.tensor(INCLUSION, dtype=x.dtype), size=NODES) if gated else torch.ones(NODES, dtype=x.dtype)
        w = slab("w.weight", (NODES, FAN_IN), scale=scale, gates={"z": -2} if gated else None)
        mean = torch.nn.functional.linear(x, z.unsqueeze(-1) * w).tanh().sum(-1)
        with pyro.plate("data", len(x)):
            observed: Tensor = pyro.sample("y", dist.Normal(mean, NOISE), obs=y)
        return observed

    return model


def linear(x: Tensor, y: Tensor | None = None, *, inclusion: float = INCLUSION, sigma: float = 1.0) -> Tensor:
    """Linear regression with a spike and slab on each coefficient and known noise."""
    w = spike_slab_gaussian("w", (x.shape[1],), inclusion=torch.tensor(inclusion, dtype=x.dtype), sigma=sigma)
    with pyro.plate("data", len(x)):
        observed: Tensor = pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)
    return observed


def exact_inclusion(x: Tensor, y: Tensor) -> Tensor:
    """The posterior inclusion probabilities of ``linear`` by enumeration of all subsets of its columns."""
    weights, subsets = [], []
    for chosen in itertools.product((0.0, 1.0), repeat=x.shape[1]):
        z = torch.tensor(chosen, dtype=x.dtype)
        covariance = (x * z) @ x.T + NOISE**2 * torch.eye(len(y), dtype=x.dtype)
        prior = (z * math.log(INCLUSION) + (1 - z) * math.log(1 - INCLUSION)).sum()
        weights.append(dist.MultivariateNormal(torch.zeros_like(y), covariance).log_prob(y) + prior)
        subsets.append(z)
    return torch.softmax(torch.stack(weights), 0) @ torch.stack(subsets)


def losses(guide: AutoProgram, model: Model, *args: Any, draws: int) -> Tensor:
    """Independent draws of the negative bound; many at once where the model's sites are gates and slabs alone."""
    if draws == 1:
        return elbo_terms(model, guide, *args).loss().unsqueeze(0)
    found: Tensor = torch.vmap(lambda _: elbo_terms(model, guide, *args).loss(), randomness="different")(
        torch.zeros(draws)
    )
    return found


def fitted(guide: Guide, model: Model, *args: Any, steps: int, draws: int, rate: float = 0.1) -> Guide:
    """Fits a guide by Adam on our bound, its learning rate falling to 0, with all draws of a step at once."""
    optimizer = torch.optim.Adam(guide.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        for _ in range(steps):
            optimizer.zero_grad()
            losses(guide, model, *args, draws=draws).mean().backward()
            optimizer.step()
            schedule.step()
    return guide


def perturbed(guide: Guide, seed: int = 3) -> Guide:
    """Moves a guide's parameters to a place like no other."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in guide.parameters():
        parameter.data += 0.4 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
    return guide


def logits(guide: AutoProgram, site: str) -> Tensor:
    found: Tensor = attrgetter(site)(guide.logits)
    return found


def loc_and_scale(guide: AutoProgram, site: str) -> tuple[Tensor, Tensor]:
    return attrgetter(site)(guide.locs), attrgetter(site)(guide.scales)


def gradients(value: Tensor, guide: AutoProgram) -> dict[str, Tensor]:
    """The gradient of a value in each of a guide's parameters."""
    named = dict(guide.named_parameters())
    options: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    found = torch.autograd.grad(value, list(named.values()), **options)
    return dict(zip(named, found, strict=True))
