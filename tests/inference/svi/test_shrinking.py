"""A run that leaves out closed nodes on its way still gives the posterior of the whole network."""

import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import fit, prune
from bnn_pyro.inference import LearningRates
from bnn_pyro.inference.svi import training_run as run_module
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.svi.shrinking import Whole, settled_open, weights_kept
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from bnn_pyro.pruning.shrink import shrink
from guides import AutoCentered, AutoSpikeSlab
from tests.posterior.test_guide import posterior_of
from tests.test_network import inputs, labels, network

DATA = (inputs(), labels())
CLOSED = 1e-6


def start(net: str | nn.Module, closed: Mapping[str, list[int]], **options: Any) -> GuidePosterior:
    """A posterior before training, with some gates nearly closed and the others nearly open."""
    guide_class = options.pop("guide_class", AutoSpikeSlab)
    model = network(net, **options)
    guide = guide_class(model.prior, init_inclusion=0.99)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            group = name.removeprefix("logits.").removesuffix(".gate_unconstrained")
            if group in closed:
                parameter[closed[group]] = -7.0
    return GuidePosterior(model, guide)


SHRINKING = Schedule(shrink_below=0.05)


def run(posterior: GuidePosterior, **options: Any) -> GuidePosterior:
    """Trains on, leaving out what has closed."""
    given = {"epochs": 4, "batch_size": 6, "seed": 0, "schedule": SHRINKING, **options}
    return fit(posterior.model, DATA, guide=posterior.guide, **given)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every node that has closed is worth a rebuild."""
    monkeypatch.setattr(run_module, "WORTH_IT", 1.0)


# ---- when ------------------------------------------------------------------------------------------------------------


def test_what_has_settled_closed() -> None:
    inclusion = {"a": torch.full((20,), 0.9), "b": torch.full((5,), 0.9)}
    assert all(mask.all() for mask in settled_open(inclusion, 0.01).values())
    inclusion["a"][[3, 7]] = 0.001
    inclusion["b"][0] = 0.01
    keep = settled_open(inclusion, 0.01)
    assert (~keep["a"]).nonzero().flatten().tolist() == [3, 7] and keep["b"].all()
    assert settled_open({}, 0.01) == {}


def test_the_most_probable_node_stays() -> None:
    keep = settled_open({"a": torch.tensor([1e-5, 1e-4, 1e-6])}, 0.01)
    assert keep["a"].tolist() == [False, True, False]


@pytest.mark.parametrize("net", ["mlp", "stream", "concat", "residual"])
def test_weights_kept_are_those_of_the_smaller_network(net: str) -> None:
    posterior = posterior_of(net, select_inputs=net == "mlp")
    keep = {name: mask.clone() for name, mask in posterior.keep().items()}
    for mask in keep.values():
        mask[0] = True
    assert weights_kept(posterior.model, {name: torch.ones_like(mask) for name, mask in keep.items()}) == 1
    smaller = shrink(posterior.model, posterior.guide, keep).model
    before, after = (sum(m.net.get_parameter(p.name).numel() for p in m.bayesian) for m in (posterior.model, smaller))
    assert 0 < after < before
    assert weights_kept(posterior.model, keep) == pytest.approx(after / before, abs=1e-12)


def test_a_rebuild_waits_until_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = start("mlp", {"hidden1": [0, 5, 6]})
    left = weights_kept(posterior.model, {"hidden1": torch.arange(8) % 5 != 0, "hidden2": torch.ones(7).bool()})
    assert 0.5 < left < 1
    for limit, is_rebuilt in ((left - 0.2, False), (0.99, True)):
        monkeypatch.setattr(run_module, "WORTH_IT", limit)
        closed = run(posterior).inclusion()["hidden1"][[0, 5, 6]]
        assert bool((closed < 2 * CLOSED).all()) == is_rebuilt


# ---- what comes out --------------------------------------------------------------------------------------------------


CASES: list[tuple[Any, dict[str, list[int]], dict[str, Any]]] = [
    ("mlp", {"inputs": [1, 2], "hidden1": [0, 5], "hidden2": [3]}, {"select_inputs": True}),
    ("residual", {"stem": [4], "blocks.1.hidden": [0, 2]}, {"prior": SpikeSlab(GroupHorseshoe(), inclusion=0.3)}),
    ("concat", {"a": [0, 1], "b": [2]}, {"prior": SpikeSlab(GroupLasso(), inclusion=0.3)}),
    ("stream", {"stem": [0, 3]}, {"guide_class": AutoCentered}),
    ("normed", {"3": [0, 6]}, {}),
    ("mlp", {"hidden1": [2], "hidden2": [1]}, {"bayesian": lambda name, parameter: name.endswith("weight")}),
]


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("net", "closed", "options"), CASES)
def test_the_posterior_is_that_of_the_whole_network(net: Any, closed: dict[str, list[int]], options: Any) -> None:
    posterior = start(net, closed, **options)
    sizes = {name: group.size for name, group in posterior.model.groups.items()}
    shapes = {name: parameter.shape for name, parameter in posterior.guide.named_parameters()}
    fitted = run(posterior)
    inclusion = fitted.inclusion()
    assert {name: len(gamma) for name, gamma in inclusion.items()} == sizes
    assert {name: parameter.shape for name, parameter in fitted.guide.named_parameters()} == shapes
    for name, gamma in inclusion.items():
        assert ((gamma - CLOSED).abs() < 0.5 * CLOSED).nonzero().flatten().tolist() == closed.get(name, [])
    torch.testing.assert_close(fitted.median_model()(inputs()), prune(fitted)(inputs()), rtol=0, atol=1e-12)
    before = posterior.guide.state_dict()
    for name, value in fitted.guide.state_dict().items():
        assert (value != before[name]).any() or name == "temperature"
    again = pickle.loads(pickle.dumps(fitted))
    assert torch.equal(again.median_model()(inputs()), fitted.median_model()(inputs()))


@pytest.mark.usefixtures("always")
def test_a_traced_run_goes_on_without_what_has_closed() -> None:
    """With the smaller network's program, and the optimiser's state cut: as an eager run, where nothing is random."""
    found = []
    for engine in ("eager", "traced"):
        posterior = start("mlp", {"hidden1": [0, 5, 6]}, prior=SpikeSlab(Gaussian(), inclusion=0.3))
        with torch.no_grad():
            for name, parameter in posterior.guide.named_parameters():
                if name.startswith("scales"):
                    parameter.fill_(-25.0)
                if name.startswith("logits"):
                    parameter.copy_(40 * parameter.sign())
        rates = LearningRates(slab_scales=0, gates=0)
        fitted = run(posterior, epochs=5, batch_size=12, compute=Compute(engine=engine), rates=rates)
        assert fitted.inclusion()["hidden1"][[0, 5, 6]].max() < 2 * CLOSED
        found.append(fitted)
    for name, value in found[0].guide.state_dict().items():
        torch.testing.assert_close(found[1].guide.state_dict()[name], value, rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("always")
def test_the_record_is_that_of_the_posterior() -> None:
    """After a rebuild the numbers of an epoch are those that the whole network's posterior has."""
    seen: list[tuple[float, dict[str, int]]] = []

    def callback(record: dict[str, Any], posterior: GuidePosterior) -> None:
        nll = posterior.evaluate_median(*DATA)["nll"]
        seen.append((nll, {name: int(mask.sum()) for name, mask in posterior.keep().items()}))

    posterior = start("mlp", {"hidden1": [0, 5, 6]}, select_inputs=True)
    fitted = run(posterior, callback=callback)
    assert [nll for nll, _ in seen] == pytest.approx([record["train_nll"] for record in fitted.history], rel=1e-12)
    assert [kept for _, kept in seen] == [record["nodes_kept"] for record in fitted.history]
    assert seen[-1][1]["hidden1"] == 5


