"""A guide's parameters: one for each role and site, whole where a plate subsamples, under names that do not collide."""

import pytest
import torch
from pyro.nn import PyroModule
from pyro.poutine.indep_messenger import CondIndepStackFrame
from torch.distributions import constraints

from guides.parameters import store_parameter, stored_parameter


def test_a_parameter_is_found_by_its_role_and_site() -> None:
    """Also where the site's name has dots; a value under a constraint is stored without it."""
    guide = PyroModule("guide")
    store_parameter(guide, "locs", "layer.weight", torch.tensor([1.0, -2.0]), 1, ())
    store_parameter(guide, "scales", "layer.weight", torch.tensor([0.5, 2.0]), 1, (), constraint=constraints.positive)
    assert [name for name, _ in guide.named_parameters()] == [
        "locs.layer.weight_unconstrained",
        "scales.layer.weight_unconstrained",
    ]
    assert stored_parameter(guide, "locs", "layer.weight").tolist() == [1, -2]
    assert stored_parameter(guide, "scales", "layer.weight").tolist() == [0.5, 2]


def test_a_plate_that_subsamples_has_a_parameter_for_every_row() -> None:
    """Two of five rows are seen: the initial values repeat; a plate that is whole changes nothing."""
    guide = PyroModule("guide")
    some, every = CondIndepStackFrame("rows", -1, 2, 0, 5), CondIndepStackFrame("rows", -1, 2, 0, 2)
    value = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    store_parameter(guide, "locs", "some", value, 1, (some,))
    store_parameter(guide, "locs", "every", value, 1, (every,))
    assert torch.equal(stored_parameter(guide, "locs", "some"), value[[0, 1, 0, 1, 0]])
    assert torch.equal(stored_parameter(guide, "locs", "every"), value)


@pytest.mark.parametrize("names", [("w", "w.bias"), ("w.bias", "w"), ("w", "w"), ("w..bias",), ("w.",)])
def test_names_that_collide(names: tuple[str, ...]) -> None:
    guide = PyroModule("guide")
    for name in names[:-1]:
        store_parameter(guide, "locs", name, torch.zeros(()), 0, ())
    with pytest.raises(ValueError, match=f"site names must not begin with .* got '{names[-1]}': rename it"):
        store_parameter(guide, "locs", names[-1], torch.zeros(()), 0, ())


def test_values_must_be_finite() -> None:
    with pytest.raises(ValueError, match="the initial value of site 'w' must lie inside its support"):
        store_parameter(PyroModule("guide"), "locs", "w", torch.tensor([0.0, -torch.inf]), 0, ())
