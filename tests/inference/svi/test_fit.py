"""The SVI driver: it agrees with Pyro's own, does what it is told, and leaves everything else as it was."""

import copy
import logging
import math
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from pyro.optim import Adam, ClippedAdam  # type: ignore[attr-defined]
from torch import Tensor, nn

from bnn_pyro import fit, prune
from bnn_pyro.data import load
from bnn_pyro.inference import LearningRates, SparseELBO
from bnn_pyro.inference.svi import fit as svi
from bnn_pyro.inference.svi.divergence import Diverged
from bnn_pyro.inference.svi.fit import LOCAL_ROWS
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.svi.steps import stepper
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, Likelihood, Normals
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.empty_groups import empty_warning
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from bnn_pyro.tracing import engine as engines
from guides import AutoCentered, AutoSpikeSlab, initial_value
from tests.posterior.test_guide import posterior_of
from tests.pruning.test_batch_norm import buffers
from tests.test_network import inputs, labels, network
from tests.tracing.test_engine import fake_compile

X, Y = inputs(), labels()


STILL = LearningRates(slab_locs=0, slab_scales=0, scales=0, gates=0, points=0)


FAST = LearningRates(slab_locs=0.05, slab_scales=0.05, scales=0.05, gates=0.1, points=0.05)


def state(posterior: GuidePosterior) -> dict[str, Tensor]:
    """All that was trained."""
    found: dict[str, Tensor] = {**posterior.guide.state_dict(), **posterior.model.state_dict()}
    return found


def is_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states are equal to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(value, one[name]) for name, value in other.items())


class Spy(torch.optim.SGD):
    """An optimiser that notes the gradients and learning rates of every step."""

    seen: list[dict[str, Any]]

    def step(self, closure: Any = None) -> Any:
        """Note and step."""
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        rates = {group["role"]: group["lr"] for group in self.param_groups}
        norm = math.sqrt(sum(float(g.square().sum()) for g in gradients if g is not None))
        kept = [None if g is None else g.clone() for g in gradients]
        self.seen.append({"rates": rates, "norm": norm, "gradients": kept})
        return super().step(closure)


def spy() -> tuple[list[dict[str, Any]], Callable[[Any], torch.optim.Optimizer]]:
    """What the steps of a run will be, and the optimiser to run it with."""
    seen: list[dict[str, Any]] = []

    def factory(groups: Any) -> torch.optim.Optimizer:
        optimizer = Spy(groups)
        optimizer.seen = seen
        return optimizer

    return seen, factory


class Watching(SparseELBO):
    """Our ELBO, noting what each step is made with."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.seen: list[dict[str, Any]] = []

    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Note and compute."""
        self.seen.append(
            {
                "kl_weight": float(self.kl_weight),  # a tensor whose value changes
                "temperature": float(guide.temperature),
                "gates": guide.gate_mode,
                "training": model.net.training,
                "rows": args[0],
            }
        )
        return super().differentiable_loss(model, guide, *args, **kwargs)


# ---- the objective ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("slab", [Gaussian(), GroupLasso(), GroupHorseshoe()])
@pytest.mark.parametrize("name", ["normed", "stream", "concat"])
def test_a_step_is_that_of_pyro(name: str, slab: Any) -> None:
    posterior = posterior_of(name, prior=SpikeSlab(slab, inclusion=0.3), num_data=12, select_inputs=name == "stream")
    seen, factory = spy()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "schedule": Schedule(decay=0), "optimizer": factory}
    run = fit(
        posterior.model,
        (X, Y),
        guide=posterior.guide,
        rates=STILL,
        elbo=SparseELBO(local_reparameterization=False),
        seed=4,
        **options,
    )
    torch.manual_seed(4)
    order = torch.randperm(12)
    elbo: Any = TraceMeanField_ELBO()
    with pyro.validation_enabled(False):
        loss = elbo.differentiable_loss(posterior.model, posterior.guide, X[order], Y[order]) / 12
    loss.backward()
    assert run.history[0]["loss"] == pytest.approx(float(loss.detach()), rel=1e-12)
    groups = posterior.guide.parameter_groups()
    points = [parameter for parameter in posterior.model.parameters() if parameter.requires_grad]
    expected = [parameter.grad for group in (*groups.values(), points) for parameter in group]
    assert len(seen) == 1 and len(expected) == len(seen[0]["gradients"])
    for found, wanted in zip(seen[0]["gradients"], expected, strict=True):
        assert wanted is not None and wanted.any()
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


