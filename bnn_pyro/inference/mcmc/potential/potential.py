"""Potential: the potential energy of a Pyro model's latents, as a function of one flat unconstrained vector."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Size, Tensor
from torch.func import grad_and_value, vmap
from torch.utils._pytree import PyTree, tree_map

from bnn_pyro.arguments import check_callable, check_flags
from bnn_pyro.inference.generators import random_state
from bnn_pyro.inference.mcmc.potential.dependence import trace_and_constants
from bnn_pyro.inference.mcmc.potential.isolation import data_device, data_dtype, isolated
from bnn_pyro.inference.mcmc.potential.latents import is_deterministic, laid_out, sample_sites
from bnn_pyro.inference.mcmc.potential.leapfrog import State, compiled, compiled_loop, leapfrog, repeated
from bnn_pyro.inference.mcmc.potential.microcanonical import Flow
from bnn_pyro.tracing.batch import batched, block
from bnn_pyro.tracing.trace import Traced, trace
from guides.sites import Site, sites_of

Steps = TypeVar("Steps", bound=tuple[Tensor, ...])
_TRIES = 100  # starting points to try for one that is finite, as Pyro does
_ROWS = 64  # vectors to unflatten at once: where a program is made, the whole model runs on as many
_Program = Callable[[Tensor], PyTree]  # of a vector, or of many


class Potential:
    r"""The potential energy of all latent sites of a Pyro model, given its observations.

    For the latents :math:`\theta = T(u)` and the unconstrained vector u

    .. math:: U(u) = -\log p(y, T(u)) - \log |\det T'(u)|.

    At the first call with vectors of a shape, Pyro's handlers run once and leave a program of tensors, the gradient in
    it, which many vectors go through side by side (:mod:`~bnn_pyro.tracing.batch`); where the model cannot be
    traced they run at every call. The model's arguments and buffers are read where they
    stand; Pyro's parameters are constants. Pyro's parameter store and the random state stay as they were. Where a
    matrix cannot be factorised, as a covariance that is not positive definite, energy and gradient are NaN. Priors of
    plain numbers follow data in double precision, and ``ImproperUniform`` priors need no draw.

    Args:
        model: A Pyro model with continuous latents; its sites must be the same in every run.
        *args: The model's arguments.
        compiled: Whether to compile the programs, which takes seconds for each and makes them faster.
        traced: Whether to make programs at all; if not, Pyro's handlers run at every call, as a reference.
        **kwargs: The model's keyword arguments.

    Attributes:
        latents: The latent sites by name, in the vector's order.
        size: Number of entries of the vector, n.
        like: An empty tensor of the vector's dtype and device.

    Raises:
        ValueError: If the model has no latent site, a discrete one, or a plate that subsamples; or if it draws
            anything but its sites.
    """

    def __init__(
        self, model: Callable[..., object], *args: object, compiled: bool = False, traced: bool = True, **kwargs: object
    ) -> None:
        check_callable("model", model, "a Pyro model")
        check_flags({"compiled": compiled, "traced": traced})
        self._args, self._kwargs, self._compiled, self._traced = args, kwargs, compiled and traced, traced
        self._programs: dict[tuple[str, Size], Callable[..., PyTree]] = {}
        self._single: dict[str, Traced] = {}
        self._gradient = grad_and_value(self._energy)
        self._dtype, self._device = data_dtype(args, kwargs), data_device(args, kwargs)
        found, constants = self._first_trace(model)
        nodes, sites = sites_of(found), sample_sites(found)
        parameters = {name: nodes[name]["value"].detach() for name in found.param_nodes}
        self._model = _Constants(parameters)(model)
        self.latents = laid_out({name: site for name, site in sites.items() if not site["is_observed"]}, constants)
        derived = [name for name, site in sites.items() if is_deterministic(site)]
        auxiliary: set[str] = getattr(model, "auxiliary", set())
        self._reported = [name for name in sites if name in derived or name in self.latents.keys() - auxiliary]
        self.size = sum(latent.shape.numel() for latent in self.latents.values())
        values = [sites[name]["value"] for name in self.latents]
        dtypes = {value.dtype for value in values}
        dtype = torch.float64 if torch.float64 in dtypes else values[0].dtype
        self.like = torch.empty(0, dtype=dtype, device=values[0].device)
        self._device = self.like.device
        with self._isolated():
            self._check_draws()

    def __call__(self, vectors: Tensor) -> Tensor:
        """Returns the potential energy.

        Args:
            vectors: Shape ``(n,)`` or ``(chains, n)``.

        Returns:
            Shape ``()`` or ``(chains,)``.
        """
        return self._program("energy", self._energy, vectors)(vectors)  # type: ignore[no-any-return]

    def value_and_gradient(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the potential energy and its gradient.

        Args:
            vectors: Shape ``(n,)`` or ``(chains, n)``.

        Returns:
            Shape ``()`` or ``(chains,)``, and that of ``vectors``.
        """
        if self._compiled:
            return self._at_rest(vectors)
        gradient, value = self._program("gradient", self._gradient, vectors)(vectors)
        return value, gradient

    def leapfrog(self, position: Tensor, momentum: Tensor, gradient: Tensor, stride: Tensor, steps: int = 1) -> State:
        r"""Makes leapfrog steps, of one chain or of many, the chains along the last dimension.

        .. math::
            p \leftarrow p - \tfrac12 s \nabla U(q), \qquad q \leftarrow q + s p, \qquad
            p \leftarrow p - \tfrac12 s \nabla U(q).

        Args:
            position: q, shape ``(n,)`` or ``(n, chains)``, contiguous.
            momentum: p, in coordinates of unit mass, likewise.
            gradient: That of the potential energy at the position, likewise.
            stride: s, the step size times the standard deviations that the mass matrix assumes, shape ``(n,)`` or
                ``(n, 1)``.
            steps: How many, one at least.

        Returns:
            Position and momentum, the potential energy there, shape ``()`` or ``(chains,)``, and its gradient.
        """
        key = ("leapfrog", position.shape)
        if key not in self._programs:
            self._check_shape(position.t())
            self._programs[key] = self._made_leapfrog(position, momentum, gradient, stride)
        found: State = self._programs[key](position, momentum, gradient, stride, steps)
        return found

    def along(
        self, name: str, make: Callable[[Flow], Callable[..., tuple[Tensor, ...]]], *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        """Run a function that is made of the potential's gradients as one program, with the chains last.

        Args:
            name: Name of the function, by which its programs are kept.
            make: From the flow, which gives the gradient at positions of shape ``(n, chains)`` and the potential energy
                there, to the function.
            *inputs: Its arguments, contiguous tensors; the first is the positions.

        Returns:
            The tensors that the function returns, as a plain tuple.
        """
        key = (name, inputs[0].shape)
        if key not in self._programs:
            self._check_shape(inputs[0].t())
            self._programs[key] = self._made_along(make, *inputs)
        found: tuple[Tensor, ...] = self._programs[key](*inputs)
        return found

    def block(self, chains: int) -> int:
        """Returns how many chains to move at once, so that the numbers of a step stay near the core.

        Args:
            chains: How many there are; the blocks are of one size.
        """
        return block(self._single["gradient"], chains) if "gradient" in self._single else chains

    def unflatten(self, vectors: Tensor) -> dict[str, Tensor]:
        """Returns the values of the model's sites: its latents, and what they determine.

        Sites that the sampler's coordinates put in place of others (``w_decentered``, ``z_logit``) are left out; those
        that a model reparameterises by itself are sites of its own.

        Args:
            vectors: Shape ``(*batch, n)``.

        Returns:
            Site -> values, shape ``(*batch, *shape)``.
        """
        rows = vectors.reshape(-1, self.size)
        size = min(len(rows), _ROWS)
        full = torch.cat([rows, rows[:1].expand(-len(rows) % size, -1)])  # so that one program does for all parts
        parts = [self._program("values", self._values, part)(part) for part in full.split(size)]
        found = {name: torch.cat([part[name] for part in parts])[: len(rows)] for name in self._reported}
        return {name: value.reshape((*vectors.shape[:-1], *value.shape[1:])) for name, value in found.items()}

    def split(self, vector: Tensor) -> dict[str, Tensor]:
        """Returns the unconstrained values of each latent site.

        Args:
            vector: Shape ``(n,)``.

        Returns:
            Site -> unconstrained values.
        """
        parts = vector.split([latent.shape.numel() for latent in self.latents.values()])
        pairs = zip(self.latents.items(), parts, strict=True)
        return {name: part.view(latent.shape).to(latent.dtype) for (name, latent), part in pairs}

    def starts(self, chains: int, *, radius: float = 2.0) -> Tensor:
        """Draws starting points, uniform in a cube, where the energy and its gradient are finite.

        Args:
            chains: How many.
            radius: Half the cube's width.

        Returns:
            Shape ``(chains, n)``.

        Raises:
            ValueError: If no such point is found.
        """
        vectors = self.like.new_full((chains, self.size), torch.nan)
        for _ in range(_TRIES):
            drawn = torch.empty_like(vectors).uniform_(-radius, radius)
            vectors = torch.where(torch.isfinite(vectors), vectors, drawn)
            value, gradient = self.value_and_gradient(vectors if chains > 1 else vectors[0])
            finite = torch.isfinite(value.reshape(-1, 1)) & torch.isfinite(gradient).reshape(chains, -1).all(-1, True)
            if finite.all():
                return vectors
            vectors = torch.where(finite, vectors, torch.full_like(vectors, torch.nan))
        raise ValueError(f"model must have a finite density at one of {_TRIES} starting points, got none")

    def _program(self, kind: str, function: _Program, vectors: Tensor) -> _Program:
        """Returns the program of a function of one vector for vectors of a shape."""
        key = (kind, vectors.shape)
        if key not in self._programs:
            self._check_shape(vectors)
            self._programs[key] = self._made(kind, function, vectors.detach())
        return self._programs[key]

    def _check_shape(self, vectors: Tensor) -> None:
        shape = tuple(vectors.shape)
        if len(shape) not in (1, 2) or shape[-1] != self.size:
            raise ValueError(f"vectors must have shape (n,) or (chains, n), n = {self.size}, got {shape}")

    def _at_rest(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Returns energy and gradient by the compiled leapfrog step of length 0, so that one program does for both."""
        self._check_shape(vectors)
        if vectors.dim() == 1:
            zero = torch.zeros_like(vectors)
            return self.leapfrog(vectors, zero, zero, zero)[2:]
        self._program("gradient", self._gradient, vectors[0].detach())
        parts = []
        for part in vectors.detach().split(self.block(len(vectors))):
            position = part.t().contiguous()
            zero = torch.zeros_like(position)
            parts.append([found.t() for found in self.leapfrog(position, zero, zero, zero[:, :1].contiguous())[2:]])
        value, gradient = (torch.cat(found) for found in zip(*parts, strict=True))
        return value, gradient

    def _made(self, kind: str, function: _Program, vectors: Tensor) -> _Program:
        step_by_step = self._apart(_one_by_one(function) if vectors.dim() == 2 else function)
        if not self._traced:
            return step_by_step
        with self._isolated():
            try:
                flow, example = self._flow(kind, function, vectors)
                traced = trace(lambda v: flow(v), example)  # a plain one: make_fx would count a method's self
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                warnings.warn(f"the model runs step by step, slowly: it cannot be traced ({reason})", stacklevel=4)
                return step_by_step
        run = compiled(traced, example) if self._compiled and kind == "energy" else traced
        return run if example is vectors else _chains_first(run)

    def _flow(self, kind: str, function: _Program, vectors: Tensor) -> tuple[_Program, Tensor]:
        """Returns a function of tensors alone as it is to be traced, and an example to do it with."""
        if kind == "values":
            return (vmap(function) if vectors.dim() == 2 else function), vectors
        if kind not in self._single:
            self._single[kind] = trace(lambda v: function(v), vectors[0] if vectors.dim() == 2 else vectors)
        single = self._single[kind]
        if vectors.dim() == 1:
            return (lambda v: single.graph(v, *single.live)), vectors
        return batched(single, len(vectors)), vectors.t().contiguous()

    def _made_leapfrog(self, *inputs: Tensor) -> Callable[..., State]:
        """Returns the program of leapfrog steps; many chains on a CPU make all of theirs in one call."""
        examples = [part.detach().clone() for part in inputs]  # one tensor given twice would be one argument
        traced = self._traced_along(leapfrog, examples)
        if not (self._compiled and isinstance(traced, Traced)):
            return repeated(traced)
        if inputs[0].dim() == 2 and inputs[0].device.type == "cpu":
            return compiled_loop(traced, *examples)
        return repeated(compiled(traced, *examples))

    def _made_along(
        self, make: Callable[[Flow], Callable[..., tuple[Tensor, ...]]], *inputs: Tensor
    ) -> Callable[..., tuple[Tensor, ...]]:
        """Return the program of a function along the flow."""
        examples = [part.detach().clone() for part in inputs]
        traced = self._traced_along(make, examples)
        return compiled(traced, *examples) if self._compiled and isinstance(traced, Traced) else traced

    def _traced_along(
        self, make: Callable[[Flow], Callable[..., Steps]], examples: Sequence[Tensor]
    ) -> Traced | Callable[..., Steps]:
        """Return a function along the flow as a program of tensors; as it is where the model cannot be traced."""
        vectors = examples[0].t()
        self._program("gradient", self._gradient, vectors)
        if "gradient" not in self._single:
            return make(self._untraced)
        flow, _ = self._flow("gradient", self._gradient, vectors)
        step = make(flow)
        return trace(lambda *given: tuple(step(*given)), *examples)  # a plain one: the compiler knows no named tuples

    def _untraced(self, position: Tensor) -> tuple[Tensor, Tensor]:
        """Returns gradient and value at positions with the chains last, by the model's own code."""
        gradient, value = self._program("gradient", self._gradient, position.t())(position.t())
        return gradient.t(), value.t()

    def _first_trace(self, model: Callable[..., object]) -> tuple[Trace, set[str]]:
        """Returns a trace in the dtype of the data, and the Normals that depend on no latent."""
        with self._isolated():
            found, constants = trace_and_constants(model, *self._args, **self._kwargs)
        observed = [sites_of(found)[name]["value"] for name in found.observation_nodes]
        if self._dtype is None and torch.get_default_dtype() != data_dtype(observed) is not None:
            self._dtype = data_dtype(observed)  # of data that the model has from elsewhere
            return self._first_trace(model)
        return found, constants

    def _isolated(self) -> AbstractContextManager[None]:
        return isolated(self._dtype, self._device)

    def _apart(self, function: _Program) -> _Program:
        """Returns a function that calls the model's code, isolated at each call."""

        def run(vectors: Tensor) -> PyTree:
            with self._isolated():
                return function(vectors)

        return run

    def _check_draws(self) -> None:
        """Refuses a model that draws anything while all of its sites are held."""
        before = random_state(self.like.device)
        self._trace(self._constrained(self.split(self.like.new_zeros(self.size))))
        after = random_state(self.like.device)
        if not all(torch.equal(state, after[kind]) for kind, state in before.items()):
            raise ValueError(
                "model must not draw anything but its sites, got other draws: put modules with dropout in eval mode"
            )

    def _energy(self, vector: Tensor) -> Tensor:
        free = self.split(vector)
        values = self._constrained(free)
        slopes = [t.transform.log_abs_det_jacobian(free[name], values[name]).sum() for name, t in self.latents.items()]
        return -self._trace(values).log_prob_sum() - torch.stack(slopes).sum()

    def _values(self, vector: Tensor) -> dict[str, Tensor]:
        sites = sites_of(self._trace(self._constrained(self.split(vector))))
        return {name: sites[name]["value"] for name in self._reported}

    def _constrained(self, free: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: latent.transform(free[name]) for name, latent in self.latents.items()}

    def _trace(self, values: dict[str, Tensor]) -> Trace:
        conditioned = poutine.condition(self._model, values)
        return poutine.trace(conditioned).get_trace(*self._args, **self._kwargs)


class _Constants(Messenger):
    """Gives a model values for its parameters, so that the store, which ``torch.func`` does not pass, is not asked."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.values = values

    def _pyro_param(self, message: Site) -> None:
        message["value"] = self.values[message["name"]]


def _chains_first(run: _Program) -> _Program:
    """Returns a program of vectors with the chains last as one with the chains first."""
    return lambda vectors: tree_map(lambda part: part.movedim(-1, 0), run(vectors.t().contiguous()))


def _one_by_one(function: _Program) -> _Program:
    """Returns a function of a vector as one of many, called for each of them."""

    def of_each(vectors: Tensor) -> PyTree:
        return tree_map(lambda *parts: torch.stack(parts), *[function(vector) for vector in vectors])

    return of_each
