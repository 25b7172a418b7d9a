"""Each family has one interface: its members' public methods have the signatures of the base, or of the protocol.

Members are found, not listed, so that a new one is held to it too.
"""

import dataclasses
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch

import bnn_pyro.inference.mcmc
import bnn_pyro.likelihoods
import bnn_pyro.priors
from bnn_pyro.inference.mcmc.kernel import BatchKernel, WarmUp
from bnn_pyro.inference.mcmc.plan import KERNELS, SamplingPlan
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.inference.mcmc.runs import Run, begin
from bnn_pyro.likelihoods import Likelihood
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.priors import Slab
from tests.posterior.test_base import members as posteriors


def signature(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
    """Name, kind and default of each parameter."""
    return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]


def public(interface: type) -> dict[str, Any]:
    """The public methods and properties that a class itself has, by name."""
    return {name: member for name, member in vars(interface).items() if not name.startswith("_")}


def differences(member: type, interface: type) -> Iterator[str]:
    """Yields where a class has another interface."""
    for name, expected in public(interface).items():
        own = inspect.getattr_static(member, name, None)
        if isinstance(expected, property):
            if not isinstance(own, property):
                yield f"{member.__name__}.{name} must be a property, got {own!r}"
        elif inspect.isfunction(expected) and not inspect.isfunction(own):
            yield f"{member.__name__}.{name} must be a method, got {own!r}"
        elif inspect.isfunction(expected) and signature(own) != signature(expected):
            yield f"{member.__name__}.{name}{inspect.signature(own)} is not {name}{inspect.signature(expected)}"


def classes(package: ModuleType) -> set[type]:
    """All classes that the modules of a package define."""
    modules = [importlib.import_module(m.name) for m in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")]
    found = (value for module in modules for value in vars(module).values() if inspect.isclass(value))
    return {value for value in found if value.__module__.startswith(f"{package.__name__}.")}


def dataclasses_of(package: ModuleType) -> set[type]:
    """The public dataclasses of a package: the hyper-parameters of its members."""
    exported = (getattr(package, name) for name in package.__all__)
    return {member for member in exported if inspect.isclass(member) and dataclasses.is_dataclass(member)}


def runs() -> set[type]:
    """The classes that move chains: what can be advanced and has a result."""
    return {c for c in classes(bnn_pyro.inference.mcmc) if hasattr(c, "advance") and hasattr(c, "result")} - {Run}


def parts_of_batches(method: str) -> set[type]:
    """The classes that move or adapt a batch of chains: what has such a method and a state, and is no protocol."""
    found = (c for c in classes(bnn_pyro.inference.mcmc) if hasattr(c, method) and hasattr(c, "load_state_dict"))
    return {c for c in found if not getattr(c, "_is_protocol", False)}


def slabs() -> set[type]:
    """The public dataclasses of priors but the one that holds a slab."""
    return {m for m in dataclasses_of(bnn_pyro.priors) if "slab" not in {f.name for f in dataclasses.fields(m)}}


FAMILIES: dict[str, tuple[type, set[type], set[str]]] = {  # interface, members, those that it must have found
    "posteriors": (Posterior, posteriors(), {"GuidePosterior", "SampledPosterior", "Ensemble"}),
    "runs of kernels": (Run, runs(), {"BatchRun", "SequentialRun"}),
    "warm-ups": (WarmUp, parts_of_batches("adapt"), {"ChEESWarmUp", "ExactGatesWarmUp"}),
    "likelihoods": (
        Likelihood,
        dataclasses_of(bnn_pyro.likelihoods),
        {"Categorical", "GaussianNoise", "HeteroscedasticNoise"},
    ),
    "slabs": (Slab, slabs(), {"Gaussian", "GroupLasso", "GroupHorseshoe"}),
}


def test_kernels_of_batches_have_one_interface() -> None:
    """Their methods; what they hold are attributes in some and properties in others."""
    kernels = parts_of_batches("transition")
    assert {kernel.__name__ for kernel in kernels} >= {"JitteredHMC", "ExactGates"}
    for name in ("transition", "state_dict", "load_state_dict"):
        wanted = parameters(BatchKernel, name)
        assert {kernel.__name__: parameters(kernel, name) for kernel in kernels} == {
            kernel.__name__: wanted for kernel in kernels
        }


def parameters(owner: type, method: str) -> list[inspect.Parameter]:
    """The parameters of a method, without their types."""
    found = inspect.signature(getattr(owner, method)).parameters.values()
    return [parameter.replace(annotation=inspect.Parameter.empty) for parameter in found]


@pytest.mark.parametrize("family", FAMILIES)
def test_members_are_found(family: str) -> None:
    _, members, known = FAMILIES[family]
    assert {member.__name__ for member in members} >= known


@pytest.mark.parametrize(
    ("interface", "member"),
    [
        pytest.param(interface, member, id=member.__name__)
        for interface, members, _ in FAMILIES.values()
        for member in sorted(members, key=lambda member: member.__name__)
    ],
)
def test_members_have_the_interface(interface: type, member: type) -> None:
    assert list(differences(member, interface)) == []


def test_a_member_with_another_interface_is_seen() -> None:
    class Other:
        def shared(self, groups: Any, like: Any = None) -> None: ...

        scale = None

    found = list(differences(Other, Slab))
    assert len(found) == 2 and "shared" in found[0] and "must be a method" in found[1]


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_kernel_is_begun_as_such_a_run(kernel: str) -> None:
    given: Any = {"kernel": kernel, "chains": 2, "warmup": 2, "draws": 3, "thinning": 1, "gates": "relaxed"}
    given |= {"target_accept": None, "dense_mass": False, "max_tree_depth": 2, "trajectory_length": None}
    run = begin(SamplingPlan(**given), Potential(_model, torch.zeros(2)), None)
    assert type(run) in runs()


def _model(mean: torch.Tensor) -> None:
    pyro.sample("w", dist.Normal(mean, 1.0).to_event(1))


def test_spike_slabs_share_their_options() -> None:
    """What the composed priors have in common has one name, kind and default."""
    composed = [getattr(bnn_pyro.priors, name) for name in bnn_pyro.priors.__all__ if name.startswith("spike_slab_")]
    assert len(composed) >= 3
    common = set.intersection(*({name for name, _, _ in signature(prior)} for prior in composed))
    assert common >= {"name", "shape", "inclusion", "sigma", "temperature", "gates"}
    assert len({tuple(p for p in signature(prior) if p[0] in common) for prior in composed}) == 1