def test_the_loss_in_expectation_is_that_of_pyro() -> None:
    """Of 40 epochs of 3 draws each; a difference of 4 standard errors comes by chance in 1 of 5,000 runs."""
    posterior = posterior_of(mlp(6, (3,), 3).double(), prior=SpikeSlab(Gaussian(), inclusion=0.3))
    options: dict[str, Any] = {"epochs": 40, "batch_size": 4, "seed": 1, "kl_weight": 0.7, "rates": STILL}
    losses = []
    for elbo in (None, TraceMeanField_ELBO(), Trace_ELBO()):
        run = fit(posterior.model, (X, Y), guide=posterior.guide, elbo=elbo, **options)
        losses.append(torch.tensor([record["loss"] for record in run.history]))
    for loss in losses[1:]:
        error = ((loss.var() + losses[0].var()) / 40).sqrt()
        assert (loss.mean() - losses[0].mean()).abs() < 4 * error


@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, Trace_ELBO])
def test_the_weight_scales_the_divergence_of_an_elbo_of_pyro(elbo: type[Any]) -> None:
    posterior = posterior_of()
    losses = []
    for weight in (0.0, 1.0, 3.0):
        options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "seed": 1, "rates": STILL}
        run = fit(posterior.model, (X, Y), guide=posterior.guide, kl_weight=weight, elbo=elbo(), **options)
        losses.append(run.history[0]["loss"])
    torch.manual_seed(1)
    order = torch.randperm(12)
    trace = poutine.trace(posterior.guide).get_trace()
    replayed = poutine.trace(poutine.replay(posterior.model, trace=trace)).get_trace(X[order], Y[order])
    replayed.compute_log_prob()
    site: Any = replayed.nodes["obs"]
    assert losses[0] == pytest.approx(-float(site["log_prob_sum"].detach()) / 12, rel=1e-12)
    assert losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-9)
    assert losses[1] > losses[0] + 1


def test_several_draws_a_step_are_averaged() -> None:
    posterior = posterior_of()
    run = fit(
        posterior.model, (X, Y), guide=posterior.guide, epochs=1, elbo=SparseELBO(num_particles=3), rates=STILL, seed=1
    )
    torch.manual_seed(1)
    order = torch.randperm(12)
    elbo = SparseELBO(local_reparameterization=True)
    draws = [elbo.loss(posterior.model, posterior.guide, X[order], Y[order]) / 12 for _ in range(3)]
    assert run.history[0]["loss"] == pytest.approx(sum(draws) / 3, rel=1e-12)
    assert len(set(draws)) == 3


def test_the_loss_of_an_epoch_is_the_mean_over_its_rows() -> None:
    """Batches of 5, 5 and 2 rows; without a divergence and noise the mean of all rows does not depend on them."""
    posterior = posterior_of()
    posterior.guide.scales.requires_grad_(False)
    with torch.no_grad():
        for name, parameter in posterior.guide.named_parameters():
            if name.startswith("scales"):
                parameter.fill_(-60.0)
            if name.startswith("logits"):
                parameter.copy_(40 * parameter.sign())
    losses = []
    for size in (5, 12):
        options: dict[str, Any] = {"epochs": 1, "batch_size": size, "kl_weight": 0, "rates": STILL}
        losses.append(fit(posterior.model, (X, Y), guide=posterior.guide, **options).history[0])
    assert losses[0]["loss"] == pytest.approx(losses[1]["loss"], rel=1e-9)
    assert losses[0]["loss"] == pytest.approx(losses[0]["train_nll"], rel=1e-6)


# ---- seeds, and what stays as it was ---------------------------------------------------------------------------------
def test_the_seed_decides() -> None:
    model = network("normed")
    one, same, other = (fit(model, (X, Y), epochs=2, batch_size=5, seed=seed) for seed in (0, 0, 1))
    assert is_same(state(one), state(same)) and not is_same(state(one), state(other))
    without = [{k: v for k, v in record.items() if "seconds" not in k} for run in (one, same) for record in run.history]
    assert without[:2] == without[2:]


@pytest.mark.parametrize("guide_class", [AutoSpikeSlab, AutoNormal])
@pytest.mark.parametrize("optimizer", [None, Adam({"lr": 0.01})])
def test_nothing_of_the_user_is_changed(guide_class: type[Any], optimizer: Any) -> None:
    model = network("normed")
    guide = guide_class(model.prior)
    guide()
    names = set(pyro.get_param_store())
    mine = pyro.param("mine", torch.ones(2))
    elbo = SparseELBO(kl_weight=0.3)
    model.net.train()
    model.net.get_submodule("2").eval()
    before = copy.deepcopy((model.state_dict(), {n: p.detach() for n, p in guide.named_parameters()}))
    modes, generator = [module.training for module in model.modules()], torch.get_rng_state()
    run = fit(model, (X, Y), guide=guide, optimizer=optimizer, elbo=elbo, epochs=2, batch_size=6, seed=0)
    assert is_same(before[0], model.state_dict()) and not is_same(before[0], run.model.state_dict())
    assert is_same(before[1], {n: p.detach() for n, p in guide.named_parameters()})
    assert all(parameter.grad is None for parameter in [*model.parameters(), *guide.parameters()])
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generator)
    assert set(pyro.get_param_store()) == names | {"mine"} and pyro.get_param_store()["mine"] is mine
    assert torch.distributions.Distribution._validate_args and poutine.trace(guide.model).get_trace()
    assert elbo.kl_weight == 0.3 and getattr(optimizer, "optim_objs", {}) == {}
    assert run.guide is not guide and run.model is not model


