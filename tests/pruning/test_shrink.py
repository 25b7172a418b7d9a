"""A shrunk posterior is the same posterior."""

import copy
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from bnn_pyro import fit, prune
from bnn_pyro.inference.svi.elbo import elbo_terms
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from bnn_pyro.pruning.positions import compose, select
from bnn_pyro.pruning.shrink import shrink
from guides import AutoCentered, AutoSpikeSlab, AutoSpikeSlabMultivariate
from guides.sites import base_distribution
from tests.posterior.test_guide import posterior_of
from tests.pruning.masks import Masks, masks, set_gates, size
from tests.test_network import INPUTS_STAY, NETS, inputs, labels


# ---- shrink ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("slab", [Gaussian(), GroupLasso(), GroupHorseshoe()])
@pytest.mark.parametrize("name", NETS)
def test_shrunk_posterior_has_the_same_median_model(name: str, slab: Any) -> None:
    prior = SpikeSlab(slab, inclusion=0.3)
    posterior = posterior_of(name, select_inputs=name not in INPUTS_STAY, prior=prior)
    small, x = posterior.shrink(), inputs(40)
    torch.testing.assert_close(small.median_model()(x), posterior.median_model()(x), rtol=0, atol=1e-12)
    torch.testing.assert_close(prune(small)(x), prune(posterior)(x), rtol=0, atol=1e-12)
    assert size(small.model.net) == size(prune(posterior)) < size(posterior.model.net)
    keep = posterior.keep()
    for group, gamma in posterior.inclusion().items():
        assert torch.equal(small.inclusion()[group], gamma[keep[group]])
    before, after = (poutine.trace(p.model.prior).get_trace() for p in (posterior, small))
    assert list(before.stochastic_nodes) == list(after.stochastic_nodes)


