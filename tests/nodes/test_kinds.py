"""Which layers can be cut, where their channels lie, and that they note their own sizes."""

import pytest
import torch
from torch import nn

from bnn_pyro.nodes.kinds import correct_sizes, kind_of, layers_of, refusal

CUT = [
    nn.Linear(4, 6),
    nn.Conv1d(4, 6, 3),
    nn.Conv2d(4, 6, 3),
    nn.Conv3d(4, 6, 3),
    nn.ConvTranspose1d(4, 6, 3),
    nn.ConvTranspose2d(4, 6, 3),
    nn.ConvTranspose3d(4, 6, 3),
    nn.Conv2d(6, 6, 3, groups=6),
    nn.ConvTranspose2d(6, 6, 3, groups=6),
    nn.BatchNorm1d(6),
    nn.BatchNorm2d(6),
    nn.BatchNorm3d(6),
    nn.SyncBatchNorm(6),
    nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    nn.GroupNorm(6, 6),
    nn.PReLU(6),
    nn.Embedding(3, 6),
]


@pytest.mark.parametrize("layer", CUT, ids=str)
def test_sides_have_the_channels_of_the_layer(layer: nn.Module) -> None:
    kind = kind_of(layer)
    assert kind is not None and refusal(layer) is None
    for side, channels in ((kind.writers, 6), (kind.readers, 4)):
        assert all(getattr(layer, leaf).shape[dim] == channels for leaf, dim in side)
    assert all(getattr(layer, leaf).shape == (6,) for leaf in kind.buffers)
    assert bool(kind.buffers) == isinstance(layer, nn.modules.batchnorm._NormBase)
    covered = {leaf for leaf, _ in kind.writers}
    assert covered == {leaf for leaf, _ in layer.named_parameters()}


@pytest.mark.parametrize("layer", CUT, ids=str)
def test_layers_note_the_sizes_of_what_was_cut(layer: nn.Module) -> None:
    kind = kind_of(layer)
    assert kind is not None
    whole = {attribute: getattr(layer, attribute) for attribute, _, _ in kind.sizes}
    correct_sizes(layer)
    assert {attribute: getattr(layer, attribute) for attribute in whole} == whole
    for sides, kept in ((kind.writers, 5), (kind.readers, 3)):
        for leaf, dim in sides:
            setattr(layer, leaf, nn.Parameter(getattr(layer, leaf).detach().narrow(dim, 0, kept)))
    for leaf in kind.buffers:
        setattr(layer, leaf, getattr(layer, leaf)[:5])
    correct_sizes(layer)
    assert {getattr(layer, attribute) for attribute in whole} == ({5, 3} if kind.readers else {5})


def test_an_instance_norm_without_statistics_notes_its_size_by_its_weight() -> None:
    norm = nn.InstanceNorm1d(6, affine=True)
    norm.weight = nn.Parameter(torch.ones(2))
    correct_sizes(norm)
    assert norm.num_features == 2


def test_a_batch_norm_without_affine_notes_its_size_by_its_statistics() -> None:
    norm = nn.BatchNorm1d(6, affine=False)
    norm.running_mean, norm.running_var = torch.zeros(2), torch.ones(2)
    correct_sizes(norm)
    assert norm.num_features == 2


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.LayerNorm(6), "statistics over several channels"),
        (nn.RMSNorm(6), "statistics over several channels"),
        (nn.GroupNorm(2, 6), "statistics over several channels"),
        (nn.LocalResponseNorm(2), "statistics over several channels"),
        (nn.Conv2d(4, 6, 3, groups=2), "grouped convolution"),
        (nn.Conv2d(3, 6, 3, groups=3), "grouped convolution"),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), "grouped convolution"),
        (nn.InstanceNorm2d(6), "has no parameter"),
        (nn.Embedding(3, 4, max_norm=1.0), "norms over all channels"),
    ],
    ids=str,
)
def test_what_cannot_be_cut_says_why(module: nn.Module, reason: str) -> None:
    assert kind_of(module) is None
    assert reason in str(refusal(module))
    correct_sizes(module)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Dropout(), object()], ids=str)
def test_of_others_nothing_is_known(module: object) -> None:
    assert kind_of(module) is None and refusal(module) is None


def test_layers_are_all_but_normalisations() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3, groups=2), nn.Linear(4, 2))
    assert list(layers_of(net)) == ["0", "4"]
