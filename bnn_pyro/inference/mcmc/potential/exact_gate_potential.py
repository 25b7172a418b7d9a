"""SpikePotential: the potential energy of the true spike-and-slab model, and where its gates and slabs lie."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from pyro import poutine
from torch import Size, Tensor
from torch.nn.functional import pad

from bnn_pyro.inference.mcmc.potential.hard_gates import HardGates, Hints
from bnn_pyro.inference.mcmc.potential.latents import Latent
from bnn_pyro.inference.mcmc.potential.noncentered import DECENTERED, LOGIT
from bnn_pyro.inference.mcmc.potential.potential import Potential
from guides.sites import align_gate, sites_of


@dataclass(frozen=True, eq=False)
class Layout:
    """Where the gates lie in a sampler's vector, where the slabs that they multiply, and which gates multiply which.

    Attributes:
        gates: Coordinates of the gates, shape ``(gates,)``.
        slabs: Coordinates of the entries of slabs that have gates, shape ``(entries,)``.
        owners: Coordinates of the gates that multiply each entry, shape ``(entries, places)``; -1 for none.
        shapes: The slabs' sites and shapes, in the order of the entries.
        owned: For each gate which entries it multiplies.
    """

    gates: Tensor
    slabs: Tensor
    owners: Tensor
    shapes: Mapping[str, Size]
    owned: tuple[Tensor, ...]

    @staticmethod
    def of(program: HardGates, latents: Mapping[str, Latent], device: torch.device) -> "Layout":
        """Returns the layout of a program that has run.

        Args:
            program: The program.
            latents: How its sites lie in the vector.
            device: Where the numbers are to be.

        Raises:
            ValueError: If there is no gate.
        """
        places, begin = {}, 0
        for name, latent in latents.items():
            places[name] = torch.arange(begin, begin := begin + latent.shape.numel(), device="cpu").reshape(
                latent.shape
            )
        found = [place.flatten() for name, place in places.items() if name.endswith(LOGIT)]
        if not found:
            raise ValueError("model must have a gate, drawn from a relaxed Bernoulli, to sample exact spikes, got none")
        sites = tuple(name for name, hints in program.slabs.items() if hints)
        slabs = [places[f"{name}{DECENTERED}"].flatten() for name in sites]
        owners = [_owners(program.slabs[name], places, places[f"{name}{DECENTERED}"].shape) for name in sites]
        most = max((part.shape[1] for part in owners), default=0)
        gates = torch.cat(found)
        all_owners = torch.cat(
            [gates.new_empty(0, most), *(pad(part, (0, most - part.shape[1]), value=-1) for part in owners)]
        )
        owned = tuple((all_owners == gate).any(-1).nonzero().flatten().to(device) for gate in gates)
        all_slabs = torch.cat([gates.new_empty(0), *slabs])
        shapes = {name: latents[f"{name}{DECENTERED}"].shape for name in sites}
        return Layout(gates.to(device), all_slabs.to(device), all_owners.to(device), shapes, owned)

    def is_open(self, vectors: Tensor, entries: Tensor | None = None) -> Tensor:
        """Tells which entries of slabs have all gates open.

        Args:
            vectors: Shape ``(chains, n)``.
            entries: Which entries to tell of; None for all.

        Returns:
            Bool, shape ``(chains, entries)``.
        """
        owners = self.owners if entries is None else self.owners[entries]
        opened = pad(vectors > 0, (0, 1), value=True)  # the last, which -1 means, is always open
        return opened[:, owners].all(-1)

    def moving(self, vectors: Tensor) -> Tensor:
        """Tells which coordinates move given the gates: all but gates and closed slabs.

        Args:
            vectors: Shape ``(chains, n)``.

        Returns:
            Bool, shape ``(chains, n)``.
        """
        moving = torch.ones_like(vectors, dtype=torch.bool)
        moving[:, self.gates] = False
        moving[:, self.slabs] = self.is_open(vectors)
        return moving


class SpikePotential(Potential):
    """The potential energy of the true spike-and-slab model, :class:`HardGates`, given its observations.

    Args:
        model: A Pyro model with relaxed gates and Normal slabs that name their gates in ``infer``.
        *args: The model's arguments.
        compiled: Whether to compile the programs.
        **kwargs: The model's keyword arguments.

    Attributes:
        layout: Where gates and slabs lie in the vector.

    Raises:
        ValueError: If the model has no gate, or a slab with gates that is not Normal; or as in every potential.
    """

    def __init__(self, model: Callable[..., object], *args: object, compiled: bool = False, **kwargs: Any) -> None:
        program = HardGates(model)
        super().__init__(program, *args, compiled=compiled, **kwargs)
        self.layout = Layout.of(program, self.latents, self.like.device)
        self._prior = partial(poutine.trace(model).get_trace, *args, **kwargs)

    def starts(self, chains: int, *, radius: float = 2.0) -> Tensor:
        """Draws starting points in a cube, in turn with all gates open and with all closed.

        Args:
            chains: How many.
            radius: Half the cube's width.

        Returns:
            Shape ``(chains, n)``.

        Raises:
            ValueError: If no such point of finite energy is found.
        """
        points = super().starts(chains, radius=radius)
        points[:, self.layout.gates] = 1 - 2 * (torch.arange(chains, device=points.device) % 2).to(points).unsqueeze(-1)
        closed = ~self.layout.is_open(points)
        points[:, self.layout.slabs] = points[:, self.layout.slabs].masked_fill(closed, 0.0)
        return points

    def slab_prior(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Returns mean and standard deviation that slabs have in the prior, given the scales.

        Args:
            vectors: Shape ``(chains, n)``.

        Returns:
            Two tensors of shape ``(chains, entries)``.
        """
        chains, slabs = len(vectors), self.layout.slabs
        vectors = vectors.repeat(2, 1)
        vectors[:chains, slabs], vectors[chains:, slabs] = 0.0, 1.0  # a slab is m + r u
        values = self.unflatten(vectors)
        flat = [values[site].flatten(1) for site in self.layout.shapes]
        loc, above = torch.cat([vectors[:, :0], *flat], 1).split(chains)
        return loc, (above - loc).clamp(min=torch.finfo(loc.dtype).tiny)

    def prior_draw(self) -> dict[str, Tensor]:
        """Draws the model's latents from the prior, site -> value."""
        with pyro.get_param_store().scope(), pyro.validation_enabled(False):
            found = self._prior()
        sites = sites_of(found)
        return {name: sites[name]["value"] for name in found.stochastic_nodes}


def _owners(hints: Hints, places: Mapping[str, Tensor], shape: Size) -> Tensor:
    """Returns the coordinates of the gates that multiply each entry of a slab, shape ``(entries, places)``."""
    found = []
    for site, given in hints.items():
        gates = places[f"{site}{LOGIT}"]
        for hint in given if isinstance(given, list) else [given]:
            aligned = align_gate(gates, hint, event_dim=len(shape) - gates.dim() + 1, absent=-1)
            found.append(aligned.expand(shape).flatten())
    return torch.stack(found, -1)
