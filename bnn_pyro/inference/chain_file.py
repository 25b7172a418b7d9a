"""Files of Markov chains: draws that were saved, and runs that were stopped on their way and go on."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from bnn_pyro.inference.chains import Run, SamplingPlan
from bnn_pyro.inference.checkpoint import load_into, read_whole, write_whole
from bnn_pyro.inference.draws import Draws
from bnn_pyro.inference.potential import Potential
from bnn_pyro.network import SparseNetwork
from bnn_pyro.sampled import SampledPosterior

FORMAT = 1

# ---- draws -----------------------------------------------------------------------------------------------------------


def save_draws(draws: Draws, path: str | os.PathLike[str]) -> None:
    """Writes draws to a file, whole or not at all; tensors and plain values, to be read with ``weights_only=True``.

    Args:
        draws: The draws.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    write_whole({"draws_format": FORMAT, "draws": _content(draws)}, path)


def load_draws(path: str | os.PathLike[str]) -> Draws:
    """Reads draws from a file.

    Args:
        path: The file.

    Returns:
        The draws, on the CPU.

    Raises:
        ValueError: If there is no such file, it is damaged or another one.
    """
    return _draws(read_whole(path, writer="save_draws", mark="draws_format", form=FORMAT, keys={"draws"}), path)


def save_sampled(sampled: SampledPosterior, path: str | os.PathLike[str]) -> None:
    """Writes a network's draws to a file, whole or not at all, with the values of what is not Bayesian in it.

    Args:
        sampled: The posterior.
        path: The file; an existing one is replaced once the new one is complete.

    Raises:
        ValueError: If the folder of the file does not exist.
    """
    content = {"sampled_format": FORMAT, "draws": _content(sampled.draws), "model": sampled.model.state_dict()}
    write_whole(content, path)


def load_sampled(path: str | os.PathLike[str], model: SparseNetwork) -> SampledPosterior:
    """Reads a network's draws.

    Args:
        path: The file.
        model: A network with the same net, prior and options; it is not changed.

    Returns:
        The posterior, on the model's device.

    Raises:
        ValueError: If there is no such file, it is damaged, or it was saved from another network.
    """
    keys = {"draws", "model"}
    content = read_whole(path, writer="save_sampled", mark="sampled_format", form=FORMAT, keys=keys)
    device = next(model.parameters()).device
    draws = _draws(tree_map_only(Tensor, lambda tensor: tensor.to(device), content), path)
    sampled = SampledPosterior(model, draws)
    load_into("model", sampled.model, content["model"], path)
    return sampled


def _content(draws: Draws) -> dict[str, Any]:
    content = {each.name: getattr(draws, each.name) for each in fields(draws)}
    return {**content, "values": dict(draws.values)}


def _draws(content: Mapping[str, Any], path: object) -> Draws:
    try:
        return Draws(**content["draws"])
    except TypeError as error:
        raise ValueError(f"path must be a file of draws, got {path}: {error}") from error


# ---- runs on their way -----------------------------------------------------------------------------------------------


class Checkpoint:
    """The file that a run's state is kept in, and what tells whose state it is.

    Args:
        path: The file.
        plan: How to sample.
        potential: The potential energy; some of its values tell one model from another.
        args: The model's arguments.
        start: Starting points, or None.
        seed: The seed, or None.

    Raises:
        ValueError: If the folder of the file does not exist.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        plan: SamplingPlan,
        potential: Potential,
        args: tuple[Any, ...],
        *,
        start: Tensor | None,
        seed: int | None,
    ) -> None:
        self.path = Path(path)
        if not self.path.parent.is_dir():
            raise ValueError(f"checkpoint must be in a folder that exists, got {path}")
        self.identity: dict[str, Any] = {
            **asdict(plan),
            "seed": seed,
            "start": None if start is None else _digest(start),
            "sites of the model": {name: list(latent.shape) for name, latent in potential.latents.items()},
            "dtype": str(potential.like.dtype),
            "data": _digest(args),
        }
        self.density = _density(potential, plan)

    def save(self, run: Run, seconds: float) -> None:
        """Writes a run's state, whole or not at all.

        Args:
            run: The run.
            seconds: What it took so far.
        """
        content = {"identity": self.identity, "density": self.density, "state": run.state_dict(), "seconds": seconds}
        write_whole({"chain_format": FORMAT, **content}, self.path)

    def restore(self, run: Run) -> float:
        """Takes a run to where the file's was, if there is a file.

        Args:
            run: A run at its beginning.

        Returns:
            The seconds that the file's run took; 0 without a file.

        Raises:
            ValueError: If the file is damaged, or of a run of another model, other data or options.
        """
        if not self.path.exists():
            return 0.0
        keys = {"identity", "density", "state", "seconds"}
        content = read_whole(self.path, writer="sample", mark="chain_format", form=FORMAT, keys=keys)
        self._check(content["identity"], content["density"])
        try:
            run.load_state_dict(content["state"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"checkpoint must be a file written by sample, got {self.path}: {error!r}") from error
        return float(content["seconds"])

    def _check(self, identity: Mapping[str, Any], density: Tensor) -> None:
        different = [name for name in self.identity if identity.get(name) != self.identity[name]]
        tolerance = 1e-9 if self.density.dtype == torch.float64 else 1e-4
        if not different and not torch.allclose(self.density, density, tolerance, tolerance, equal_nan=True):
            different = ["density of the model"]
        if not different:
            return
        name = different[0]
        values = f" ({identity.get(name)!r} there, {self.identity.get(name)!r} here)" if name not in _HIDDEN else ""
        raise ValueError(
            f"checkpoint must be a file of the same model, data and options, got {self.path}: another {name}{values}; "
            "delete it to begin anew, or give another path"
        )


_HIDDEN = {"start", "data", "density of the model"}  # what a message does not print


def _digest(values: Any) -> str:
    """Returns what tells tensors, and plain values, in a nest from others."""
    found = hashlib.sha256()
    for leaf in tree_leaves(values):
        if isinstance(leaf, Tensor):
            found.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            found.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(leaf, (bool, int, float, str, bytes)):
            found.update(repr(leaf).encode())
    return found.hexdigest()


def _density(potential: Potential, plan: SamplingPlan) -> Tensor:
    """Returns the potential energy at places where hardly two models agree."""
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(plan.chains, potential.size, generator=generator, dtype=torch.float64).to(potential.like) / 2
    value, _ = potential.value_and_gradient(places if plan.kernel == "chees" else places[0])
    return value.detach().cpu().reshape(-1)
