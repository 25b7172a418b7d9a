"""The Pyro messengers by which a guide runs a program: one gives each site its start, the other its posterior."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Distribution, RelaxedBernoulli

from guides.gated import GatedNormal, HardGate
from guides.sites import Hints, Kind, Site, base_distribution, is_subsample, site_kind


@dataclass
class Upstream:
    """What a program has come to so far.

    Attributes:
        probabilities: Gate site -> the probability with which it weights its slabs.
        values: Latent site -> its value.
        noise: Slab site -> the noise of its open weights, of guides whose slabs are correlated.
    """

    probabilities: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)
    noise: dict[str, Tensor] = field(default_factory=dict)


class Answering(Protocol):
    """What the messengers ask of a guide.

    Attributes:
        kinds: Latent site -> its kind.
    """

    kinds: dict[str, Kind]

    def initialise_site(
        self, name: str, prior: Distribution, infer: Hints, value: Tensor, frames: Sequence[CondIndepStackFrame]
    ) -> None:
        """Make the parameters of one site from its initial value."""

    def posterior(self, name: str, prior: Distribution, infer: Hints, upstream: Upstream) -> Distribution:
        """Return the distribution that answers a site."""

    def reading(self, name: str, posterior: Distribution) -> Tensor | None:
        """Return the value to use at a site, or None where it is to be drawn."""


class Initialise(Messenger):
    """Gives each latent site its initial value and the guide its parameters."""

    def __init__(self, guide: Answering, init_loc_fn: Callable[[Site], Tensor]) -> None:
        super().__init__()
        self.guide, self.init_loc_fn = guide, init_loc_fn
        self.trace = poutine.Trace()
        self.observed: set[str] = set()
        self.temperature = 0.5

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"]:
            self.observed.add(msg["name"])
        if not is_latent(msg):
            return
        kind, base = site_kind(msg["name"], msg["fn"]), base_distribution(msg["fn"])
        if isinstance(base, RelaxedBernoulli) and "gate" not in self.guide.kinds.values():
            self.temperature = float(torch.as_tensor(base.temperature).flatten()[0])
        value = self.init_loc_fn(msg).detach()
        self.guide.initialise_site(msg["name"], msg["fn"], msg["infer"], value, msg["cond_indep_stack"])
        msg["value"] = torch.ones_like(value) if kind == "gate" else value
        msg["done"] = True
        self.trace.add_node(msg["name"], type="sample", fn=msg["fn"], value=msg["value"], is_observed=False, infer={})


class AllAnswered(Exception):
    """Every latent site has its value: the rest of the program need not run."""


class Answer(Messenger):
    """Answers each latent site of the program by the guide's posterior.

    In a plate around the guide (many draws at once) a ``partial`` run ends with the last latent site: that plate is
    placed by what it sees of the guide, where the data's plates are out of sight, and its dimension may be one of
    theirs.
    """

    def __init__(self, guide: Answering, *, partial: bool = False) -> None:
        super().__init__()
        self.guide, self.partial = guide, partial
        self.frames: dict[str, int] = {}
        self.posteriors: dict[str, Distribution] = {}
        self.upstream = Upstream()
        self.values = self.upstream.values

    def _pyro_sample(self, msg: Site) -> None:
        if not is_latent(msg):
            return
        name, prior = msg["name"], msg["fn"]
        self.frames[name] = len(msg["cond_indep_stack"])
        msg["infer"] = {**msg["infer"], "prior": prior}
        msg["fn"] = self.posteriors[name] = self.guide.posterior(name, prior, msg["infer"], self.upstream)
        value = self.guide.reading(name, msg["fn"])
        if value is not None:
            msg["value"], msg["done"] = value, True

    def _pyro_post_sample(self, msg: Site) -> None:
        name = msg["name"]
        if name not in self.posteriors:
            return
        self.values[name] = msg["value"]
        in_a_plate = len(msg["cond_indep_stack"]) > self.frames[name]
        if self.partial and in_a_plate and self.values.keys() == self.guide.kinds.keys():
            raise AllAnswered


def is_latent(msg: Site) -> bool:
    return not (msg["is_observed"] or msg["done"] or is_subsample(msg))


def quantiles_of(posterior: Distribution, levels: Tensor) -> Tensor:
    """Returns the quantiles of each entry of a posterior, shape ``(q, *site)``."""
    base = base_distribution(posterior)
    levels = levels.reshape(-1, *[1] * len(posterior.batch_shape + posterior.event_shape))
    if isinstance(base, HardGate):
        return (levels > torch.sigmoid(-base.logits)).to(levels.dtype)
    if isinstance(base, RelaxedBernoulli):
        return torch.sigmoid((base.logits + torch.logit(levels)) / base.temperature)
    normal = dist.Normal(base.loc, base.scale) if isinstance(base, GatedNormal) else base
    value: Tensor = normal.icdf(levels)
    return value


def same_normal(first: Distribution, second: Distribution) -> bool:
    """Whether two runs gave a slab the same posterior, so that it is the marginal one."""
    one, two = base_distribution(first), base_distribution(second)
    if not isinstance(one, GatedNormal | dist.Normal):
        return False
    return all(torch.equal(getattr(one, k), getattr(two, k)) for k in ("loc", "scale"))
