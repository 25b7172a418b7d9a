"""Which latent Normals depend on other latents, whatever lies between them, and nobody else sees the run."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor, nn

from bnn_pyro.inference.mcmc.potential.dependence import dependent_normals, trace_and_constants


def of_another(made: Callable[[Tensor], Tensor]) -> Callable[[], None]:
    """A model whose second Normal has a location that is made of the first."""

    def model() -> None:
        one = pyro.sample("one", dist.Normal(torch.zeros(3), 1.0).to_event(1))
        pyro.sample("two", dist.Normal(made(one), 1.0).to_event(1))

    return model


MADE: dict[str, tuple[Callable[[Tensor], Tensor], bool]] = {
    "itself": (lambda one: one, True),
    "a view": (lambda one: one[:2], True),
    "a function": (lambda one: (one.sum().exp() * torch.ones(2)).cumsum(0), True),
    "a network": (nn.Linear(3, 2), True),
    "written into": (lambda one: torch.zeros(3).index_copy(0, torch.tensor([1]), one[:1]), True),
    "its shape": (lambda one: torch.zeros(len(one)), False),
    "a parameter alone": (lambda one: nn.Parameter(torch.ones(2)) * 2, False),
    "cut off": (lambda one: one.detach(), False),
}


@pytest.mark.parametrize("name", MADE)
def test_by_what_lies_between(name: str) -> None:
    made, expected = MADE[name]
    model = of_another(made)
    with torch.no_grad():
        assert dependent_normals(model) == {"one": False, "two": expected}
    found, constants = trace_and_constants(model)
    assert constants == {"one"} | (set() if expected else {"two"})
    assert found.stochastic_nodes == ["one", "two"]


def test_handlers_around_see_nothing() -> None:
    with poutine.trace() as seen:
        dependent_normals(of_another(torch.exp))
    assert not seen.trace.nodes


def test_observed_sites_and_other_distributions_are_left_out() -> None:
    def model() -> None:
        one = pyro.sample("one", dist.Gamma(1.0, 1.0))
        with pyro.plate("rows", 4, subsample_size=2):
            pyro.sample("two", dist.Normal(0.0, one))
            pyro.sample("three", dist.Normal(0.0, one), obs=torch.zeros(2))
        pyro.sample("four", dist.Bernoulli(0.5))

    assert dependent_normals(model) == {"two": True}
