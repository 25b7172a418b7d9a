"""The part that all guides share: they run the model's own program and answer each latent site by a distribution."""

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Literal

import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from pyro.infer.autoguide.utils import deep_setattr
from pyro.nn import PyroParam, pyro_method
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Distribution, Independent, TransformedDistribution, biject_to, constraints

import guides.divergences  # noqa: F401  (registers the closed forms)
from guides.gated import GatedNormal, HardGate
from guides.sites import Kind, Site, base_distribution, gate_product, initial_value, site_kind

InitFn = Callable[[Site], Tensor]
GateMode = Literal["free", "open", "frozen"]
GateGradient = Literal["straight-through", "disarm"]
Reading = Literal["draw", "median"]


class AutoProgram(AutoGuide):  # type: ignore[misc]
    r"""Base of the guides that run the model's program with their own values.

    When the program comes to a latent site, the site's prior has already been made from the guide's own draws upstream, and the guide
    answers with its posterior given that prior: a gate with a :class:`~guides.HardGate`, a positive site with a LogNormal, any other
    continuous site with a Normal mapped by ``biject_to(support)``; how a slab (a Normal site) is answered is the subclass's own.
    All parameters exist after construction.

    Args:
        model: A Pyro model, or the program of its latent sites alone.
        *args: Arguments the program is run with once, with data, so that observed sites are known.
        init_loc_fn: Site -> initial value, as in Pyro's guides.
        init_scale: Initial posterior standard deviation: of a slab as a fraction of the root mean square of its initial values (of the
            prior's scale where these are 0), of the logarithm of a scale as it is.
        init_inclusion: Initial inclusion probability of every gate, in (0, 1); None leaves it to ``init_loc_fn``.
        gates: ``"hard"`` for the true spike-and-slab model, ``"relaxed"`` for the relaxed one that HMC samples.
        gate_gradient: ``"straight-through"`` or ``"disarm"``; the latter needs :class:`bnn_pyro.inference.objective.SparseELBO`.
        temperature: Temperature of the gate's gradient; None takes the prior's.
        **kwargs: Keyword arguments of the program.

    Raises:
        ValueError: If an option is out of range, a latent site is discrete, or two sites cannot stand side by side by name.
    """

    temperature: Tensor

    def __init__(
        self,
        model: Callable[..., Any],
        *args: Any,
        init_loc_fn: InitFn = initial_value,
        init_scale: float = 0.1,
        init_inclusion: float | None = 0.95,
        gates: Literal["hard", "relaxed"] = "hard",
        gate_gradient: GateGradient = "straight-through",
        temperature: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model)
        _check_choice("gates", gates, ("hard", "relaxed"))
        _check_choice("gate_gradient", gate_gradient, ("straight-through", "disarm"))
        if gates == "relaxed" and gate_gradient == "disarm":
            raise ValueError("gate_gradient='disarm' needs gates='hard': relaxed gates have a pathwise gradient")
        _check_range("init_scale", init_scale, 0, float("inf"))
        if init_inclusion is not None:
            _check_range("init_inclusion", init_inclusion, 0, 1)
        if temperature is not None:
            _check_range("temperature", temperature, 0, float("inf"))
        self.gates = gates
        self.gate_gradient = gate_gradient
        self.gate_mode: GateMode = "free"
        self.kinds: dict[str, Kind] = {}
        self._reading: Reading = "draw"
        self._init_scale, self._init_inclusion = init_scale, init_inclusion
        self.register_buffer("temperature", torch.tensor(float("nan") if temperature is None else temperature))
        self._setup(init_loc_fn, args, kwargs)

    # ---- construction ------------------------------------------------------------------------------------------------------------

    def _setup(self, init_loc_fn: InitFn, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Runs the program once, gives every latent site its initial value and makes the site's parameters."""
        with torch.no_grad(), poutine.block(), _Initialise(self, init_loc_fn) as initialise:
            self.model(*args, **kwargs)
        self.prototype_trace = initialise.trace
        if not self.kinds:
            raise ValueError("model must have a latent site that is not observed, got none")
        if self.temperature.isnan():
            self.temperature = torch.full_like(self.temperature, 0.5)

    def _initialise_site(self, name: str, prior: Any, value: Tensor, frames: Sequence[Any]) -> None:
        """Makes the parameters of one site from its initial value."""
        kind = self.kinds[name] = site_kind(name, prior)
        base: Any = base_distribution(prior)
        if kind == "gate":
            start = value if self._init_inclusion is None else torch.full_like(value, self._init_inclusion)
            self._store("logits", name, torch.logit(start), prior.event_dim, frames)
            if self.temperature.isnan():
                self.temperature = torch.as_tensor(base.temperature, dtype=value.dtype, device=value.device).clone()
            return
        if kind == "slab":
            loc, scale = self._initial_slab(prior, value)
        elif kind == "scale":
            loc, scale = value.log(), torch.full_like(value, self._init_scale)
        else:
            loc = biject_to(prior.support).inv(value)
            scale = torch.full_like(loc, self._init_scale)
        self._store("locs", name, loc, loc.dim() - len(prior.batch_shape), frames)
        positive = dist.constraints.softplus_positive
        self._store("scales", name, scale, loc.dim() - len(prior.batch_shape), frames, constraint=positive)

    def _store(
        self, role: str, name: str, value: Tensor, event_dim: int, frames: Sequence[Any], *, constraint: Any = constraints.real
    ) -> None:
        """Registers one parameter, repeated to the full size of every plate that subsamples."""
        for frame in frames:
            full = frame.full_size or frame.size
            dim = frame.dim - event_dim
            if frame.size != full and -value.dim() <= dim:
                repeats = -(-full // value.shape[dim])
                value = torch.cat([value] * repeats, dim).narrow(dim, 0, full)
        try:
            deep_setattr(self, f"{role}.{name}", PyroParam(value.contiguous(), constraint=constraint, event_dim=event_dim))
        except (KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"site names must not be prefixes of each other up to a dot, got {name!r}: {error}") from error

    # ---- answering ---------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def _initial_slab(self, prior: Any, value: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the initial parameters (mean, standard deviation) of a slab whose initial value is ``value``."""

    @abstractmethod
    def _slab(self, name: str, prior: Any, weight: Tensor | None) -> Distribution:
        """Returns the posterior of a slab, without its event dimensions."""

    def _parameters_of(self, name: str) -> tuple[Tensor, Tensor]:
        return attrgetter(name)(self.locs), attrgetter(name)(self.scales)

    def posterior(self, name: str, prior: Any, infer: dict[str, Any], probabilities: dict[str, Tensor]) -> Any:
        """Returns the distribution that answers a site, given its prior and the inclusion probabilities of the gates so far."""
        kind = self.kinds.get(name)
        if kind is None:
            raise ValueError(f"the program must have the same sites at every call, got a new one: {name!r}")
        if kind == "gate":
            answer, probabilities[name] = self._gate(name)
        elif kind == "slab":
            hints = infer.get("gates", {}) if self.gates == "hard" else {}
            answer = self._slab(name, base_distribution(prior), gate_product(hints, probabilities))
        elif kind == "scale":
            answer = dist.LogNormal(*self._parameters_of(name))
        else:
            transform = biject_to(prior.support)
            normal = dist.Normal(*self._parameters_of(name)).to_event(transform.domain.event_dim)
            answer = dist.TransformedDistribution(normal, transform.with_cache())
        answer = answer.to_event(prior.event_dim - len(answer.event_shape)) if prior.event_dim else answer
        return answer if answer.batch_shape == prior.batch_shape else answer.expand(prior.batch_shape)

    def _gate(self, name: str) -> tuple[Distribution, Tensor]:
        """Returns a gate's posterior and the probability with which it weights its slabs."""
        logits = attrgetter(name)(self.logits)
        if self.gate_mode != "free":
            logits = logits.detach()
        if self.gates == "relaxed":
            return dist.RelaxedBernoulli(self.temperature, logits=logits), torch.sigmoid(logits)
        gate = HardGate(self.temperature, logits, straight_through=self.gate_gradient == "straight-through")
        return gate, gate.median if self.gate_mode == "frozen" else torch.sigmoid(logits)

    def reading(self, name: str, posterior: Any) -> Tensor | None:
        """Returns the value to use at a site, or None where it is to be drawn."""
        kind = self.kinds[name]
        base: Any = base_distribution(posterior)
        if kind == "gate" and self.gate_mode != "free":
            value = base.logits > 0 if self.gate_mode == "frozen" else torch.ones_like(base.logits)
            return value.to(base.logits.dtype)
        if self._reading == "draw":
            return None
        if kind == "gate":
            return (base.logits > 0).to(base.logits.dtype)
        if kind == "slab":
            return base.loc
        if kind == "scale":
            return base.loc.exp()
        location, _ = self._parameters_of(name)
        return biject_to(posterior.support)(location)

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Runs the program with values drawn from the posterior.

        Args:
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            Latent site -> value.

        Raises:
            ValueError: If the guide was unpickled without its model, or the program has a site that it had not at construction.
        """
        if self.model is None:
            raise ValueError("the guide was pickled without its model (a local function): set guide.model before calling it")
        return self._answers(poutine.block(self.model, hide_fn=_is_observed), *args, **kwargs).values

    @pyro_method  # type: ignore[untyped-decorator]
    def run(self, program: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Runs a program with the guide's draws in place of its own: model and guide in one pass.

        Every latent site then has the posterior as its ``fn`` and its prior in ``infer["prior"]``.

        Args:
            program: A Pyro program with the guide's latent sites, such as the whole model.
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            What the program returns.
        """
        with _Answer(self):
            return program(*args, **kwargs)

    @pyro_method  # type: ignore[untyped-decorator]
    def _answers(self, program: Callable[..., Any], *args: Any, **kwargs: Any) -> "_Answer":
        with _Answer(self) as answer:
            program(*args, **kwargs)
        return answer

    # ---- reading the posterior ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def median(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
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
            values: dict[str, Tensor] = self(*args, **kwargs)
            return values
        finally:
            self._reading = mode

    @torch.no_grad()
    def quantiles(self, quantiles: Sequence[float] | Tensor, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        """Returns the quantiles of each site whose marginal posterior has them in closed form.

        Those are gates (0 or 1), scales, other one-dimensional sites, and slabs whose prior does not depend on a latent scale.

        Args:
            quantiles: Probabilities in [0, 1], shape ``(q,)``.
            *args: The program's arguments.
            **kwargs: The program's keyword arguments.

        Returns:
            Latent site -> quantiles, shape ``(q, *site)``.
        """
        levels = torch.as_tensor(quantiles, dtype=self.temperature.dtype, device=self.temperature.device)
        with poutine.block():
            first, second = (self._answers(self.model, *args, **kwargs) for _ in range(2))
        return {
            name: _quantiles(fn, levels)
            for name, fn in first.posteriors.items()
            if _same_normal(fn, second.posteriors[name]) or self.kinds[name] != "slab"
        }

    def inclusion(self) -> dict[str, Tensor]:
        r"""Returns the inclusion probability :math:`\gamma = \sigma(\theta)` of each gate site, detached."""
        return {n: torch.sigmoid(attrgetter(n)(self.logits)).detach() for n, k in self.kinds.items() if k == "gate"}

    def parameter_groups(self) -> dict[str, list[torch.nn.Parameter]]:
        """Returns the guide's parameters by role, for separate learning rates: gates, scales, slab_locs, slab_scales.

        ``scales`` holds all parameters of positive and other sites.
        """
        groups: dict[str, list[torch.nn.Parameter]] = {"gates": [], "scales": [], "slab_locs": [], "slab_scales": []}
        for name, parameter in self.named_parameters():
            role, _, site = name.removesuffix("_unconstrained").partition(".")
            kind = self.kinds[site]
            groups["gates" if kind == "gate" else f"slab_{role}" if kind == "slab" else "scales"].append(parameter)
        return groups

    def named_site_parameters(self) -> Iterator[tuple[str, str, torch.nn.Parameter]]:
        """Yields (role, site, parameter) for each parameter; every one has the shape of its site's (unconstrained) value."""
        for name, parameter in self.named_parameters():
            role, _, site = name.removesuffix("_unconstrained").partition(".")
            yield role, site, parameter

    # ---- copying and pickling ----------------------------------------------------------------------------------------------------

    @property
    def model(self) -> Any:
        """The program the guide answers; None after unpickling a guide of a local function."""
        return self._model[0]

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "model":  # held in a tuple, so that a module is not registered as the guide's own
            name, value = "_model", (value,)
        super().__setattr__(name, value)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = self.__dict__.copy()
        state["master"] = None
        qualified = getattr(self._model[0], "__qualname__", "")
        if "<locals>" in qualified or "<lambda>" in qualified:
            state["_model"] = (None,)
        return state

    def __deepcopy__(self, memo: dict[int, Any]) -> "AutoProgram":
        new = type(self).__new__(type(self))
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy({**self.__dict__, "master": None}, memo))
        return new


class _Initialise(Messenger):  # type: ignore[misc]
    """Gives each latent site its initial value and the guide its parameters."""

    def __init__(self, guide: AutoProgram, init_loc_fn: InitFn) -> None:
        super().__init__()
        self.guide, self.init_loc_fn = guide, init_loc_fn
        self.trace = poutine.Trace()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg) or msg["done"]:
            return
        kind = site_kind(msg["name"], msg["fn"])
        value = self.init_loc_fn(msg).detach()
        self.guide._initialise_site(msg["name"], msg["fn"], value, msg["cond_indep_stack"])
        msg["value"] = torch.ones_like(value) if kind == "gate" else value
        msg["done"] = True
        self.trace.add_node(msg["name"], type="sample", fn=msg["fn"], value=msg["value"], is_observed=False, infer={})


class _Answer(Messenger):  # type: ignore[misc]
    """Answers each latent site of the program by the guide's posterior."""

    def __init__(self, guide: AutoProgram) -> None:
        super().__init__()
        self.guide = guide
        self.values: dict[str, Tensor] = {}
        self.posteriors: dict[str, Any] = {}
        self.probabilities: dict[str, Tensor] = {}

    def _pyro_sample(self, msg: Any) -> None:
        if msg["is_observed"] or site_is_subsample(msg):
            return
        name, prior = msg["name"], msg["fn"]
        msg["infer"] = {**msg["infer"], "prior": prior}
        msg["fn"] = self.posteriors[name] = self.guide.posterior(name, prior, msg["infer"], self.probabilities)
        value = self.guide.reading(name, msg["fn"])
        if value is not None:
            msg["value"], msg["done"] = value, True

    def _pyro_post_sample(self, msg: Any) -> None:
        if not msg["is_observed"] and not site_is_subsample(msg):
            self.values[msg["name"]] = msg["value"]


def _is_observed(msg: Any) -> bool:
    return bool(msg["type"] == "sample" and msg["is_observed"])


def _same_normal(first: Distribution, second: Distribution) -> bool:
    """Whether two runs gave a slab the same posterior, so that it is the marginal one."""
    one, two = base_distribution(first), base_distribution(second)
    return all(torch.equal(getattr(one, k), getattr(two, k)) for k in ("loc", "scale") if hasattr(one, k))


def _quantiles(posterior: Distribution, levels: Tensor) -> Tensor:
    """Returns the quantiles of a one-dimensional posterior, shape ``(q, *site)``."""
    base: Any = base_distribution(posterior)
    levels = levels.reshape(-1, *[1] * len(posterior.batch_shape + posterior.event_shape))
    if isinstance(base, HardGate):
        return (levels > torch.sigmoid(-base.logits)).to(levels.dtype)
    if isinstance(base, GatedNormal):
        base = dist.Normal(base.loc, base.scale)
    if isinstance(base, TransformedDistribution):
        value = base.base_dist.icdf(levels) if not isinstance(base.base_dist, Independent) else base.base_dist.base_dist.icdf(levels)
        for transform in base.transforms:
            value = transform(value)
        return value
    value: Tensor = base.icdf(levels)
    return value


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low < value < high:
        raise ValueError(f"{name} must lie in ({low}, {high}), got {value}")