def test_a_failing_run_cleans_up() -> None:
    model = network("normed")
    generator = torch.get_rng_state()

    def callback(record: dict[str, Any], posterior: GuidePosterior) -> None:
        raise KeyError

    with pytest.raises(KeyError):
        fit(model, (X, Y), epochs=2, seed=0, callback=callback)
    assert torch.equal(torch.get_rng_state(), generator) and list(pyro.get_param_store()) == []
    assert torch.distributions.Distribution._validate_args


def test_without_a_seed_the_global_state_goes_on() -> None:
    model = network()
    guide = AutoSpikeSlab(model.prior)
    torch.manual_seed(0)
    one = fit(model, (X, Y), guide=guide, epochs=1)
    two = fit(model, (X, Y), guide=guide, epochs=1)
    torch.manual_seed(0)
    assert is_same(state(one), state(fit(model, (X, Y), guide=guide, epochs=1)))
    assert not is_same(state(one), state(two))


def test_progress(capsys: pytest.CaptureFixture[str]) -> None:
    fit(network(), (X, Y), epochs=1, seed=0)
    assert capsys.readouterr() == ("", "")
    fit(network(), (X, Y), epochs=1, seed=0, progress=True)
    shown = capsys.readouterr().err
    assert "ELBO/datum" in shown and "accuracy" in shown and "nodes 8-7" in shown


# ---- guides, optimisers, elbos ---------------------------------------------------------------------------------------
GUIDES: dict[str, Callable[[Any], Any]] = {
    "centred": lambda model: AutoCentered(model.prior),
    "disarm": lambda model: AutoSpikeSlab(model.prior, gate_gradient="disarm"),
    "relaxed": lambda model: AutoSpikeSlab(model.prior, gates="relaxed"),
    "of the model": lambda model: AutoSpikeSlab(model, X, Y),
    "normal": lambda model: AutoNormal(model.prior, init_loc_fn=initial_value),
    "normal of the model": AutoNormal,
    "multivariate": lambda model: AutoMultivariateNormal(model.prior),
}


@pytest.mark.parametrize("name", GUIDES)
def test_guides(name: str) -> None:
    model = network(mlp(6, (3,), 3).double(), likelihood=network().likelihood)
    run = fit(model, (X, Y), guide=GUIDES[name](model), epochs=15, batch_size=12, rates=FAST, seed=0)
    first, last = (sum(record["loss"] for record in part) for part in (run.history[:5], run.history[-5:]))
    assert last < first
    predicted = run.predict(X, num_samples=2)
    assert set(run.keep()) == {"hidden1"} and predicted[0].sum() == pytest.approx(1)
    if isinstance(run.guide, AutoSpikeSlab):
        assert run.guide.model == run.model.prior


@pytest.mark.parametrize("optimizer", [Adam({"lr": 0.05}), ClippedAdam({"lr": 0.05, "lrd": 0.99}), torch.optim.RMSprop])
@pytest.mark.parametrize("elbo", [None, TraceMeanField_ELBO()])
def test_optimisers_and_elbos(optimizer: Any, elbo: Any) -> None:
    model = network("normed", prior=Gaussian())
    options: dict[str, Any] = {"epochs": 10, "batch_size": 12, "rates": FAST, "seed": 0}
    run = fit(model, (X, Y), optimizer=optimizer, elbo=elbo, **options)
    assert run.history[-1]["loss"] < run.history[0]["loss"] - 0.3
    assert not torch.equal(run.model.net.get_parameter("1.weight"), model.net.get_parameter("1.weight"))


def test_an_optimiser_of_pyro_takes_the_steps_of_torch() -> None:
    """Adam does not see the scale of the loss, if its epsilon is small."""
    posterior = posterior_of()
    options: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 6,
        "schedule": Schedule(decay=0),
        "seed": 2,
        "guide": posterior.guide,
    }
    rates = LearningRates(*[0.01] * 5)
    by_torch = fit(
        posterior.model, (X, Y), rates=rates, optimizer=lambda groups: torch.optim.Adam(groups, eps=1e-30), **options
    )
    by_pyro = fit(posterior.model, (X, Y), optimizer=Adam({"lr": 0.01, "eps": 1e-30}), **options)
    for name, value in state(by_torch).items():
        torch.testing.assert_close(state(by_pyro)[name], value, rtol=1e-6, atol=1e-9)


