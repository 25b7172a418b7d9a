"""The part that all guides share: they run the model's own program and answer each latent site by a distribution."""

import copy
import itertools
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar, cast, get_args

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer.autoguide import AutoGuide
from pyro.nn import PyroModule, pyro_method
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch import Tensor
from torch.distributions import Distribution, Normal, biject_to, constraints

import guides.divergences  # noqa: F401  (registers the closed forms)
from guides.checks import check_choice, check_program, check_range
from guides.gated import HardGate
from guides.handlers import AllAnswered, Answer, Initialise, Upstream, quantiles_of, same_normal
from guides.parameters import store_parameter, stored_parameter
from guides.protocols import GateGradient, GateMode
from guides.sites import (
    Hints,
    Kind,
    Site,
    base_distribution,
    gate_product,
    initial_value,
    is_subsample,
    site_kind,
    sites_of,
)

InitFn = Callable[[Site], Tensor]
Reading = Literal["draw", "median"]
Result = TypeVar("Result")

_COPIES = itertools.count(1)


class AutoProgram(AutoGuide):
    r"""Base of the guides that run the model's program with their own values.

    When the program comes to a latent site, the site's prior has already been made from the guide's own draws upstream,
    and the guide answers with its posterior given that prior: a gate with a :class:`~guides.HardGate`, a positive site
    with a LogNormal, any other continuous site with a Normal mapped by ``biject_to(support)``; how a slab (a Normal
    site) is answered is the subclass's own. All parameters exist after construction. The attribute ``gate_mode`` says
    what gates do: ``"free"`` draws them; ``"open"`` holds them at 1 and ``"frozen"`` at :math:`1[\gamma > 1/2]`, and
    they do not learn.

    Args:
        model: A Pyro model, or the program of its latent sites alone.
        *args: Arguments the program is run with once, with data, so that observed sites are known.
        init_loc_fn: Site -> initial value, as in Pyro's guides.
        init_scale: Initial posterior standard deviation: of a slab as a fraction of the root mean square of its initial
            values (of the prior's scale where these are 0), of the logarithm of a scale as it is.
        init_inclusion: Initial inclusion probability of every gate, in (0, 1); None leaves it to ``init_loc_fn``.
        gates: ``"hard"`` for the true spike-and-slab model, ``"relaxed"`` for the relaxed one that HMC samples.
        gate_gradient: Estimator of the gradient of hard gates, see :class:`~guides.HardGate`: ``"reinmax"``,
            ``"straight-through"``, or ``"disarm"``, which is unbiased, takes two passes and needs
            :class:`bnn_pyro.inference.svi.elbo.SparseELBO`.
        temperature: Temperature of the straight-through gradient, or of relaxed gates; None takes that of the first
            gate's prior.
        **kwargs: Keyword arguments of the program.

    Raises:
        ValueError: If an option is out of range, a latent site is discrete, or two sites cannot stand side by side by
            name.
    """

    temperature: Tensor
    can_shrink = True  # whether nodes can be cut out of its parameters, each of which belongs to one site

    def __init__(
        self,
        model: Callable[..., object],
        *args: object,
        init_loc_fn: InitFn = initial_value,
        init_scale: float = 0.1,
        init_inclusion: float | None = 0.95,
        gates: Literal["hard", "relaxed"] = "hard",
        gate_gradient: GateGradient = "reinmax",
        temperature: float | None = None,
        **kwargs: object,
    ) -> None:
        check_program(model)
        AutoGuide.__init__(self, model)
        check_choice("gates", gates, ("hard", "relaxed"))
        check_choice("gate_gradient", gate_gradient, get_args(GateGradient))
        if gates == "relaxed" and gate_gradient == "disarm":
            raise ValueError("gate_gradient='disarm' needs gates='hard': relaxed gates have a pathwise gradient")
        check_range("init_scale", init_scale, 0, float("inf"))
        if init_inclusion is not None:
            check_range("init_inclusion", init_inclusion, 0, 1)
        if temperature is not None:
            check_range("temperature", temperature, 0, float("inf"))
        self.gates = gates
        self.gate_gradient = gate_gradient
        self.gate_mode: GateMode = "free"
        self.kinds: dict[str, Kind] = {}
        self.observed: frozenset[str] = frozenset()
        self._reading: Reading = "draw"
        self._switch: tuple[Tensor, Tensor] | None = None
        self._init_scale, self._init_inclusion = init_scale, init_inclusion
        self._setup(init_loc_fn, temperature, args, kwargs)

    # ---- construction ------------------------------------------------------------------------------------------------

    def _setup(
        self, init_loc_fn: InitFn, temperature: float | None, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        """Runs the program once, gives every latent site its initial value and makes the site's parameters."""
        with torch.no_grad(), poutine.block(), Initialise(self, init_loc_fn) as initialise:
            self.model(*args, **kwargs)
        self.prototype_trace, self.observed = initialise.trace, frozenset(initialise.observed)
        if not self.kinds:
            raise ValueError("model must have a latent site that is not observed, got none")
        like = next(self.parameters())
        start = initialise.temperature if temperature is None else temperature
        self.register_buffer("temperature", torch.full((), start, dtype=like.dtype, device=like.device))

    def initialise_site(
        self, name: str, prior: Distribution, infer: Hints, value: Tensor, frames: Sequence[CondIndepStackFrame]
    ) -> None:
        """Makes the parameters of one site from its initial value."""
        kind = self.kinds[name] = site_kind(name, prior)
        if kind == "gate":
            start = value if self._init_inclusion is None else torch.full_like(value, self._init_inclusion)
            store_parameter(self, "logits", name, torch.logit(start), len(prior.event_shape), frames)
            return
        base = base_distribution(prior)
        if isinstance(base, Normal):
            loc, scale = self._initial_slab(base, value)
        elif kind == "scale":
            loc, scale = value.log(), torch.full_like(value, self._init_scale)
        else:
            loc = biject_to(prior.support).inv(value)
            scale = torch.full_like(loc, self._init_scale)
        event_dim = loc.dim() - len(prior.batch_shape)
        store_parameter(self, "locs", name, loc, event_dim, frames)
        positive = constraints.positive  # by exp: in the log of a small scale, as by softplus, at half the cost
        store_parameter(self, "scales", name, scale, event_dim, frames, constraint=positive)

    # ---- answering ---------------------------------------------------------------------------------------------------

    @abstractmethod
    def _initial_slab(self, prior: Normal, value: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the initial parameters (mean, standard deviation) of a slab whose initial value is ``value``."""

    @abstractmethod
    def _slab(self, name: str, prior: Normal, weight: Tensor | None, upstream: Upstream) -> TorchDistributionMixin:
        """Returns the posterior of a slab, without its event dimensions."""

    def _parameters_of(self, name: str) -> tuple[Tensor, Tensor]:
        return stored_parameter(self, "locs", name), stored_parameter(self, "scales", name)

    def posterior(self, name: str, prior: Distribution, infer: Hints, upstream: Upstream) -> Distribution:
        """Returns the distribution that answers a site, given its prior and what the program has come to so far."""
        kind = self.kinds.get(name)
        if kind is None:
            raise ValueError(f"the program must have the same sites at every call, got a new one: {name!r}")
        answer: TorchDistributionMixin
        if kind == "gate":
            answer, upstream.probabilities[name] = self._gate(name)
        elif kind == "slab":
            hints = infer.get("gates", {}) if self.gates == "hard" else {}
            weight = gate_product(hints, upstream.probabilities, prior)
            answer = self._slab(name, cast(Normal, base_distribution(prior)), weight, upstream)
        elif kind == "scale":
            answer = dist.LogNormal(*self._parameters_of(name))
        else:
            transform = biject_to(base_distribution(prior).support)
            normal = dist.Normal(*self._parameters_of(name)).to_event(transform.domain.event_dim)
            answer = dist.TransformedDistribution(normal, transform.with_cache())
        shaped: Distribution = answer.to_event(len(prior.event_shape) - len(answer.event_shape))
        return shaped if shaped.batch_shape == prior.batch_shape else shaped.expand(prior.batch_shape)

    def _gate(self, name: str) -> tuple[TorchDistributionMixin, Tensor]:
        """Returns a gate's posterior and the probability with which it weights its slabs."""
        logits = stored_parameter(self, "logits", name)
        if self._switch is not None:
            logits = torch.where(self._switch[0], logits, logits.detach())
        elif self.gate_mode != "free":
            logits = logits.detach()
        if self.gates == "relaxed":
            return dist.RelaxedBernoulli(self.temperature, logits=logits), torch.sigmoid(logits)
        gate = HardGate(self.temperature, logits, gradient=self.gate_gradient)
        if self._switch is not None:
            return gate, torch.where(self._switch[1], gate.median, torch.sigmoid(logits))
        return gate, gate.median if self.gate_mode == "frozen" else torch.sigmoid(logits)

    @contextmanager
    def switched(self, free: Tensor, frozen: Tensor) -> Iterator[None]:
        r"""Reads what gates do from tensors instead of ``gate_mode``, so that one traced program serves all modes.

        Args:
            free: Whether gates are drawn and learn, bool, shape ``()``.
            frozen: Whether those that are not are held at :math:`1[\gamma > 1/2]`, and not open, bool, shape ``()``.
        """
        self._switch = (free, frozen)
        try:
            yield
        finally:
            self._switch = None

    def reading(self, name: str, posterior: Distribution) -> Tensor | None:
        """Returns the value to use at a site, or None where it is to be drawn."""
        kind = self.kinds[name]
        base: Any = base_distribution(posterior)  # a gate has logits, a slab and a scale a loc
        value: Tensor
        if kind == "gate" and self._switch is not None and self._reading == "draw":
            free, frozen = self._switch
            likely = (base.logits > 0).to(base.logits.dtype)
            value = torch.where(free, base.rsample(), torch.where(frozen, likely, torch.ones_like(likely)))
        elif kind == "gate" and self.gate_mode == "open":
            value = torch.ones_like(base.logits)
        elif kind == "gate" and (self.gate_mode == "frozen" or self._reading == "median"):
            value = (base.logits > 0).to(base.logits.dtype)
        elif self._reading == "draw":
            return None
        elif kind == "slab":
            value = base.loc
        elif kind == "scale":
            value = base.loc.exp()
        else:
            value = self._parameters_of(name)[0]
            for transform in base.transforms:  # the support of a vector of positive numbers is lost in them
                value = transform(value)
        return value

    def forward(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Runs the program with values drawn from the posterior.

        Args:
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            Latent site -> value.

        Raises:
            ValueError: If the guide was unpickled without its model, or the program has a site that it had not at
                construction.
        """
        return self._answers(*args, **kwargs).values

    @pyro_method
    def run(self, /, program: Callable[..., Result], *args: object, **kwargs: object) -> Result:
        """Runs a program with the guide's draws in place of its own: model and guide in one pass.

        Every latent site then has the posterior as its ``fn`` and its prior in ``infer["prior"]``.

        Args:
            program: A Pyro program with the guide's latent sites, such as the whole model.
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            What the program returns.
        """
        with Answer(self):
            return program(*args, **kwargs)

    @pyro_method
    def _answers(self, /, *args: object, **kwargs: object) -> Answer:
        """Runs the guide's own program; what is observed, or was at construction, stays out of sight."""
        if self.model is None:
            raise ValueError(
                "the guide was pickled without its model (a local function): set guide.model before calling it"
            )
        answer = Answer(self, partial=True)
        with suppress(AllAnswered), answer:
            poutine.block(self.model, hide_fn=self._is_observed)(*args, **kwargs)
        return answer

    def _is_observed(self, msg: Mapping[str, object]) -> bool:
        return bool(msg["type"] == "sample" and (msg["is_observed"] or msg["name"] in self.observed))

    # ---- reading the posterior ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def median(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        r"""Returns each site's value in the median-probability model.

        Gates are :math:`1[\gamma > 1/2]`, scales are at their medians, slabs at their means given those scales.

        Args:
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            Latent site -> value.
        """
        mode, self._reading = self._reading, "median"
        try:
            return {name: value.detach() for name, value in self(*args, **kwargs).items()}
        finally:
            self._reading = mode

    @torch.no_grad()
    def quantiles(self, quantiles: Sequence[float] | Tensor, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Returns the quantiles of each site whose marginal posterior has them in closed form.

        Those are gates, scales, other sites whose entries each have a support of their own (not a simplex), and slabs
        whose posterior does not depend on a latent.

        Args:
            quantiles: Probabilities in [0, 1], shape ``(q,)``.
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            Latent site -> quantiles, shape ``(q, *site)``.

        Raises:
            ValueError: If a probability lies outside [0, 1].
        """
        levels = torch.as_tensor(quantiles, dtype=self.temperature.dtype, device=self.temperature.device)
        if not ((levels >= 0) & (levels <= 1)).all():
            raise ValueError(f"quantiles must lie in [0, 1], got {levels.tolist()}")
        with poutine.block(), poutine.trace() as seen:
            first = self._answers(*args, **kwargs).posteriors
        rows: dict[str, Tensor] = {n: site["value"] for n, site in sites_of(seen.trace).items() if is_subsample(site)}
        with poutine.block(), poutine.condition(data=rows):
            second = self._answers(*args, **kwargs).posteriors
        slabs = (name for name, kind in self.kinds.items() if kind == "slab")
        latent = {name for name in slabs if not same_normal(first[name], second[name])}
        joint = {name for name, fn in first.items() if base_distribution(fn).event_shape}
        return {name: quantiles_of(fn, levels) for name, fn in first.items() if name not in latent | joint}

    def inclusion(self) -> dict[str, Tensor]:
        r"""Returns the inclusion probability :math:`\gamma = \sigma(\theta)` of each gate site, detached."""
        gates = [name for name, kind in self.kinds.items() if kind == "gate"]
        return {name: torch.sigmoid(stored_parameter(self, "logits", name)).detach() for name in gates}

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Returns the guide's parameters by role, for separate learning rates: gates, scales, slab_locs, slab_scales.

        ``scales`` holds all parameters of positive and other sites.
        """
        groups: dict[str, list[torch.nn.Parameter]] = {"gates": [], "scales": [], "slab_locs": [], "slab_scales": []}
        for role, site, parameter in self.named_site_parameters():
            kind = self.kinds[site]
            groups["gates" if kind == "gate" else f"slab_{role}" if kind == "slab" else "scales"].append(parameter)
        return groups

    def named_site_parameters(self) -> Iterator[tuple[str, str, torch.nn.Parameter]]:
        """Yields (role, site, parameter) for each parameter, which has the shape of its site's unconstrained value."""
        for name, parameter in self.named_parameters():
            role, _, site = name.removesuffix("_unconstrained").partition(".")
            yield role, site, parameter

    # ---- copying and pickling ----------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The program the guide answers; None after unpickling a guide of a local function."""
        return self._model[0]

    @model.setter
    def model(self, value: Callable[..., object] | None) -> None:
        self._model = (value,)  # held in a tuple, so that a module is not registered as the guide's own

    def __setattr__(self, name: str, value: object) -> None:
        if name == "model":  # modules would be registered before the property is asked
            object.__setattr__(self, name, value)
            return
        if name == "gate_mode":
            check_choice(name, value, ("free", "open", "frozen"))
        AutoGuide.__setattr__(self, name, value)

    def __getstate__(self) -> dict[str, object]:
        # the prototype may hold what cannot be pickled: Pyro's parameters refer to themselves weakly
        state = {**self.__dict__, "master": None, "prototype_trace": None}
        names = (getattr(x, "__qualname__", "") for x in (self.model, type(self.model)))
        if any("<locals>" in name or "<lambda>" in name for name in names):
            state["_model"] = (None,)
        return state

    def __deepcopy__(self, memo: dict[int, object]) -> "AutoProgram":
        """Copies the guide and its model; the copy has a name, and so parameters, of its own in Pyro's store."""
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        AutoGuide.__setstate__(new, copy.deepcopy({**self.__dict__, "master": None, "prototype_trace": None}, memo))
        old, name = self._pyro_name, f"{type(self).__name__}_{next(_COPIES)}"
        for module in new.modules():
            if isinstance(module, PyroModule):
                module._pyro_name = name + module._pyro_name.removeprefix(old)
        return new
