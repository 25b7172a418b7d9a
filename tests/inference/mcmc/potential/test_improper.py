"""Improper priors have a value without a draw, in their support."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import constraints

from bnn_pyro.inference.mcmc.potential.improper import ImproperValues
from tests.models import traced

SUPPORTS = {
    "real": (constraints.real, (), ()),
    "positive": (constraints.positive, (2,), ()),
    "interval": (constraints.interval(2.0, 3.0), (), ()),
    "simplex": (constraints.simplex, (), (3,)),
    "ordered": (constraints.ordered_vector, (2,), (3,)),
    "Cholesky": (constraints.corr_cholesky, (), (3, 3)),
}


@pytest.mark.parametrize("name", SUPPORTS)
def test_value_lies_in_the_support(name: str) -> None:
    support, batch, event = SUPPORTS[name]
    prior = dist.ImproperUniform(support, batch, event)

    def model() -> None:
        pyro.sample("x", prior.to_event(len(batch)))

    with pytest.raises(NotImplementedError):
        traced(model)()
    with ImproperValues():
        value = traced(model)().nodes["x"]["value"]
    assert value.shape == (*batch, *event) and bool(prior.support.check(value).all())


def test_sites_that_can_be_drawn_or_are_observed_stay() -> None:
    def model() -> None:
        pyro.sample("x", dist.ImproperUniform(constraints.real, (), ()), obs=torch.ones(()))
        pyro.sample("y", dist.Delta(torch.tensor(7.0)))

    with ImproperValues():
        nodes = traced(model)().nodes
    assert nodes["x"]["value"] == 1 and nodes["y"]["value"] == 7