def test_points_are_trained_in_the_copy() -> None:
    net = nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.SiLU(), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 3))
    net.get_parameter("1.bias").requires_grad_(False)
    model = network(net.double(), bayesian=lambda name, _: not name.startswith("0") and "1." not in name)
    run = fit(model, (X, Y), epochs=3, rates=FAST, seed=0)
    before, after = dict(net.named_parameters()), dict(run.model.net.named_parameters())
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {"0.weight", "0.bias", "1.weight"}
    assert torch.equal(run.median_model().get_parameter("1.weight"), after["1.weight"])
    assert not torch.equal(run.median_model().get_parameter("3.weight"), before["3.weight"])


# ---- the schedule reaches the steps ----------------------------------------------------------------------------------
def test_schedule_of_the_objective() -> None:
    elbo = Watching(local_reparameterization=True)
    fit(
        network(),
        (X, Y),
        epochs=4,
        batch_size=6,
        schedule=Schedule(hold=1, freeze=1, kl_warmup=2, frozen_kl_weight=0.1, temperature=(1.0, 0.0625)),
        kl_weight=0.8,
        elbo=elbo,
        seed=0,
    )
    assert [s["kl_weight"] for s in elbo.seen] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8, 0.1, 0.1])
    assert [s["temperature"] for s in elbo.seen] == pytest.approx([2 ** (-i / 2) for i in range(8)], rel=1e-6)
    assert [s["gates"] for s in elbo.seen] == [*["open"] * 2, *["free"] * 4, *["frozen"] * 2]
    assert all(s["training"] for s in elbo.seen)
    epochs = [torch.cat([s["rows"] for s in elbo.seen[i : i + 2]]) for i in range(0, 8, 2)]
    assert all(sorted(epoch.tolist()) == sorted(X.tolist()) for epoch in epochs)
    assert len({tuple(epoch[:, 0].tolist()) for epoch in epochs}) == 4


@pytest.mark.parametrize("optimizer", [None, Adam({"lr": 0.05}), ClippedAdam({"lr": 0.05})])
def test_gates_move_while_they_are_free_alone(optimizer: Any) -> None:
    seen: list[list[Tensor]] = []
    model = network()
    guide = AutoSpikeSlab(model.prior)

    def gates(guide: Any) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in guide.parameter_groups()["gates"]]

    def callback(record: dict[str, Any], posterior: GuidePosterior) -> None:
        seen.append(gates(posterior.guide))

    options: dict[str, Any] = {"epochs": 5, "batch_size": 6, "schedule": Schedule(hold=2, freeze=2), "seed": 0}
    run = fit(model, (X, Y), guide=guide, optimizer=optimizer, callback=callback, **options)

    def is_moved(one: list[Tensor], other: list[Tensor]) -> bool:
        return not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))

    epochs = [gates(guide), *seen]
    assert [is_moved(a, b) for a, b in zip(epochs, epochs[1:], strict=False)] == [False, False, True, False, False]
    assert [record["gates"] for record in run.history] == ["open", "open", "free", "frozen", "frozen"]
    assert run.guide.gate_mode == "frozen"
    draws = [run.guide() for _ in range(3)]
    assert all(torch.equal(d["hidden1.gate"], run.keep()["hidden1"].double()) for d in draws)


# ---- records, validation, stopping -----------------------------------------------------------------------------------
def test_records() -> None:
    run = fit(network(select_inputs=True), (X, Y), epochs=2, batch_size=5, seed=0)
    for epoch, record in enumerate(run.history, start=1):
        assert record["epoch"] == epoch and record["kl_weight"] == 1 and record["gates"] == "free"
        assert record["nodes_kept"] == {"inputs": 6, "hidden1": 8, "hidden2": 7} and record["seconds"] > 0
        assert {"train_accuracy", "train_nll", "train_ece", "train_brier", "loss"} < set(record)
    assert run.history[-1]["train_nll"] == pytest.approx(run.evaluate_median(X, Y)["nll"], rel=1e-12)
    assert run.kl_weight == 1 and not run.tempered and not any(module.training for module in run.model.net.modules())


def test_the_weight_that_the_posterior_was_fitted_with() -> None:
    options: dict[str, Any] = {
        "epochs": 3,
        "schedule": Schedule(freeze=1, frozen_kl_weight=0.1),
        "kl_weight": 0.5,
        "seed": 0,
    }
    assert fit(network(), (X, Y), **options).kl_weight == 0.1
    stopped = fit(network(), (X, Y), callback=lambda record, posterior: record["epoch"] == 2, **options)
    assert stopped.kl_weight == 0.5 and stopped.history[-1]["kl_weight"] == 0.5
    warming = fit(network(), (X, Y), epochs=2, batch_size=len(X), schedule=Schedule(kl_warmup=4), seed=0)
    assert (
        warming.kl_weight == 0.25 and warming.tempered
    )  # the last step's: the run ended before the weight was reached


