"""The file from which a run of `sample` that was stopped is resumed."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from bnn_pyro.fields import NUMBER, TENSOR, VALUES, check_fields
from bnn_pyro.identity import Identity, described, differences, digest, is_short, network_identity, others
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import Run
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.storage import read_whole, write_whole

FORMAT = 2  # 1 kept a kernel and its warm-up as one
EVERY = 100  # transitions from one save to the next, where no number is given


class RunFile:
    """The file that a run's state is saved in, and what tells whose state it is.

    Args:
        checkpoint: Where and how often it is saved.
        plan: How to sample.
        potential: The potential energy; some of its values tell one model from another.
        args: The model's arguments.
        start: Starting points, how they are made, or None.
        seed: The seed, or None.
        until: The rule by which the run ends, or None.
        model: What is sampled; of a network prior, likelihood and net are compared by name.
        pseudo_prior: What draws the weights of closed nodes, or None.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: SamplingPlan,
        potential: Potential,
        args: tuple[object, ...],
        *,
        start: Tensor | str | None,
        seed: int | None,
        until: StoppingRule | None = None,
        model: object = None,
        pseudo_prior: object = None,
    ) -> None:
        self.path, self.pace = Path(checkpoint.path), checkpoint.pace(EVERY)
        self.identity: dict[str, object] = {
            **asdict(plan),
            "seed": seed,
            "until": None if until is None else asdict(until),
            "start": None if start is None else digest(start),
            "sites of the model": {name: list(latent.shape) for name, latent in potential.latents.items()},
            "dtype": str(potential.like.dtype),
            "data": digest(args),
        }
        self.model = _model_identity(model, pseudo_prior)
        self.density = _density(potential, plan)

    def is_due(self, transitions: int) -> bool:
        """Return whether the state is saved after so many transitions."""
        return self.pace.is_due(transitions)

    def save(self, run: Run, seconds: float) -> None:
        """Write a run's state, whole or not at all.

        Args:
            run: The run.
            seconds: What it took so far.
        """
        content = {"identity": self.identity, "model": self.model, "density": self.density}
        progress = {"state": run.state_dict(), "seconds": seconds}
        write_whole({"chain_format": FORMAT, **content, **progress}, self.path)
        self.pace.note()

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
        fields = {"identity": VALUES, "density": TENSOR, "state": VALUES, "seconds": NUMBER}
        check_fields(content, fields | ({"model": VALUES} if "model" in content else {}), self.path)
        self._check(content["identity"], content.get("model", {}), content["density"])
        try:
            run.load_state_dict(content["state"])
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            raise ValueError(f"checkpoint must be a file written by sample, got {self.path}: {error!r}") from error
        return float(content["seconds"])

    def _check(self, identity: Mapping[str, object], model: Mapping[str, object], density: Tensor) -> None:
        """Raise if a file's run is another one; older files say less of the model."""
        there = {**{name: identity.get(name) for name in self.identity}, **model}
        here = {**self.identity, **self.model}
        different = differences(there, here)
        tolerance = 1e-9 if self.density.dtype == torch.float64 else 1e-4
        is_alike = density.shape == self.density.shape and density.dtype == self.density.dtype
        if not different and not (
            is_alike and torch.allclose(self.density, density, tolerance, tolerance, equal_nan=True)
        ):
            different = ["density of the model"]
        if not different:
            return
        name = different[0]
        is_shown = name not in _HIDDEN and is_short(there[name]) and is_short(here.get(name))
        values = f" ({there[name]!r} there, {here.get(name)!r} here)" if is_shown else ""
        raise ValueError(
            f"checkpoint must be a file of the same model, data and options, got {self.path}: another {name}{values}"
            f"{others(different)}; delete it to begin anew, or give another path"
        )


_HIDDEN = {"start", "data", "density of the model"}  # what a message does not print


def _model_identity(model: object, pseudo_prior: object) -> Identity:
    """Return what tells a network, and the pseudo-prior of its weights, from others."""
    found = network_identity(model) if isinstance(model, SparseNetwork) else {}
    if isinstance(pseudo_prior, GuidePosterior):
        state = digest(list(pseudo_prior.guide.state_dict().items()))
        return found | {"pseudo_prior": type(pseudo_prior.guide).__qualname__, "pseudo_prior.content": state}
    return found | described("pseudo_prior", pseudo_prior)


def _density(potential: Potential, plan: SamplingPlan) -> Tensor:
    """Returns the potential energy at places where hardly two models agree."""
    generator = torch.Generator("cpu").manual_seed(0)
    places = torch.randn(plan.chains, potential.size, generator=generator, dtype=torch.float64, device="cpu")
    places = places.to(potential.like) / 2
    value, _ = potential.value_and_gradient(places if plan.is_batch else places[0])
    return value.detach().cpu().reshape(-1)
