"""Parameters by role, and their names in the original and in what was cut from it."""

from typing import Any

import pytest
import torch
from pyro.infer.autoguide import AutoNormal

from bnn_pyro.inference import LearningRates
from bnn_pyro.inference.svi.roles import positions_left, roles
from bnn_pyro.priors import GroupHorseshoe, SpikeSlab
from bnn_pyro.pruning.positions import select
from bnn_pyro.pruning.shrink import shrink
from tests.inference.svi.test_adam_step import batch_normed, posterior_of_model
from tests.inference.svi.test_fit import X, Y
from tests.posterior.test_guide import posterior_of
from tests.test_network import network

RATES = LearningRates(slab_locs=1e-3, slab_scales=2e-3, scales=3e-3, gates=4e-3, points=5e-3)


def normed(**options: Any) -> Any:
    """A posterior with parameters of every role."""
    return posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True, **options)


def test_every_parameter_has_one_role() -> None:
    posterior = normed()
    found = roles(posterior.model, posterior.guide, RATES)
    rates = {"slab_locs": 1e-3, "slab_scales": 2e-3, "scales": 3e-3, "gates": 4e-3, "points": 5e-3}
    assert {role.name: role.rate for role in found} == rates
    points = [p for p in posterior.model.parameters() if p.requires_grad]
    ours = [id(p) for role in found for p in role.named.values()]
    assert sorted(ours) == sorted(id(p) for p in [*posterior.guide.parameters(), *points])


def test_a_guide_of_pyro_has_points() -> None:
    model = network()
    guide = AutoNormal(model)
    guide(X, Y)
    (role,) = roles(model, guide, RATES)
    assert role.name == "points" and len(role.named) == len(list(guide.parameters())) > 0


def test_names_lead_from_a_cut_parameter_to_its_original() -> None:
    posterior = posterior_of_model(batch_normed())
    keep = {name: torch.arange(group.size) % 2 == 0 for name, group in posterior.model.groups.items()}
    shrunk = shrink(posterior.model, posterior.guide, keep)
    before, after = (
        {name: p for role in roles(model, guide, RATES) for name, p in role.named.items()}
        for model, guide in ((posterior.model, posterior.guide), (shrunk.model, shrunk.guide))
    )
    positions = positions_left(shrunk)
    assert before.keys() == after.keys()
    assert {name.split(".")[0] for name in positions.keys() & after.keys()} == {"guide", "model"}
    for name, parameter in after.items():
        assert torch.equal(select(before[name], positions.get(name, {})), parameter)


def test_nothing_to_train() -> None:
    model = network()
    guide = AutoNormal(model)  # its parameters are made at the first call
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="guide must have parameters to train, got none"):
        roles(model, guide, RATES)
