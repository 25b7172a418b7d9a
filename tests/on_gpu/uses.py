"""Data, networks and options that the uses share, small enough for a device that is emulated."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import Categorical, LearningRates, Schedule, SparseNetwork, SpikeSlab, networks
from bnn_pyro.likelihoods import Likelihood
from bnn_pyro.priors.group_horseshoe import GroupHorseshoe
from bnn_pyro.priors.slab import Slab

ROWS, FEATURES, CLASSES = 48, 5, 3
ENGINES = ("eager", pytest.param("traced", marks=pytest.mark.slow))  # to trace takes most of the time of a use
RATES = LearningRates(gates=0.3, scales=0.05, slab_scales=0.05)
FIT: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 20,
    "schedule": Schedule(hold=1, freeze=1),
    "rates": RATES,
    "seed": 0,
    "progress": False,
}


class Rows:
    """Rows of a small problem on a device: inputs, classes, counts and real targets, and images.

    Args:
        device: Where they are.
    """

    def __init__(self, device: torch.device | str) -> None:
        generator = torch.Generator("cpu").manual_seed(1)
        x = torch.randn(ROWS, FEATURES, generator=generator, device="cpu")
        images = torch.rand(ROWS, 1, 8, 8, generator=generator, device="cpu")
        self.device = torch.device(device)
        self.x, self.images = x.to(device), images.to(device)
        self.classes = ((x[:, 0] > 0).long() + (x[:, 1] > 0).long()).to(device)
        self.reals = (x[:, 0] - 0.5 * x[:, 3]).to(device)

    @property
    def classified(self) -> tuple[Tensor, Tensor]:
        """Inputs and classes."""
        return self.x, self.classes

    @property
    def regressed(self) -> tuple[Tensor, Tensor]:
        """Inputs and real targets."""
        return self.x, self.reals

    @property
    def seen(self) -> tuple[Tensor, Tensor]:
        """Images and classes."""
        return self.images, self.classes


class SmallConvNet(nn.Module):
    """Two convolutions, a BatchNorm and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 5, 3)
        self.last = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of images."""
        hidden: Tensor = self.second(self.norm(self.first(x)).relu()).relu()
        logits: Tensor = self.last(hidden.mean((2, 3)))
        return logits


def perceptron(
    rows: Rows,
    outputs: int = CLASSES,
    *,
    likelihood: Likelihood | None = None,
    prior: SpikeSlab | Slab | None = None,
    select_inputs: bool = True,
    device: torch.device | str | None = None,
    num_data: int = ROWS,
) -> SparseNetwork:
    """Return a perceptron with gates, the same for the same arguments.

    Args:
        rows: The data.
        outputs: How many outputs.
        likelihood: Default categorical.
        prior: Default a spike and a group horseshoe.
        select_inputs: Whether inputs have gates.
        device: Where it is; None for that of the data.
        num_data: Training rows.
    """
    place = rows.device if device is None else device
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        with torch.device("cpu"):
            net = networks.mlp(FEATURES, (6, 4), outputs)
    return SparseNetwork(
        net.to(place),
        rows.x[:2].to(place),
        prior=prior or SpikeSlab(GroupHorseshoe(), inclusion=0.05),
        likelihood=likelihood or Categorical(),
        num_data=num_data,
        select_inputs=select_inputs,
    )


def conv_net(rows: Rows) -> SparseNetwork:
    """Return a convolutional network with gates, the same for the same data.

    Args:
        rows: The data.
    """
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        with torch.device("cpu"):
            net = SmallConvNet()
    prior = SpikeSlab(GroupHorseshoe(), inclusion=0.05)
    return SparseNetwork(
        net.to(rows.device), rows.images[:2], prior=prior, likelihood=Categorical(), num_data=len(rows.images)
    )


def devices(*values: object) -> set[str]:
    """Return the kinds of devices of tensors, of modules' parameters and buffers, and of what lies in nests of them."""
    found: set[str] = set()
    for value in values:
        if isinstance(value, Tensor):
            found.add(value.device.type)
        elif isinstance(value, nn.Module):
            found |= devices(*value.parameters(), *value.buffers())
        elif isinstance(value, dict):
            found |= devices(*value.values())
        elif isinstance(value, (list, tuple)):
            found |= devices(*value)
    return found
