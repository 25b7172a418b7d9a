"""A network that standardises its images takes them as they come, before pruning and after."""

import pytest
import torch

from bnn_pyro.networks import lenet, resnet
from bnn_pyro.networks.normalize import Normalize, normalized
from bnn_pyro.nodes import find_nodes
from bnn_pyro.pruning.cutting import cut
from tests.nodes.nets import random_masks


def images(rows: int = 40) -> torch.Tensor:
    """Images whose channels have a scale of their own, the last one constant."""
    scale = torch.tensor([0.25, 0.1, 0.0]).reshape(3, 1, 1)
    return 0.5 + scale * torch.randn(rows, 3, 16, 16)


def test_channels_are_standardised_by_the_images() -> None:
    net, x = normalized(torch.nn.Identity(), 3, images()), images()
    seen = normalized(torch.nn.Identity(), 3, x)(x)
    assert torch.allclose(seen.mean((0, 2, 3)), torch.zeros(3), atol=1e-5)
    assert torch.allclose(seen.std((0, 2, 3), correction=0), torch.tensor([1.0, 1.0, 0.0]), atol=1e-5)
    assert not torch.allclose(net(x), seen)  # by its own images, not by those it is given
    assert torch.equal(normalized(torch.nn.Identity(), 3)(x), x)
    assert list(net.state_dict()) == ["normalize.mean", "normalize.std"]


def test_nodes_are_those_of_the_net_and_its_cut_is_exact() -> None:
    x, inner = images().double(), resnet(8, width=4).double().eval()
    net = normalized(inner, 3, x).eval()
    nodes, inner_nodes = find_nodes(net, x[:2]), find_nodes(inner, x[:2])
    assert [group.name for group in nodes.groups] == [f"network.{group.name}" for group in inner_nodes.groups]
    keep = random_masks(inner_nodes.groups, 0)
    small = cut(net, nodes.groups, {f"network.{name}": mask for name, mask in keep.items()})
    mean, std = (small.get_buffer(f"normalize.{name}") for name in ("mean", "std"))
    assert torch.allclose(mean.flatten(), x.mean((0, 2, 3)))
    assert torch.allclose(small(x), cut(inner, inner_nodes.groups, keep)((x - mean) / std), atol=1e-10)


def test_bad_scales_are_refused() -> None:
    with pytest.raises(ValueError, match=r"mean and std must have shape \(channels,\), got \(3,\) and \(2,\)"):
        Normalize(torch.zeros(3), torch.ones(2))
    with pytest.raises(ValueError, match=r"std must be positive, got \[1.0, 0.0\]"):
        Normalize(torch.zeros(2), torch.tensor([1.0, 0.0]))
    with pytest.raises(ValueError, match=r"images must have shape \(rows, 1, height, width\) and a row, got \(40, 3,"):
        normalized(lenet(), 1, images())
