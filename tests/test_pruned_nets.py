"""The nets of this package and of torchvision are pruned exactly, wherever their gates are closed."""

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import _mobilenet_v3_conf

from bnn_pyro import prune
from bnn_pyro.evaluation.cost import measure_cost
from bnn_pyro.evaluation.predicted_cost import predict_cost
from bnn_pyro.export import architecture_of, build
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import lenet, mlp, residual_mlp, resnet
from bnn_pyro.nodes import Nodes, find_nodes
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import GroupHorseshoe, SpikeSlab
from bnn_pyro.pruning.cutting import cut, kept_positions
from guides import AutoSpikeSlab
from tests.nodes.nets import random_masks, settled, without_readers

Masks = dict[str, Tensor]
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}  # relative to the scale of the output


def thin_mobilenet() -> nn.Module:
    """MobileNetV3 with a fraction of its channels: depthwise convolutions, squeeze-and-excitation, hard-swish."""
    blocks, last = _mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.25, reduced_tail=True)
    return torchvision.models.MobileNetV3(blocks, last // 8, num_classes=5)  # type: ignore[no-any-return]


def without_affine(net: nn.Module) -> nn.Module:
    """The net with BatchNorms that have neither weights nor biases."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            parent, _, leaf = name.rpartition(".")
            setattr(net.get_submodule(parent), leaf, nn.BatchNorm2d(module.num_features, affine=False))
    return net


def around(middle: nn.Module, channels: int = 6) -> nn.Module:
    """A net whose first layer's channels pass through something, with two layers behind it whose channels do not."""
    return nn.Sequential(
        *(nn.Conv2d(2, 6, 3, padding=1), middle, nn.Sigmoid(), nn.Conv2d(channels, 5, 3), nn.Softplus()),
        *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 4), nn.Sigmoid(), nn.Linear(4, 2)),
    )


@dataclass(frozen=True)
class Example:
    """A net, the shape of a datum, how many groups of nodes it has, its last layer, and how many layers are dense."""

    net: Callable[[], nn.Module]
    shape: tuple[int, ...]
    groups: int
    output: str
    dense: int = 1


THIN = {
    "mlp": Example(partial(mlp, 6, (8, 7), 3, activation=nn.Sigmoid), (6,), 2, "output"),
    "residual mlp": Example(partial(residual_mlp, 6, 5, 2, 3, activation=nn.Softplus), (6,), 3, "head"),
    "lenet": Example(partial(lenet, filters=(5, 6), hidden=(7, 4)), (1, 28, 28), 4, "output"),
    "lenet of sigmoids": Example(
        partial(lenet, filters=(5, 6), hidden=(7,), activation=nn.Sigmoid), (1, 28, 28), 3, "output"
    ),
    "resnet 20": Example(partial(resnet, 20, width=4), (3, 16, 16), 12, "head"),
    "resnet 18 of softplus": Example(partial(resnet, 18, width=4, activation=nn.Softplus), (3, 16, 16), 12, "head"),
    "resnet 8 without affine": Example(lambda: without_affine(resnet(8, width=4)), (3, 16, 16), 6, "head"),
    "resnet 50": Example(partial(resnet, 50, width=2), (3, 16, 16), 37, "head"),
    "mobilenet_v3": Example(thin_mobilenet, (3, 32, 32), 26, "classifier.3"),
    "densenet": Example(
        lambda: torchvision.models.DenseNet(4, (2, 3, 2), 8, bn_size=2, num_classes=5), (3, 32, 32), 17, "classifier"
    ),
    "vision transformer": Example(
        lambda: torchvision.models.VisionTransformer(16, 8, 2, 4, 16, 24, num_classes=5),
        (3, 16, 16),
        4,
        "heads.head",
        6,
    ),
}
WHOLE = {
    "resnet18": Example(torchvision.models.resnet18, (3, 64, 64), 12, "fc"),
    "resnet50": Example(torchvision.models.resnet50, (3, 64, 64), 37, "fc"),
    "mobilenet_v3_small": Example(torchvision.models.mobilenet_v3_small, (3, 64, 64), 27, "classifier.3"),
    "vit_b_16": Example(torchvision.models.vit_b_16, (3, 224, 224), 24, "heads.head", 26),
    "densenet121": Example(torchvision.models.densenet121, (3, 64, 64), 120, "classifier"),
}
NETS = THIN | WHOLE
each_net = pytest.mark.parametrize("name", [*THIN, *(pytest.param(name, marks=pytest.mark.slow) for name in WHOLE)])