@pytest.mark.parametrize("guide_class", [AutoSpikeSlab, AutoCentered])
@pytest.mark.parametrize("name", ["residual", "concat", "residual convolutions"])
def test_shrunk_posterior_predicts_the_same(name: str, guide_class: type[Any]) -> None:
    """Gates are settled and slabs and scales nearly certain, so that a draw is the same but for 1e-7."""
    posterior = posterior_of(name, prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    if guide_class is AutoCentered:
        posterior = GuidePosterior(posterior.model, AutoCentered(posterior.model.prior))
    keep = masks(posterior.model, seed=1)
    set_gates(posterior, keep)
    with torch.no_grad():
        for parameter_name, parameter in posterior.guide.named_parameters():
            if parameter_name.startswith("scales"):
                parameter.fill_(-16.0)
    small = posterior.shrink()
    whole, shrunk = (p.predict(inputs(), num_samples=3) for p in (posterior, small))
    torch.testing.assert_close(whole, shrunk, rtol=0, atol=1e-5)
    torch.testing.assert_close(
        small.predict(inputs(), num_samples=1), prune(small)(inputs()).softmax(-1), atol=1e-5, rtol=0
    )


def test_shrunk_posterior_predicts_the_same_on_average() -> None:
    posterior = posterior_of()
    set_gates(posterior, masks(posterior.model, seed=1))
    means, variances = [], []
    for p in (posterior, posterior.shrink()):
        found: Any = p.predict(inputs(4), num_samples=100, return_draws=True)
        means.append(found.draws.mean(0))
        variances.append(found.draws.var(0) / 100)
    distance = (means[0] - means[1]).abs() / (variances[0] + variances[1]).sqrt()
    assert distance.max() < 4.5  # 12 probabilities: fails by chance in 1 of 10,000 runs


def divergences(posterior: GuidePosterior) -> dict[str, Tensor]:
    """The divergence of each latent site, one value a node or weight."""
    trace = poutine.trace(posterior.guide.run).get_trace(posterior.model, inputs(), labels())
    latent = {name: site for name, site in trace.nodes.items() if "prior" in site.get("infer", {})}
    return {
        name: torch.distributions.kl_divergence(
            base_distribution(site["fn"]), base_distribution(site["infer"]["prior"])
        ).detach()
        for name, site in latent.items()
    }


def test_the_divergence_of_what_is_left_is_the_same() -> None:
    """The group lasso's prior of a node depends on how many weights it had in the whole network."""
    posterior = posterior_of(select_inputs=True, prior=SpikeSlab(GroupLasso(), inclusion=0.3))
    keep = masks(posterior.model, seed=1)
    set_gates(posterior, keep)
    with torch.no_grad():
        posterior.guide.scales.rate_unconstrained.fill_(-40.0)  # certain, so that both see the same rate
    small = posterior.shrink()
    assert small.model.layers == {"hidden1": (4, 7), "hidden2": (3, 9), "output": (3, 8)}
    before, after = divergences(posterior), divergences(small)
    one, two = keep["hidden1"], keep["hidden2"]
    torch.testing.assert_close(after["hidden1.tau_squared"], before["hidden1.tau_squared"][one])
    torch.testing.assert_close(after["output.tau_squared"], before["output.tau_squared"])
    torch.testing.assert_close(after["hidden2.gate"], before["hidden2.gate"][two])
    torch.testing.assert_close(after["hidden2.weight"], before["hidden2.weight"][two][:, one])
    for name in ("hidden1.weight", "hidden2.weight", "output.weight", "hidden2.bias"):
        assert float(after[name].sum()) == pytest.approx(float(before[name].sum()), rel=1e-9)  # closed: nothing


def test_training_goes_on_from_a_shrunk_posterior() -> None:
    posterior = posterior_of("residual", select_inputs=True, prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    small = posterior.shrink()
    before = copy.deepcopy(small.guide.state_dict())
    trained = fit(small.model, (inputs(), labels()), guide=small.guide, epochs=2, seed=0)
    assert trained.history[-1]["nodes_kept"]
    assert all(torch.equal(value, before[name]) for name, value in small.guide.state_dict().items())
    moved = [n for n, value in trained.guide.state_dict().items() if not torch.equal(value, before[n])]
    assert set(before) - set(moved) == {"temperature"}
    elbo_terms(small.model, small.guide, inputs(), labels()).loss().backward()
    assert all(p.grad is not None for p in small.guide.parameters())


def test_shrinking_twice_is_shrinking_once() -> None:
    posterior = posterior_of("concat", prior=SpikeSlab(GroupLasso(), inclusion=0.3))
    first = {"a": torch.tensor([True, False, True, True]), "b": torch.tensor([True, True, False])}
    second = {"a": torch.tensor([False, True, True])}
    both = {"a": torch.tensor([False, False, True, True]), "b": first["b"]}
    check_twice(posterior, first, second, both)


def test_shrinking_twice_with_inputs() -> None:
    posterior = posterior_of(select_inputs=True)
    first = {"inputs": torch.arange(6) != 1, "hidden1": torch.arange(8) < 5}
    second = {"inputs": torch.arange(5) != 3, "hidden2": torch.arange(7) > 2}
    both = {
        "inputs": torch.tensor([1, 0, 1, 1, 0, 1]).bool(),
        **{k: v for k, v in (first | second).items() if k != "inputs"},
    }
    check_twice(posterior, first, second, both)


def check_twice(posterior: GuidePosterior, first: Masks, second: Masks, both: Masks) -> None:
    """Two shrinkings, one after the other, leave what one does; so do the positions that they tell."""
    once = shrink(posterior.model, posterior.guide, first)
    twice = shrink(once.model, once.guide, second)
    expected = shrink(posterior.model, posterior.guide, both)
    assert twice.model.layers == expected.model.layers and twice.model.inclusion == expected.model.inclusion
    for one, other in ((twice.guide, expected.guide), (twice.model, expected.model)):
        state = one.state_dict()
        assert state.keys() == other.state_dict().keys()
        assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())
    pairs = [
        (once.guide_positions, twice.guide_positions, expected.guide_positions),
        (once.net_positions, twice.net_positions, expected.net_positions),
    ]
    for earlier, later, wanted in pairs:
        composed = compose(earlier, later)
        assert {n: {d: k.tolist() for d, k in dims.items()} for n, dims in composed.items()} == {
            n: {d: k.tolist() for d, k in dims.items()} for n, dims in wanted.items()
        }
    whole = dict(posterior.guide.named_parameters())
    for name, parameter in expected.guide.named_parameters():
        assert torch.equal(select(whole[name], expected.guide_positions.get(name, {})), parameter)


class Shifted(nn.Module):
    """A perceptron with a parameter of its own, beside its layers'."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.ones(3))
        self.first, self.second = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Shift what the layers give."""
        return self.second(self.first(x).sigmoid()) + self.shift  # type: ignore[no-any-return]


def test_scales_go_with_the_layer_of_the_longest_name() -> None:
    prior = SpikeSlab(GroupLasso(), inclusion=0.3)
    posterior = posterior_of(nn.Sequential(Shifted()).double(), prior=prior, bayesian=lambda name, parameter: True)
    assert posterior.model.layers == {"0": (3, 1), "0.first": (8, 7), "0.second": (3, 9)}
    small = posterior.shrink(keep={"0.first": torch.arange(8) < 3})
    shapes = {name: tuple(parameter.shape) for name, parameter in small.guide.named_parameters()}
    assert shapes["locs.0.tau_squared_unconstrained"] == (3,)
    assert shapes["locs.0.first.tau_squared_unconstrained"] == (3,)
    assert shapes["locs.0.second.tau_squared_unconstrained"] == (3,)
    assert shapes["locs.0.second.weight_unconstrained"] == (3, 3)


def test_shrink_changes_neither_argument() -> None:
    posterior = posterior_of("normed", select_inputs=True)
    before = copy.deepcopy((posterior.model.state_dict(), posterior.guide.state_dict()))
    small = posterior.shrink()
    for parameter in [*small.model.parameters(), *small.guide.parameters()]:
        parameter.data.zero_()
    for state, module in zip(before, (posterior.model, posterior.guide), strict=True):
        assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())
    assert list(pyro.get_param_store()) == []
    assert small.guide.model.__self__ is small.model and small.kl_weight == posterior.kl_weight


