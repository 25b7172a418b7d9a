"""MCMC: the interface of ``pyro.infer.MCMC`` on our samplers, so that one changed import makes a program fast."""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyro
from pyro import poutine
from pyro.infer import HMC, NUTS
from pyro.infer.autoguide.initialization import InitMessenger, init_to_uniform
from pyro.infer.mcmc.util import diagnostics, print_summary, select_samples
from torch import Tensor
from torch.distributions import biject_to

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.dependence import trace_and_constants
from bnn_pyro.inference.mcmc.potential.isolation import data_device, data_dtype, isolated
from bnn_pyro.inference.mcmc.potential.latents import is_deterministic, sample_sites
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.mcmc.starts import starting_points
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.tracing.engine import EngineName
from guides.sites import Site

logger = logging.getLogger(__name__)


class MCMC:
    """Runs Markov chains as ``pyro.infer.MCMC`` does, by :func:`~bnn_pyro.inference.mcmc.sample.sample`.

    Change ``from pyro.infer import MCMC, NUTS`` to ``from pyro.infer import NUTS`` and
    ``from bnn_pyro.inference import MCMC``; all else stays. Pyro's kernel object says what to do: NUTS or HMC, the
    target acceptance, the mass matrix, the depth of trees, how chains start. Normals that depend on other latents are
    non-centred on the way, and come back as the model's own sites. Randomness is that of the global generator
    (``pyro.set_rng_seed``).

    What our samplers do not do is left to Pyro's own class, with a warning that says why: discrete sites that are to be
    summed out, a ``hook_fn``, a ``potential_fn``, ``transforms``, a kernel that must not adapt, kernels of other kinds.

    Args:
        kernel: Pyro's ``NUTS`` or ``HMC`` of a model.
        num_samples: Draws per chain.
        warmup_steps: Transitions per chain to adapt in; None for as many as draws.
        initial_params: Site -> unconstrained values to start at; with several chains they come first.
        num_chains: Number of chains.
        hook_fn: For Pyro alone.
        mp_context: Nothing here: chains need no processes.
        disable_progbar: Whether to show no progress bar.
        disable_validation: For Pyro alone; here distributions are not validated.
        transforms: For Pyro alone.
        save_params: The latent sites to keep; None for all.
        engine: As for :func:`~bnn_pyro.inference.mcmc.sample.sample`.

    Attributes:
        kernel: The kernel that was given.
        draws: What :func:`~bnn_pyro.inference.mcmc.sample.sample` returned, with a ``table`` of its own; None before
            the run, and where Pyro ran.

    Raises:
        ValueError: If a number is below 1, or a site to keep or to start at is unknown.
    """

    def __init__(
        self,
        kernel: Any,
        num_samples: int,
        warmup_steps: int | None = None,
        initial_params: Mapping[str, Tensor] | None = None,
        num_chains: int = 1,
        hook_fn: Callable[..., object] | None = None,
        mp_context: str | None = None,
        disable_progbar: bool = False,
        disable_validation: bool | None = True,
        transforms: Mapping[str, Any] | None = None,
        save_params: list[str] | None = None,
        *,
        engine: EngineName = "auto",
    ) -> None:
        self.kernel, self.num_samples, self.num_chains, self.engine = kernel, num_samples, num_chains, engine
        self.warmup_steps = num_samples if warmup_steps is None else warmup_steps
        for name in ("num_samples", "warmup_steps", "num_chains"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        self.initial_params, self.save_params, self.disable_progbar = initial_params, save_params, disable_progbar
        self.draws: Draws | None = None
        self._samples: dict[str, Tensor] = {}
        self._reason = _unsupported(kernel, hook_fn, transforms)
        self._options = {
            "warmup_steps": self.warmup_steps,
            "initial_params": initial_params,
            "num_chains": num_chains,
            "hook_fn": hook_fn,
            "mp_context": mp_context,
            "disable_progbar": disable_progbar,
            "disable_validation": disable_validation,
            "transforms": transforms,
            "save_params": save_params,
        }
        self._pyros: Any = None

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Run the chains.

        Args:
            *args: The model's arguments.
            **kwargs: The model's keyword arguments.

        Raises:
            ValueError: If the model has no such potential, or a site is unknown.
        """
        sites = None if self._reason else self._latents(*args, **kwargs)
        reason = self._reason or _discrete(sites or {})
        if reason:
            logger.warning("the chains run in Pyro's own MCMC: %s", reason)
            self._pyros = pyro.infer.MCMC(self.kernel, self.num_samples, **self._options)
            self._pyros.run(*args, **kwargs)
            return
        latents = sites or {}
        kept = list(latents) if self.save_params is None else self.save_params
        for name in (*kept, *(self.initial_params or ())):
            if name not in latents:
                raise ValueError(f"sites must be of {', '.join(latents)}, got {name!r}")
        model = partial(self.kernel.model, **kwargs)
        with poutine.block():
            self.draws = sample(
                model,
                args,
                _plan(self.kernel, self.num_chains, self.warmup_steps, self.num_samples),
                start=self._start(model, args, latents),
                progress=False if self.disable_progbar else None,
                engine=self.engine,
            )
        self._samples = {name: self.draws.values[name] for name in kept}

    def get_samples(self, num_samples: int | None = None, group_by_chain: bool = False) -> dict[str, Tensor]:
        """Return the draws of each latent site.

        Args:
            num_samples: How many to take at random, with replacement; None for all, in their order.
            group_by_chain: Whether the chains are the first dimension; if not, they follow each other.

        Returns:
            Site -> draws, shape ``(num_chains * num_samples, *shape)``, or ``(num_chains, num_samples, *shape)``.
        """
        if self._pyros is not None:
            found: dict[str, Tensor] = self._pyros.get_samples(num_samples, group_by_chain)
            return found
        selected: dict[str, Tensor] = select_samples(self._samples, num_samples, group_by_chain)
        return selected

    def diagnostics(self) -> dict[str, Any]:
        """Return effective sample size and R-hat of each site, and divergences and acceptance of each chain."""
        if self._pyros is not None:
            pyros: dict[str, Any] = self._pyros.diagnostics()
            return pyros
        draws = self._finished()
        found: dict[str, Any] = diagnostics(self._samples)
        diverged = [row.nonzero().flatten().tolist() for row in draws.diverged]
        found["divergences"] = {f"chain {i}": numbers for i, numbers in enumerate(diverged)}
        found["acceptance rate"] = {f"chain {i}": float(row.mean()) for i, row in enumerate(draws.acceptance)}
        return found

    def summary(self, prob: float = 0.9) -> None:
        """Print mean, standard deviation, median, credible interval, effective sample size and R-hat of each entry.

        Args:
            prob: Probability mass of the credible interval.
        """
        if self._pyros is not None:
            self._pyros.summary(prob)
            return
        draws = self._finished()
        print_summary(self._samples, prob=prob)
        print(f"Number of divergences: {int(draws.diverged.sum())}")

    def _finished(self) -> Draws:
        if self.draws is None:
            raise ValueError("run must be called first, got no draws yet")
        return self.draws

    def _latents(self, *args: Any, **kwargs: Any) -> dict[str, Site]:
        """Return the latent sites of the model, with values to start at where the kernel says so."""
        model, strategy = self.kernel.model, self.kernel._init_strategy
        if strategy is not init_to_uniform:
            model = InitMessenger(strategy)(model)
        with poutine.block(), isolated(data_dtype(args, kwargs), data_device(args, kwargs)):
            found, _ = trace_and_constants(model, *args, **kwargs)
        return {n: s for n, s in sample_sites(found).items() if not (s["is_observed"] or is_deterministic(s))}

    def _start(self, model: Callable[..., object], args: tuple[Any, ...], sites: Mapping[str, Site]) -> Tensor | None:
        """Return starting points; None where chains start uniformly in a cube, as by default."""
        if self.initial_params is None and self.kernel._init_strategy is init_to_uniform:
            return None
        values = {name: site["value"].detach() for name, site in sites.items()}
        for name, value in (self.initial_params or {}).items():
            values[name] = biject_to(sites[name]["fn"].support)(value).detach()
        return starting_points(model, args, values, chains=self.num_chains)


def _unsupported(kernel: Any, hook_fn: object, transforms: object) -> str:
    """Return why a run is left to Pyro; empty where it is not."""
    if type(kernel) not in (NUTS, HMC):
        return f"{type(kernel).__name__} is no kernel of ours"
    adapter = kernel._adapter
    reasons = {
        "a hook_fn is given": hook_fn is not None,
        "transforms are given": transforms is not None or kernel.transforms is not None,
        "the kernel has a potential_fn and no model": kernel.model is None,
        "the kernel must not adapt": not (adapter.adapt_step_size and adapter.adapt_mass_matrix),
        "the mass matrix has blocks": not isinstance(adapter.dense_mass, bool),
        "slices choose from the trees": not getattr(kernel, "use_multinomial_sampling", True),
    }
    return next((reason for reason, is_so in reasons.items() if is_so), "")


def _discrete(sites: Mapping[str, Site]) -> str:
    name = next((name for name, site in sites.items() if site["fn"].support.is_discrete), None)
    return "" if name is None else f"the discrete site {name!r} is to be summed out"


def _plan(kernel: Any, chains: int, warmup: int, draws: int) -> SamplingPlan:
    """Return the plan that a kernel of Pyro stands for."""
    is_nuts, adapter = isinstance(kernel, NUTS), kernel._adapter
    return SamplingPlan(
        kernel="nuts" if is_nuts else "hmc",
        chains=chains,
        warmup=warmup,
        draws=draws,
        target_accept=adapter.target_accept_prob,
        dense_mass=adapter.dense_mass,
        max_tree_depth=kernel._max_tree_depth if is_nuts else 10,
        trajectory_length=None if is_nuts else kernel.trajectory_length,
    )