def test_a_point_that_is_not_contiguous_is_trained() -> None:
    net: Any = mlp(6, (8,), 3).double()
    net.output.weight.data = net.output.weight.data.t().contiguous().t()
    model = network(net, bayesian=lambda name, parameter: name.startswith("hidden1"))
    moved = fit(model, (X, Y), epochs=1, seed=0).model.net.get_parameter("output.weight")
    assert not torch.equal(moved, net.output.weight)


def test_a_fraction_is_held_out() -> None:
    elbo = Watching()
    run = fit(network(num_data=9), (X, Y), epochs=3, validation=0.25, batch_size=4, elbo=elbo, seed=0)
    trained = {tuple(row) for seen in elbo.seen for row in seen["rows"].tolist()}
    held_out = torch.tensor([tuple(row) not in trained for row in X.tolist()])
    assert len(trained) == 9 and int(held_out.sum()) == 3
    expected = run.evaluate_median(X[held_out], Y[held_out])
    assert {k: run.history[-1][f"validation_{k}"] for k in expected} == pytest.approx(expected)
    again = fit(network(num_data=9), (X, Y), epochs=3, validation=0.25, batch_size=4, seed=0)
    assert again.history[-1]["validation_nll"] != run.history[-1]["validation_nll"] or is_same(state(again), state(run))


def test_validation_data() -> None:
    x, y = inputs(20), labels(20)
    run = fit(network(), (X, Y), epochs=2, validation=(x.float(), y), seed=0)
    expected = run.evaluate_median(x.float(), y)
    assert {k: run.history[-1][f"validation_{k}"] for k in expected} == pytest.approx(expected)
    assert not any(key.startswith("train_") for key in run.history[-1])


def test_patience() -> None:
    options: dict[str, Any] = {"epochs": 9, "validation": (X, Y), "rates": STILL, "seed": 0}
    assert len(fit(network(), (X, Y), schedule=Schedule(patience=2), **options).history) == 3
    assert len(fit(network(), (X, Y), schedule=Schedule(patience=2, hold=3), **options).history) == 6
    assert len(fit(network(), (X, Y), **options).history) == 9


def test_a_layer_that_ends_empty_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    few = load("digits", flatten=True).train
    x, y = few.x[:150], few.y[:150]
    prior = SpikeSlab(GroupHorseshoe())
    model = SparseNetwork(mlp(64, (50,), 10), x[:2], prior=prior, likelihood=Categorical(), num_data=150)
    fast = LearningRates(gates=0.1, scales=0.03, slab_scales=0.03)
    run = fit(model, (x, y), epochs=80, rates=fast, seed=0)
    assert not run.keep()["hidden1"].any()
    constant = prune(run)(x)
    assert torch.equal(constant, constant[:1].expand_as(constant))
    (warning,) = (record.getMessage() for record in caplog.records)
    assert warning == empty_warning(["hidden1"], 1.0) and "lower the KL weight" in warning
    caplog.clear()
    fit(model, (x, y), epochs=2, rates=fast, seed=0)
    assert not caplog.records


def test_the_callback_sees_the_posterior_and_can_stop() -> None:
    seen: list[tuple[int, float]] = []

    def callback(record: dict[str, Any], posterior: GuidePosterior) -> bool:
        assert posterior.history[-1] is record and len(posterior.history) == record["epoch"]
        assert isinstance(posterior.predict(X, num_samples=1), Tensor)
        seen.append((record["epoch"], posterior.evaluate_median(X, Y)["nll"]))
        return len(seen) == 2

    run = fit(network(), (X, Y), epochs=9, seed=0, callback=callback)
    assert len(run.history) == 2
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert [nll for _, nll in seen] == pytest.approx([record["train_nll"] for record in run.history])


# ---- does it learn? --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("likelihood", "outputs"), [(GaussianNoise(), 1), (GaussianNoise(0.3), 1), (HeteroscedasticNoise(), 2)]
)
def test_it_learns_a_linear_function(likelihood: Likelihood, outputs: int) -> None:
    x = inputs(60)
    y = x[:, 0] - 0.5 * x[:, 1] + 0.3 * torch.randn(60, generator=torch.Generator().manual_seed(2)).double()
    net = nn.Linear(6, outputs).double()
    model = network(net, prior=Gaussian(), likelihood=likelihood, num_data=60)
    run = fit(model, (x, y), epochs=20, batch_size=12, rates=FAST, seed=0)
    predicted = run.predict(x, num_samples=20, return_draws=True)
    assert isinstance(predicted, Normals)
    clean = x[:, 0] - 0.5 * x[:, 1]
    assert float((predicted[0].mean(0) - clean).square().mean().sqrt()) < 0.4
    assert 0.15 < float(predicted[1].mean()) < 0.8
    assert run.history[-1]["train_rmse"] < 0.5 < run.history[0]["train_rmse"]


