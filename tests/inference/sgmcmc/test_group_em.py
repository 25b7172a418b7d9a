"""The EM of the spike-and-slab group Gaussian, and its rule of removal."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributions as dist
from torch import Tensor, nn

from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.networks import mlp
from bnn_pyro.nodes import NodeGroup, find_nodes
from tests.nodes.nets import Stream

DOUBLE = torch.float64
SLAB = 0.7


class Convolutions(nn.Module):
    """A convolution whose channels of 3 x 3 positions a linear layer reads, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 5, 2)
        self.head = nn.Linear(5 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Two convolutions and a linear layer."""
        return self.head(self.second(self.first(x).relu()).relu().flatten(1))  # type: ignore[no-any-return]


def found(net: nn.Module, x: Tensor, *, inputs: bool = False) -> tuple[tuple[NodeGroup, ...], dict[str, Tensor]]:
    """The groups of a net, and its parameters."""
    return find_nodes(net, x, inputs=inputs).groups, {n: p.detach() for n, p in net.named_parameters()}


def perceptron() -> tuple[tuple[NodeGroup, ...], dict[str, Tensor]]:
    return found(mlp(6, (4, 3), 2).double(), torch.randn(2, 6, dtype=DOUBLE), inputs=True)


def columns(groups: tuple[NodeGroup, ...], weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights that read each node of a perceptron: group -> (size, weights a node)."""
    layers = ("hidden1", "hidden2", "output")
    return {group.name: weights[f"{layer}.weight"].T for group, layer in zip(groups, layers, strict=True)}


def test_exact_inclusion_is_bayes_rule() -> None:
    groups, weights = perceptron()
    weights["hidden1.weight"][:, 2] *= 0.05
    prior = {"inputs": 0.1, "hidden1": 0.5, "hidden2": 0.8}
    em = GroupEM(spike=0.15)
    inclusion = em.inclusion(groups, weights, slab=SLAB, prior=prior)
    for name, members in columns(groups, weights).items():
        slab, spike = (dist.Normal(0.0, sd).log_prob(members).sum(1) for sd in (SLAB, em.spike))
        expected = prior[name] * slab.exp() / (prior[name] * slab.exp() + (1 - prior[name]) * spike.exp())
        torch.testing.assert_close(inclusion[name], expected)
    assert inclusion["inputs"][2] < 0.01


def test_exact_inclusion_is_half_where_it_is_known_to_be() -> None:
    """Mean square [log(v1/v0) + (2/n) log((1-pi)/pi)] / (1/v0 - 1/v1): .039 in the first example of the method."""
    rows, pi = 10_240, 0.5
    slab, spike = (1 / (rows * 2e-4)) ** 0.5, (1 / (rows * 1e-2)) ** 0.5
    boundary = (math.log(slab**2 / spike**2) + 2 / 4 * math.log((1 - pi) / pi)) / (spike**-2 - slab**-2)
    assert boundary == pytest.approx(0.039, abs=5e-4)
    groups, weights = perceptron()
    for factor, above in ((0.99, False), (1.01, True)):
        weights["hidden1.weight"].fill_((factor * boundary) ** 0.5)
        included = GroupEM(spike=spike).inclusion(groups[:1], weights, slab=slab, prior={"inputs": pi})["inputs"]
        assert bool((included > 0.5).all()) == above and bool((included < 0.5).all()) != above


def test_threshold() -> None:
    groups, weights = perceptron()
    inclusion = GroupEM(spike=0.1, soft=0.05).inclusion(
        groups, weights, slab=SLAB, prior=dict.fromkeys(("inputs", "hidden1", "hidden2"), 0.5)
    )
    for name, members in columns(groups, weights).items():
        assert torch.equal(inclusion[name], (members.square().mean(1) >= 0.05).double())


def test_weight_decay_is_the_mean_of_both_precisions() -> None:
    groups, weights = perceptron()
    inclusion = {group.name: torch.rand(group.size, dtype=DOUBLE) for group in groups}
    em = GroupEM(spike=0.1)
    decays = em.weight_decays(groups, weights, inclusion, slab=SLAB, num_data=50)
    assert sorted(decays) == ["hidden1.weight", "hidden2.weight", "output.weight"]
    for group, (name, decay) in zip(groups, decays.items(), strict=True):
        p = inclusion[group.name]
        assert decay.shape == (1, weights[name].shape[1])
        torch.testing.assert_close(decay[0], p / (50 * SLAB**2) + (1 - p) / (50 * 0.01))


def test_m_step_maximises_the_expected_prior() -> None:
    """The decay is the gradient of -E[log p(w | gamma)] / N divided by the weight, gamma from the E-step."""
    groups, weights = perceptron()
    em, prior = GroupEM(spike=0.3), {"inputs": 0.4, "hidden1": 0.5, "hidden2": 0.6}
    inclusion = em.inclusion(groups, weights, slab=SLAB, prior=prior)
    decays = em.weight_decays(groups, weights, inclusion, slab=SLAB, num_data=50)
    for group, name in zip(groups, decays, strict=True):
        w = weights[name].clone().requires_grad_()
        slab, spike = (dist.Normal(0.0, sd).log_prob(w).sum(0) for sd in (SLAB, em.spike))
        p = inclusion[group.name]
        (-(p * slab + (1 - p) * spike).sum() / 50).backward()
        assert w.grad is not None
        torch.testing.assert_close(decays[name] * weights[name], w.grad)


def test_hard_rule() -> None:
    groups, weights = perceptron()
    weights["hidden2.weight"][:, 1] = 0.01
    keep = GroupEM(hard=1e-3).keep(groups, weights)
    assert keep["hidden1"].tolist() == [True, False, True, True]
    assert GroupEM(hard=0).keep(groups, weights)["hidden1"].all()


def test_one_node_always_stays() -> None:
    groups, weights = perceptron()
    weights["output.weight"] *= 1e-6
    weights["output.weight"][0, 1] *= 2
    kept = GroupEM(hard=1e-3).keep(groups, weights)["hidden2"]
    assert kept.sum() == 1 and kept[columns(groups, weights)["hidden2"].square().mean(1).argmax()]


def test_writers_are_rows() -> None:
    groups, weights = perceptron()
    weights["hidden1.weight"][3] = 1e-4
    weights["hidden1.bias"][3] = 5.0  # biases are in no group
    em = GroupEM(hard=1e-3, side="writers")
    keep = em.keep(groups, weights)
    assert keep["hidden1"].tolist() == [True, True, True, False]
    assert keep["inputs"].all(), "nothing writes the inputs"
    inclusion = em.inclusion(groups, weights, slab=SLAB, prior=dict.fromkeys(keep, 0.5))
    assert (inclusion["inputs"] == 1).all()
    decays = em.weight_decays(groups, weights, inclusion, slab=SLAB, num_data=50)
    assert {name: tuple(decay.shape) for name, decay in decays.items()} == {
        "hidden1.weight": (4, 1),
        "hidden2.weight": (3, 1),
    }


def test_tied_nodes_are_judged_by_all_their_readers() -> None:
    groups, weights = found(Stream().double(), torch.randn(2, 6, dtype=DOUBLE))
    readers = torch.cat([weights["block.weight"], weights["head.weight"]])
    group = next(group for group in groups if group.name == "stem")
    count, square = GroupEM()._mean_square(group, weights)
    assert (count == len(readers)).all()
    torch.testing.assert_close(square, readers.square().mean(0))


MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "mean_square": lambda own: own.square().mean(1),
    "norm": lambda own: own.norm(dim=1),
    "relative": lambda own: own.square().mean(1) / own.square().mean(),
    "range": lambda own: own.amax(1) - own.amin(1),
}


