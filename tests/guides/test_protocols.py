"""The interfaces of guides: those of ours have gates, one of Pyro has what any guide has."""

import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from bnn_pyro.priors import spike_slab_gaussian
from guides import AutoCentered, AutoSpikeSlab
from guides.protocols import GatedGuide, Guide


def program() -> Tensor:
    return spike_slab_gaussian("w", (3, 2), inclusion=0.3)


def gated(name: str) -> GatedGuide:
    """The annotation is checked by mypy, the values by the tests."""
    return AutoSpikeSlab(program) if name == "spike_slab" else AutoCentered(program)


def any_guide(name: str) -> Guide:
    return AutoNormal(program) if name == "normal" else gated(name)


@pytest.mark.parametrize("name", ["spike_slab", "centered", "normal"])
def test_any_guide(name: str) -> None:
    guide = any_guide(name)
    draw, median = guide(), guide.median()
    assert draw.keys() == median.keys() == {"w.gate", "w.weight"}
    assert {id(p) for p in guide.parameters()} == {id(p) for _, p in guide.named_parameters()} != set()
    assert guide.state_dict().keys() >= {name for name, _ in [*guide.named_parameters(), *guide.named_buffers()]}


@pytest.mark.parametrize("name", ["spike_slab", "centered"])
def test_gated_guides(name: str) -> None:
    guide = gated(name)
    assert (guide.gate_mode, guide.gate_gradient, guide.temperature.shape) == ("free", "reinmax", ())
    assert {site: gamma.shape for site, gamma in guide.inclusion().items()} == {"w.gate": (3,)}
    of_roles = {id(p) for group in guide.parameter_groups().values() for p in group}
    of_sites = {id(p) for _, _, p in guide.named_site_parameters()}
    assert of_roles == of_sites == {id(p) for p in guide.parameters()}
    no = torch.tensor(False)
    with guide.switched(no, no):
        assert (guide()["w.gate"] == 1).all()