def test_it_learns_to_classify_and_to_prune() -> None:
    x, y = inputs(90), labels(90)
    prior = SpikeSlab(Gaussian(), inclusion=0.1)
    model = network(mlp(6, (8,), 3).double(), prior=prior, num_data=90, select_inputs=True)
    run = fit(model, (x, y), epochs=25, batch_size=15, schedule=Schedule(hold=8, freeze=3), rates=FAST, seed=0)
    kept = run.history[-1]["nodes_kept"]
    assert run.history[-1]["train_accuracy"] > 0.7
    assert run.keep()["inputs"][:2].all() and kept["inputs"] <= 3 and 2 <= kept["hidden1"] < 8


def test_a_linear_model_has_the_posterior_of_ridge_regression() -> None:
    """Means are the exact posterior's, and standard deviations those of mean field, by the precision's diagonal."""
    x, noise = inputs(40, 6), 0.5
    y = x @ torch.tensor([1.0, -1, 0.5, 0, 0, 2]).double() + 0.7 + noise * torch.randn(40).double()
    model = network(nn.Linear(6, 1).double(), prior=Gaussian(), likelihood=GaussianNoise(noise), num_data=40)
    options: dict[str, Any] = {"epochs": 80, "batch_size": 8, "schedule": Schedule(decay=0.8), "seed": 0}
    run = fit(model, (x, y), rates=LearningRates(slab_locs=0.06, slab_scales=0.03), **options)
    design = torch.cat([x, torch.ones(40, 1).double()], 1)
    precision = design.T @ design / noise**2 + torch.eye(7).double()
    mean = torch.linalg.solve(precision, design.T @ y / noise**2)
    values = run.median_values()
    found = torch.cat([values["weight"].flatten(), values["bias"]])
    sd = precision.diagonal().rsqrt()
    assert ((found - mean).abs() < 0.5 * sd).all()
    scales = torch.cat([run.guide.scales.weight.flatten(), run.guide.scales.bias]).detach()
    torch.testing.assert_close(scales, sd, rtol=0.25, atol=0)


def test_dtype_follows_the_data() -> None:
    run = fit(network("normed"), (X.float(), Y), epochs=1, seed=0)
    assert all(p.dtype == torch.float32 for p in [*run.guide.parameters(), *run.model.parameters()])
    model = network(mlp(6, (4,), 1), likelihood=GaussianNoise())
    run = fit(model, (X, X[:, 0].float()), epochs=1, seed=0, guide=AutoSpikeSlab(model.prior))
    assert all(p.dtype == torch.float64 for p in [*run.guide.parameters(), *run.model.parameters()])


# ---- engines ---------------------------------------------------------------------------------------------------------
def test_a_traced_run_learns_what_an_eager_one_does() -> None:
    """Through all modes of the gates and with a smaller last batch; the noise comes in another order."""
    x, y = inputs(90), labels(90)
    prior = SpikeSlab(Gaussian(), inclusion=0.1)
    model = network(mlp(6, (8,), 3).double(), prior=prior, num_data=90, select_inputs=True)
    options: dict[str, Any] = {"epochs": 25, "batch_size": 20, "schedule": Schedule(hold=8, freeze=3), "rates": FAST}
    for engine in ("eager", "traced"):
        run = fit(model, (x, y), seed=0, compute=Compute(engine=engine), **options)
        kept = run.history[-1]["nodes_kept"]
        assert run.history[-1]["train_accuracy"] > 0.7
        assert run.keep()["inputs"][:2].all() and kept["inputs"] <= 3 and 2 <= kept["hidden1"] < 8


def test_the_engines_leave_parameters_with_memory_of_their_own() -> None:
    """They can be copied, pickled and trained on, and one of them changed alone."""
    model = network(mlp(6, (3,), 3).double(), prior=SpikeSlab(Gaussian(), inclusion=0.3))
    run = fit(model, (X, Y), epochs=2, batch_size=6, seed=0, compute=Compute(engine="traced"))
    tensors = [*run.guide.parameters(), *run.model.parameters()]
    assert len({p.untyped_storage().data_ptr() for p in tensors}) == len(tensors)
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in tensors)
    for again in (copy.deepcopy(run.guide), pickle.loads(pickle.dumps(run.guide))):
        assert is_same(again.state_dict(), run.guide.state_dict())
    before = state(run)
    on = fit(run.model, (X, Y), guide=run.guide, epochs=1, seed=0, compute=Compute(engine="traced"))
    assert is_same(before, state(run)) and not is_same(before, state(on))