@pytest.mark.parametrize("measure", list(MEASURES))
def test_channels_own_all_kernels_and_positions_that_read_them(measure: Any) -> None:
    groups, weights = found(Convolutions().double(), torch.randn(2, 1, 6, 6, dtype=DOUBLE))
    members = {
        "first": weights["second.weight"].transpose(0, 1).flatten(1),
        "second": weights["head.weight"].reshape(3, 5, 9).transpose(0, 1).flatten(1),
    }
    for group in groups:
        own = members[group.name]
        measured = MEASURES[measure](own)
        threshold = float(measured.sort().values[1:3].mean())
        kept = GroupEM(hard=threshold, measure=measure).keep([group], weights)[group.name]
        assert torch.equal(kept, measured >= threshold) and int((~kept).sum()) == 2


def test_soft_threshold_of_norms() -> None:
    groups, weights = perceptron()
    inclusion = GroupEM(soft=0.9, measure="norm").inclusion(
        groups, weights, slab=SLAB, prior={g.name: 0.5 for g in groups}
    )
    for group in groups:
        norms = columns(groups, weights)[group.name].norm(dim=1)
        assert inclusion[group.name].tolist() == (norms >= 0.9).double().tolist()


def test_relative_sizes_do_not_know_the_scale_of_a_layer() -> None:
    groups, weights = perceptron()
    em, prior = GroupEM(soft=0.9, hard=0.8, measure="relative"), {group.name: 0.5 for group in groups}
    scaled = {name: value * (100 if name == "hidden2.weight" else 1e-4) for name, value in weights.items()}
    for one, other in (
        (em.inclusion(groups, weights, slab=SLAB, prior=prior), em.inclusion(groups, scaled, slab=SLAB, prior=prior)),
        (em.keep(groups, weights), em.keep(groups, scaled)),
    ):
        assert all(torch.equal(one[group.name], other[group.name]) for group in groups)
        assert any(not one[group.name].all() for group in groups)