@pytest.mark.usefixtures("always")
def test_what_is_left_is_trained_in_a_smaller_network(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Spy(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            sizes.append(sum(p.numel() for group in self.param_groups for p in group["params"]))
            return super().step(closure)

    posterior = start("mlp", {"hidden1": [0, 5, 6]})
    run(posterior, batch_size=12, optimizer=Spy)
    whole = 2 * (8 * 7 + 7 * 9 + 3 * 8) + 15
    small = 2 * (5 * 7 + 7 * 6 + 3 * 8) + 12
    assert sizes == [whole, small, small, small]


@pytest.mark.usefixtures("always")
def test_a_group_never_loses_its_last_node() -> None:
    fitted = run(start("mlp", {"hidden2": list(range(7))}))
    gamma = fitted.inclusion()["hidden2"]
    assert int((gamma > 2 * CLOSED).sum()) == 1 and (gamma < 0.5).all()
    assert fitted.history[-1]["nodes_kept"]["hidden2"] == 0
    torch.testing.assert_close(prune(fitted)(inputs()), fitted.median_model()(inputs()), rtol=0, atol=1e-12)


@pytest.mark.usefixtures("always")
def test_frozen_gates_below_one_half_are_left_out() -> None:
    posterior = start("mlp", {"hidden1": [1, 4]})
    with torch.no_grad():
        posterior.guide.logits.hidden1.gate_unconstrained[[1, 4]] = -1.0
    fitted = run(posterior, epochs=3, schedule=replace(SHRINKING, freeze=1))
    assert fitted.inclusion()["hidden1"][[1, 4]].max() < 2 * CLOSED and fitted.guide.gate_mode == "frozen"
    free = run(posterior, epochs=3)
    assert free.inclusion()["hidden1"][[1, 4]].min() > 0.1  # not closed by the run's end


@pytest.mark.usefixtures("always")
def test_nothing_is_left_out_while_gates_are_held() -> None:
    posterior = start("mlp", {"hidden1": [0, 5, 6]})
    seen: list[float] = []

    def callback(record: dict[str, Any], so_far: GuidePosterior) -> None:
        seen.append(float(so_far.inclusion()["hidden1"][0]))

    run(posterior, schedule=replace(SHRINKING, hold=2), callback=callback)
    assert seen[:2] == pytest.approx([torch.tensor(-7.0).sigmoid().item()] * 2)
    assert seen[3] < 2 * CLOSED


@pytest.mark.usefixtures("always")
def test_buffers_and_points_are_written_back() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.SiLU(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 3))
    posterior = start(net.double(), {"3": [0, 2]}, bayesian=lambda name, _: not name.startswith("1."))
    seen: list[int] = []

    def callback(record: dict[str, Any], so_far: GuidePosterior) -> None:
        seen.append(int(so_far.model.net.get_buffer("1.num_batches_tracked")))

    fitted = run(posterior, epochs=3, batch_size=6, callback=callback)
    assert seen == [2, 4, 6]
    assert not torch.equal(fitted.model.net.get_parameter("1.weight"), net.get_parameter("1.weight"))
    torch.testing.assert_close(prune(fitted)(inputs()), fitted.median_model()(inputs()), rtol=0, atol=1e-12)


def test_two_rebuilds() -> None:
    posterior = start("mlp", {"hidden1": [0, 5]}, select_inputs=True)
    model, guide = posterior.model, posterior.guide
    whole = Whole(model, guide)
    before = {name: parameter.clone() for name, parameter in guide.named_parameters()}
    first = shrink(model, guide, {"hidden1": torch.tensor([0, 1, 1, 1, 1, 0, 1, 1]).bool()})
    whole.shrunk_by(first)
    second = shrink(
        first.model, first.guide, {"hidden1": torch.arange(6) != 1, "inputs": torch.tensor([1, 1, 0, 1, 1, 1]).bool()}
    )
    whole.shrunk_by(second)
    for parameter in second.guide.parameters():
        parameter.data.fill_(9.0)
    second.guide.gate_mode = "frozen"
    second.guide.temperature.fill_(0.1)
    whole.update(second.model, second.guide)
    gone, weight = [0, 2, 5], guide.locs.hidden1.weight
    assert guide.logits.hidden1.gate.tolist() == [-14, 9, -14, 9, 9, -14, 9, 9]
    assert guide.logits.inputs.gate.tolist() == [9, 9, -14, 9, 9, 9]
    assert torch.equal(weight[gone], before["locs.hidden1.weight_unconstrained"][gone])
    assert torch.equal(weight[:, 2], before["locs.hidden1.weight_unconstrained"][:, 2])
    assert int((weight == 9).sum()) == 5 * 5
    assert guide.gate_mode == "frozen" and float(guide.temperature) == pytest.approx(0.1)


@pytest.mark.usefixtures("always")
def test_the_prediction_is_the_same_as_of_the_smaller_network() -> None:
    """With all that is left certain, the whole posterior predicts what the shrunk one does."""
    fitted = run(
        start("mlp", {"inputs": [1, 2], "hidden1": [0, 5]}, select_inputs=True),
        epochs=3,
        schedule=replace(SHRINKING, freeze=1),
    )
    fitted.guide.gate_mode = "frozen"
    with torch.no_grad():
        for name, parameter in fitted.guide.named_parameters():
            if name.startswith("scales"):
                parameter.fill_(-40.0)
    predicted = fitted.predict(inputs(), num_samples=1)
    assert isinstance(predicted, Tensor)
    torch.testing.assert_close(predicted, prune(fitted)(inputs()).softmax(-1))