@pytest.mark.parametrize("guide_class", [AutoNormal, AutoSpikeSlabMultivariate])
def test_other_guides_are_refused(guide_class: Any) -> None:
    model = posterior_of().model
    with pytest.raises(ValueError, match="guide must be an AutoSpikeSlab or AutoCentered to be shrunk, got Auto"):
        shrink(model, guide_class(model.prior), {})


def test_places_without_a_node_stay_without_one() -> None:
    """As where a layer reads what others give besides: the numbers of those places are -1."""
    posterior = posterior_of("concat")
    some = masks(posterior.model, 0)
    smaller = shrink(posterior.model, posterior.guide, some).model
    before = posterior.model.nodes.groups
    for group, old in zip(smaller.nodes.groups, before, strict=True):
        for side, was in ((group.readers, old.readers), (group.writers, old.writers)):
            for axis, whole in zip(side, was, strict=True):
                assert bool((axis.index >= -1).all()) and int(axis.index.max()) == group.size - 1
                assert bool((axis.index == -1).any()) == bool((whole.index == -1).any())


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        ({"hidden1": torch.arange(8) < 0}, "must leave a node in every group, got none in 'hidden1'; use prune"),
        ({"hidden9": torch.arange(8) < 3}, "keep must be masks of the groups"),
        ({"hidden1": torch.arange(7) < 3}, "must be a bool tensor of shape"),
        ({"hidden1": torch.ones(8)}, "must be a bool tensor of shape"),
    ],
)
def test_bad_masks(keep: Masks, message: str) -> None:
    posterior = posterior_of()
    with pytest.raises(ValueError, match=message):
        posterior.shrink(keep=keep)
    if "leave a node" not in message:
        with pytest.raises(ValueError, match=message):
            prune(posterior, keep=keep)


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_on_a_gpu(device: str) -> None:
    on_cpu = posterior_of(select_inputs=True)
    model = SparseNetwork(
        copy.deepcopy(on_cpu.model.net).cuda(),
        inputs().cuda(),
        prior=SpikeSlab(Gaussian(), inclusion=0.3),
        likelihood=Categorical(),
        num_data=12,
        select_inputs=True,
    )
    guide = AutoSpikeSlab(model.prior)
    guide.load_state_dict(on_cpu.guide.state_dict())
    posterior = GuidePosterior(model, guide)
    x, keep = inputs().cuda(), {name: mask.to(device) for name, mask in on_cpu.keep().items()}
    torch.testing.assert_close(prune(posterior, keep=keep)(x), prune(on_cpu)(inputs()).cuda())
    small = posterior.shrink(keep=keep)
    torch.testing.assert_close(small.median_model()(x), prune(on_cpu)(inputs()).cuda())
    assert all(parameter.is_cuda for parameter in [*small.model.parameters(), *small.guide.parameters()])