def test_thresholds_may_differ_from_group_to_group() -> None:
    groups, weights = perceptron()
    squares = {group.name: columns(groups, weights)[group.name].square().mean(1) for group in groups}
    middle = {name: float(values.median()) * 1.01 for name, values in squares.items()}
    prior = {group.name: 0.5 for group in groups}
    named = {name: middle[name] for name in ("inputs", "hidden2")}
    inclusion = GroupEM(soft=middle).inclusion(groups, weights, slab=SLAB, prior=prior)
    kept = GroupEM(hard=named).keep(groups, weights)
    for group in groups:
        above = squares[group.name] >= middle[group.name]
        assert 0 < int(above.sum()) < group.size
        assert torch.equal(inclusion[group.name] == 1, above)
        assert torch.equal(kept[group.name], above | (group.name not in named))


@pytest.mark.parametrize("name", ["hard", "soft"])
def test_thresholds_of_nodes_that_are_not_there(name: str) -> None:
    groups, _ = perceptron()
    options: dict[str, Any] = {name: {"hidden1": 0.1, "conv9": 0.1, "conv8": 0.1}}
    with pytest.raises(ValueError, match=rf"{name} must name groups of nodes \(inputs, .*\), got conv8, conv9"):
        GroupEM(**options).check(groups)
    options = {name: {"hidden1": 0.1}}
    GroupEM(**options).check(groups)


def test_slab_must_be_wider() -> None:
    groups, weights = perceptron()
    with pytest.raises(ValueError, match="spike must be narrower than the slab"):
        GroupEM(spike=1.0).inclusion(groups, weights, slab=0.5, prior={})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"spike": 0.0}, "spike must be positive and finite, got 0"),
        ({"hard": -1.0}, "hard must be finite and not negative, got -1"),
        ({"soft": math.inf}, "soft must be finite"),
        ({"soft": {"hidden1": math.nan}}, "soft must be finite and not negative, got .*hidden1"),
        ({"hard": {"hidden1": 0.1, "hidden2": -0.1}}, "hard must be finite and not negative, got .*hidden2"),
        ({"warmup": -1}, "warmup must be at least 0, got -1"),
        ({"side": "both"}, "side must be one of readers, writers, got 'both'"),
        ({"measure": "sum"}, "measure must be one of mean_square, norm, relative, range, got 'sum'"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GroupEM(**options)