@cache
def found(name: str) -> tuple[nn.Module, Tensor, Nodes]:
    """A net in evaluation mode with BatchNorms like no other, two inputs, and its nodes."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net = settled(NETS[name].net()).eval()
        for parameter in net.parameters():
            if not parameter.any():  # a head that starts at zero passes nothing on
                nn.init.normal_(parameter)
        x = torch.randn(2, *NETS[name].shape)
    return net, x, find_nodes(net, x)


def all_but_one(nodes: Nodes) -> Masks:
    """One node is left of each group, another one each time."""
    return {group.name: torch.arange(group.size) == i % group.size for i, group in enumerate(nodes.groups)}


def whole(nodes: Nodes, kept: bool = True) -> Masks:
    return {group.name: torch.full((group.size,), kept) for group in nodes.groups}


MASKS: dict[str, Callable[[Nodes], Masks]] = {
    "random 0": lambda nodes: random_masks(nodes.groups, 0),
    "random 1": lambda nodes: random_masks(nodes.groups, 1),
    "all": whole,
    "all but one": all_but_one,
    "none": lambda nodes: whole(nodes, kept=False),
}


def distance(small: nn.Module, gated: nn.Module, x: Tensor) -> float:
    """The largest difference of their outputs, relative to the scale of the output."""
    with torch.no_grad():
        expected = gated(x)
        return float((small(x) - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


@each_net
def test_every_hidden_layer_has_nodes(name: str) -> None:
    _, _, nodes = found(name)
    assert len(nodes.groups) == NETS[name].groups
    assert [layer for layer, why in nodes.dense.items() if why == "is the output of the net"] == [NETS[name].output]
    assert len(nodes.dense) == NETS[name].dense


@pytest.mark.parametrize(
    ("masks", "dtype"), [("random 0", torch.float32), *((masks, torch.float64) for masks in MASKS)], ids=str
)
@each_net
def test_pruned_net_is_the_gated_one(name: str, masks: str, dtype: torch.dtype) -> None:
    net, x, nodes = found(name)
    net, x, keep = copy.deepcopy(net).to(dtype), x.to(dtype), MASKS[masks](nodes)
    small = cut(net, nodes.groups, keep)
    assert distance(small, without_readers(net, nodes.groups, keep), x) <= TOLERANCE[dtype]
    assert measure_cost(small, x) == predict_cost(net, kept_positions(net, nodes.groups, keep), x)
    assert type(small) is type(net)


def closed_places(nodes: Nodes) -> Iterator[Masks]:
    """Each group closed by itself, all others open."""
    for group in nodes.groups:
        yield whole(nodes) | {group.name: torch.zeros(group.size, dtype=torch.bool)}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in ("resnet 50", "mobilenet_v3", *WHOLE) else n for n in NETS],
)
def test_any_group_can_be_closed_alone(name: str) -> None:
    net, x, nodes = found(name)
    net, x = copy.deepcopy(net).double(), x.double()
    for keep in closed_places(nodes):
        small = cut(net, nodes.groups, keep)
        assert distance(small, without_readers(net, nodes.groups, keep), x) <= TOLERANCE[torch.float64]


REFUSED: dict[str, tuple[Callable[[], nn.Module], int, str]] = {
    "GroupNorm": (lambda: nn.GroupNorm(3, 6), 6, "takes its statistics over several channels"),
    "LayerNorm": (lambda: nn.LayerNorm([6, 8, 8]), 6, "takes its statistics over several channels"),
    "RMSNorm": (lambda: nn.RMSNorm([6, 8, 8]), 6, "its channels are mixed before they are read"),
    "LocalResponseNorm": (lambda: nn.LocalResponseNorm(3), 6, "mixed before they are read"),
    "softmax over channels": (lambda: nn.Softmax(dim=1), 6, "mixed before they are read"),
    "shuffled channels": (lambda: nn.ChannelShuffle(2), 6, "mixed before they are read"),
    "grouped": (lambda: nn.Conv2d(6, 6, 3, padding=1, groups=2), 6, "is a grouped convolution"),
    "grouped, one channel to two": (lambda: nn.Conv2d(6, 12, 3, padding=1, groups=6), 12, "is a grouped convolution"),
    "grouped and transposed": (lambda: nn.ConvTranspose2d(6, 6, 3, groups=3), 6, "is a grouped convolution"),
    "weight norm": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1)),
        6,
        "whose weight is no plain parameter",
    ),
}


@pytest.mark.parametrize("masks", ["random 0", "none"])
@pytest.mark.parametrize("name", REFUSED)
def test_around_what_cannot_be_pruned_the_cut_is_exact(name: str, masks: str) -> None:
    middle, channels, reason = REFUSED[name]
    net, x = around(middle(), channels).double().eval(), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    nodes = find_nodes(net, x)
    assert [group.name for group in nodes.groups] == ["3", "7"] and reason in nodes.dense["0"]
    keep = MASKS[masks](nodes)
    small = cut(net, nodes.groups, keep)
    assert distance(small, without_readers(net, nodes.groups, keep), x) <= TOLERANCE[torch.float64]
    assert measure_cost(small, x) == predict_cost(net, kept_positions(net, nodes.groups, keep), x)
    assert small.get_submodule("0").weight.shape == net.get_submodule("0").weight.shape


@pytest.mark.parametrize("name", THIN)
def test_state_loads_into_a_net_built_from_the_description(name: str) -> None:
    net, x, nodes = found(name)
    small = cut(net, nodes.groups, random_masks(nodes.groups, 3))
    built = build(NETS[name].net(), json.loads(json.dumps(architecture_of(small)))).eval()
    built.load_state_dict(small.state_dict())
    assert torch.equal(built(x), small(x))


EXPORTED = [
    ("lenet", "random 0"),
    ("resnet 20", "random 0"),
    ("resnet 20", "none"),
    ("resnet 8 without affine", "random 0"),
    ("mobilenet_v3", "all but one"),
    ("densenet", "random 0"),
    ("vision transformer", "random 0"),
]


@pytest.mark.parametrize(
    ("name", "masks"), [*EXPORTED, *(pytest.param(name, "random 1", marks=pytest.mark.slow) for name in WHOLE)]
)
def test_exported_program_is_the_gated_net(name: str, masks: str) -> None:
    net, x, nodes = found(name)
    net, x, keep = copy.deepcopy(net).double(), x.double(), MASKS[masks](nodes)
    small = cut(net, nodes.groups, keep).requires_grad_(False)
    program = torch.export.export(small, (x,), dynamic_shapes=({0: torch.export.Dim("rows")},), strict=False).module()
    more = torch.randn(3, *NETS[name].shape, dtype=torch.float64)
    assert distance(program, without_readers(net, nodes.groups, keep), more) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", [pytest.param("mobilenet_v3", marks=pytest.mark.slow), "densenet"])
def test_the_whole_way_from_a_prior_to_a_pruned_net(name: str) -> None:
    net, x, nodes = found(name)
    x = x.double()
    prior, options = SpikeSlab(GroupHorseshoe(), inclusion=0.3), {"likelihood": Categorical(), "num_data": 100}
    model = SparseNetwork(copy.deepcopy(net).double(), x, prior=prior, **options)  # type: ignore[arg-type]
    posterior = GuidePosterior(model, AutoSpikeSlab(model.prior))
    keep = {group: mask | (torch.arange(len(mask)) == 0) for group, mask in random_masks(nodes.groups, 0).items()}
    small = prune(posterior, keep=keep)
    assert distance(small, posterior.median_model(keep=keep), x) <= TOLERANCE[torch.float64]
    assert measure_cost(small, x) == predict_cost(model.net, kept_positions(net, nodes.groups, keep), x)
    shrunk = posterior.shrink(keep=keep)
    whole_net = {group: torch.ones(int(mask.sum()), dtype=torch.bool) for group, mask in keep.items()}
    assert distance(prune(shrunk, keep=whole_net), small, x) <= TOLERANCE[torch.float64]


@pytest.mark.parametrize("name", ["resnet 20", "densenet"])
def test_pruned_net_trains_as_the_gated_one(name: str) -> None:
    """BatchNorms with the statistics of the batch, and their running ones, are exact too."""
    net, x, nodes = found(name)
    net, x, keep = copy.deepcopy(net).double().train(), x.double(), random_masks(nodes.groups, 2)
    small, gated = cut(net, nodes.groups, keep), without_readers(net, nodes.groups, keep)
    assert distance(small, gated, x) <= TOLERANCE[torch.float64]
    assert distance(small.eval(), gated.eval(), x) <= TOLERANCE[torch.float64]
