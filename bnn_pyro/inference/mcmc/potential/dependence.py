"""What the latent Normals of a model depend on: which have a location or a scale that is made of other latents."""

from collections.abc import Callable

import torch
from pyro import poutine
from pyro.poutine import Trace
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Normal

from bnn_pyro.inference.mcmc.potential.improper import ImproperValues
from bnn_pyro.inference.mcmc.potential.isolation import data_device
from guides.sites import Site, base_distribution, is_subsample


def dependent_normals(model: Callable[..., object], *args: object, **kwargs: object) -> dict[str, bool]:
    """Return of each latent Normal whether its location or scale depends on another latent.

    Handlers around the call see nothing of it.

    Args:
        model: A Pyro model, which runs once.
        *args: The model's arguments.
        **kwargs: The model's keyword arguments.

    Returns:
        Site -> whether it does, in the model's order.
    """
    found = Dependence()
    with poutine.block(), torch.enable_grad(), ImproperValues(data_device(args, kwargs)), found:
        model(*args, **kwargs)
    return found.normals


def trace_and_constants(model: Callable[..., object], *args: object, **kwargs: object) -> tuple[Trace, set[str]]:
    """Return the trace of a model, and the latent Normals whose location and scale depend on no other latent.

    Args:
        model: A Pyro model, which runs once.
        *args: The model's arguments.
        **kwargs: The model's keyword arguments.
    """
    found = Dependence()
    with torch.enable_grad(), ImproperValues(data_device(args, kwargs)), found:
        trace = poutine.trace(model).get_trace(*args, **kwargs)
    return trace, {name for name, depends in found.normals.items() if not depends}


class Dependence(Messenger):
    """Makes each latent value a leaf of autograd, and asks of later Normals whether they are made of such leaves.

    What reaches a Normal only through a threshold or rounding does not count.

    Attributes:
        normals: Latent Normal -> whether its location or scale depends on another latent, in the model's order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.normals: dict[str, bool] = {}
        self._leaves: dict[int, Tensor] = {}

    def _pyro_post_sample(self, message: Site) -> None:
        if message["is_observed"] or is_subsample(message):
            return
        base = base_distribution(message["fn"])
        if isinstance(base, Normal):
            self.normals[message["name"]] = self._is_reached(base.loc) or self._is_reached(base.scale)
        if message["value"].is_floating_point():
            leaf = message["value"] = message["value"].detach().requires_grad_()
            self._leaves[id(leaf)] = leaf

    def _is_reached(self, tensor: Tensor) -> bool:
        """Whether a tensor is a leaf, or is made of one."""
        if id(tensor) in self._leaves:
            return True
        todo, seen = [tensor.grad_fn], set()
        while todo:
            node = todo.pop()
            if node is None or node in seen:
                continue
            if id(getattr(node, "variable", None)) in self._leaves:
                return True
            seen.add(node)
            todo += [before for before, _ in node.next_functions]
        return False