def test_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, in the first epoch, for whole batches in all modes of the gates; the smaller last batch is not compiled."""
    compiled = fake_compile(monkeypatch)
    monkeypatch.setattr(engines, "_gain", lambda module: 0.1)
    seen: list[int] = []

    def callback(record: dict[str, Any], posterior: GuidePosterior) -> None:
        seen.append(len(compiled))
        assert record["compile_seconds"] > 0

    x, y = inputs(82), labels(82)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    model = network(mlp(6, (3,), 3).double(), prior=prior, num_data=82)
    options: dict[str, Any] = {
        "epochs": 12,
        "schedule": Schedule(hold=3, freeze=3, kl_warmup=4, temperature=(1.0, 0.3)),
        "batch_size": 4,
        "seed": 0,
    }
    fit(model, (x, y), callback=callback, **options)
    assert seen == [1] * 12


class Branching(nn.Module):
    """A net that looks at its values."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Turn the sign of batches with a negative mean."""
        h = self.first(x)
        return self.second((h if h.mean() > 0 else -h).sigmoid())  # type: ignore[no-any-return]


@pytest.mark.parametrize("engine", ["auto", "compiled"])
def test_a_net_with_a_branch_runs_eagerly(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = network(Branching().double(), exclude=("first",), prior=Gaussian())
    options: dict[str, Any] = {"epochs": 110, "batch_size": 6, "rates": STILL, "schedule": Schedule(decay=0), "seed": 0}
    with caplog.at_level(logging.INFO, "bnn_pyro"):
        run = fit(model, (X, Y), compute=Compute(engine=engine), **options)
    said = [record.message for record in caplog.records if "cannot be traced" in record.message]
    assert len(said) == 1
    eager = fit(model, (X, Y), compute=Compute(engine="eager"), **options)
    assert is_same(state(run), state(eager))
    assert [r["loss"] for r in run.history] == pytest.approx([r["loss"] for r in eager.history], rel=1e-12)


@pytest.mark.parametrize("rows", [LOCAL_ROWS, LOCAL_ROWS + 1])
def test_outputs_are_drawn_for_small_batches_alone(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the ELBO says itself what is drawn; the user's own stays as it is."""
    seen: list[Any] = []
    make = stepper

    def noted(model: Any, guide: Any, optimizer: Any, objective: Any, *rest: Any) -> Any:
        seen.append((objective.local_reparameterization, objective.num_particles))
        return make(model, guide, optimizer, objective, *rest)

    monkeypatch.setattr(svi, "stepper", noted)
    x, y = inputs(300), labels(300)
    twice = SparseELBO(num_particles=2)
    for elbo in (None, twice, SparseELBO(local_reparameterization=True)):
        fit(network(num_data=300), (x, y), epochs=1, batch_size=rows, elbo=elbo, seed=0)
    chosen = "exact" if rows <= LOCAL_ROWS else False
    assert seen == [(chosen, 1), (chosen, 2), (True, 1)] and twice.local_reparameterization is None


# ---- what bad input gets ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": (X * float("nan"), Y)}, "data must be finite, got NaN or infinite values in x"),
        ({"data": (X / 0, Y)}, "data must be finite"),
        ({"data": (X[:0], Y[:0])}, "data must have as many rows in y as in x, and one at least"),
        ({"data": (X, Y[:5])}, "got 12 and 5"),
        ({"data": (X.long(), Y)}, "floating-point inputs"),
        ({"data": X}, "data must be a pair"),
        ({"data": (X, Y + 1)}, "data does not fit the likelihood: y must hold labels in 0 ... 2"),
        ({"data": (X, Y.float())}, "dtype torch.int64"),
        ({"data": (inputs(12, 5), Y)}, r"inputs of shape \(rows, 6\), got \(12, 5\)"),
        ({"data": (inputs(13), labels(13))}, r"num_data must be the number of training rows .* \(13\), got 12"),
        (
            {"validation": 0.25},
            r"num_data must be the number of training rows after the validation split \(9\), got 12",
        ),
        ({"validation": 1.5}, "validation must be a fraction in"),
        ({"validation": (X, Y + 1)}, "validation does not fit the likelihood"),
        ({"validation": (X[:0], Y[:0])}, "validation must have as many rows"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"schedule": Schedule(patience=1)}, "patience needs validation data"),
        ({"kl_weight": -1}, "kl_weight must be finite and not negative, got -1"),
        ({"schedule": Schedule(hold=2, freeze=1)}, r"hold \+ freeze must be below epochs \(3\)"),
        ({"clip_norm": 0}, "clip_norm must be positive, got 0"),
        ({"clip_norm": 1, "optimizer": Adam({})}, "give a Pyro optimiser its own clip_args"),
        ({"schedule": Schedule(shrink_below=0.1), "optimizer": Adam({})}, "shrink_below needs a torch optimiser"),
        ({"optimizer": torch.optim.SGD([torch.ones(1)])}, "or a function from parameter groups .* got SGD"),
        ({"model": nn.Linear(6, 3)}, "model must be a SparseNetwork, got Linear; use pyro.infer.SVI"),
        ({"guide": lambda x, y: None}, "guide must be one of ours or an AutoGuide of Pyro, got function"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    given = {"model": network(), "data": (X, Y), "epochs": 3, **options}
    with pytest.raises(ValueError, match=message):
        fit(**given)
    assert list(pyro.get_param_store()) == []


@pytest.mark.parametrize("option", [{"hold": 1}, {"freeze": 1}, {"temperature": 0.3}, {"shrink_below": 0.1}])
def test_what_a_guide_of_pyro_cannot_do(option: dict[str, Any]) -> None:
    model = network()
    with pytest.raises(
        ValueError, match=f"{next(iter(option))} needs an AutoSpikeSlab or AutoCentered guide, got Auto"
    ):
        fit(model, (X, Y), guide=AutoNormal(model.prior), epochs=3, schedule=Schedule(**option))


def test_a_temperature_is_of_straight_through_or_relaxed_gates() -> None:
    short: dict[str, Any] = {"epochs": 1, "seed": 0, "compute": Compute(engine="eager")}
    assert fit(network(), (X, Y), **short).guide.gate_gradient == "reinmax"
    with_temperature = Schedule(temperature=0.3)
    assert fit(network(), (X, Y), schedule=with_temperature, **short).guide.gate_gradient == "straight-through"
    model = network()
    relaxed = AutoSpikeSlab(model.prior, gates="relaxed")
    posterior = fit(model, (X, Y), guide=relaxed, schedule=with_temperature, **short)
    assert float(posterior.guide.temperature) == pytest.approx(0.3)
    with pytest.raises(ValueError, match="temperature needs a guide with relaxed gates or .*, got .*'disarm'"):
        fit(model, (X, Y), guide=AutoSpikeSlab(model.prior, gate_gradient="disarm"), schedule=with_temperature)


def test_disarm_needs_our_elbo() -> None:
    model = network()
    guide = AutoSpikeSlab(model.prior, gate_gradient="disarm")
    with pytest.raises(
        ValueError, match="elbo must be a SparseELBO for a guide with gate_gradient='disarm', got Trace"
    ):
        fit(model, (X, Y), guide=guide, elbo=Trace_ELBO())


def test_a_loss_that_is_not_finite() -> None:
    rates = LearningRates(slab_locs=1e200)
    with pytest.raises(ValueError, match="the loss must stay finite, got weights that diverged in epoch 1: lower"):
        fit(network(), (X, Y), epochs=5, rates=rates, batch_size=12, seed=0)
    with pytest.raises(Diverged, match="the loss must stay finite, got (nan|inf) in epoch 1, step 2: .*; lower rates"):
        fit(network(), (X, Y), epochs=5, rates=rates, batch_size=6, seed=0)


@pytest.mark.gpu
@pytest.mark.parametrize("validation", [None, (X, Y)])
def test_on_a_gpu(validation: Any) -> None:
    options: dict[str, Any] = {
        "epochs": 3,
        "schedule": Schedule(freeze=1, shrink_below=0.4),
        "seed": 0,
        "batch_size": 6,
    }
    state_before = torch.cuda.get_rng_state()
    run = fit(network("concat"), (X.cuda(), Y.cuda()), validation=validation, **options)
    assert all(tensor.is_cuda for tensor in state(run).values())
    assert torch.equal(torch.cuda.get_rng_state(), state_before)
    again = fit(network("concat").cuda(), (X.cuda(), Y.cuda()), validation=validation, **options)
    for name, value in state(run).items():
        torch.testing.assert_close(state(again)[name], value)


def test_a_network_with_batch_norms_can_be_fitted() -> None:
    """In training each batch has its own statistics; the net that is evaluated has the running ones."""
    model = network("residual convolutions", prior=SpikeSlab(Gaussian(), inclusion=0.3))
    before = buffers(model.net)
    run = fit(model, (inputs(), labels()), epochs=2, batch_size=6, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in model.net.named_buffers())
    assert not torch.equal(run.model.net.get_buffer("norm.running_mean"), before["norm.running_mean"])
    torch.testing.assert_close(prune(run)(inputs()), run.median_model()(inputs()), rtol=0, atol=1e-10)
    assert run.settled is not None and run.num_draws == 32
    assert torch.equal(run.predict(inputs()), run.predict(inputs()))  # no draw is made afresh
    again = fit(model, (inputs(), labels()), epochs=2, batch_size=6, seed=0)
    assert torch.equal(again.predict(inputs()), run.predict(inputs()))
