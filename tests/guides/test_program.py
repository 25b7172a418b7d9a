"""The part all guides share: any Pyro model, plates, other sites, gate modes, copies, and what bad input gets."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoGuideList, AutoNormal, init_to_median, init_to_sample, init_to_value
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroSample
from pyro.optim import PyroOptim
from torch import Tensor, nn

from bnn_pyro.inference.svi.elbo import SparseELBO, elbo_terms
from bnn_pyro.priors import gate, group_lasso_scale, half_cauchy, slab, spike_slab_gaussian
from guides import AutoCentered, AutoProgram, AutoSpikeSlab, GatedNormal, HardGate
from guides.sites import base_distribution
from tests.models import DOUBLE, data, gradients, hints, linear, loc_and_scale, logits, perturbed, traced

GUIDES = (AutoSpikeSlab, AutoCentered)


Guide = type[AutoProgram]


def double(*values: float) -> Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=DOUBLE)


def mixed(x: Tensor, y: Tensor | None = None) -> Tensor:
    """A model with a site of every kind: gates, slabs, a scale, and two others."""
    s = pyro.sample("s", dist.HalfNormal(double(1)))
    z = gate("z", double(0.3), size=3)
    w = slab("w", (3,), scale=s.unsqueeze(-1), gates={"z": -1})
    share = pyro.sample("share", dist.Beta(double(2), double(2)))
    simplex = pyro.sample("simplex", dist.Dirichlet(torch.ones(3, dtype=DOUBLE)))
    with pyro.plate("data", len(x)):
        observed: Tensor = pyro.sample("y", dist.Normal((x * z * w * simplex).sum(-1) * share, 0.5), obs=y)
    return observed


def step_down(model: Callable[..., Any], guide: Any, *args: Any, steps: int = 15, elbo: Any = None) -> float:
    """Trains a guide by Pyro's own SVI and returns by how much the bound has gone up, with the same noise."""
    svi = SVI(model, guide, PyroOptim(torch.optim.Adam, {"lr": 0.1}), elbo or TraceMeanField_ELBO())

    def loss() -> float:
        torch.manual_seed(6)
        return float(sum(svi.evaluate_loss(*args) for _ in range(5)) / 5)

    before = loss()
    for _ in range(steps):
        svi.step(*args)
    return before - loss()


# ---- plain use -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("elbo", [SparseELBO(), TraceMeanField_ELBO(), Trace_ELBO()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("guide", GUIDES)
def test_guides_train_in_pyros_svi(guide: Guide, elbo: Any) -> None:
    x, y = data(30)
    answer = guide(mixed, x, y)
    names = {name for name, _ in answer.named_parameters()}
    assert step_down(mixed, answer, x, y, elbo=elbo) > 1
    stored = {f"{guide.__name__}.{name.removesuffix('_unconstrained')}" for name in names}
    assert set(pyro.get_param_store().keys()) == stored
    with pyro.get_param_store().scope():
        pyro.clear_param_store()
        assert {name for name, _ in answer.named_parameters()} == names


def test_disarm_gates_need_our_elbo() -> None:
    x, y = data()
    answer = AutoSpikeSlab(linear, x, y, gate_gradient="disarm")
    with pytest.raises(NotImplementedError, match="reparameterized"):
        TraceMeanField_ELBO().differentiable_loss(linear, answer, x, y)
    assert step_down(linear, answer, x, y, elbo=SparseELBO()) > 0


def test_the_kinds_of_sites() -> None:
    answer = AutoSpikeSlab(mixed, *data())
    assert answer.kinds == {"s": "scale", "z": "gate", "w": "slab", "share": "other", "simplex": "other"}
    assert answer.observed == {"y"}


def test_model_itself_and_its_arguments_stay_as_they_were() -> None:
    x, y = data()
    before = x.clone(), y.clone()
    answer = AutoSpikeSlab(mixed, x, y)
    answer(x, y)
    assert answer.model is mixed
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])


def test_scales_of_all_kinds() -> None:
    """Each positive site is answered by a LogNormal that finds its posterior's place: here by known data."""
    priors = {
        "half_normal": dist.HalfNormal(double(3)),
        "half_cauchy": dist.HalfCauchy(double(1)),
        "log_normal": dist.LogNormal(double(0), double(1)),
        "exponential": dist.Exponential(double(1)),
        "gamma": dist.Gamma(double(2), double(1)),
    }

    def model(y: Tensor) -> None:
        for name, prior in priors.items():
            scale = pyro.sample(name, prior)
            with pyro.plate(f"{name}_data", len(y)):
                pyro.sample(f"{name}_y", dist.Normal(double(0), scale), obs=y)

    y = 2 * torch.randn(400, dtype=DOUBLE)
    answer = AutoSpikeSlab(model, y)
    assert set(answer.kinds.values()) == {"scale"}
    assert {type(fn).__name__ for fn in answer._answers(y).posteriors.values()} == {"LogNormal"}
    step_down(model, answer, y, steps=60)
    for value in answer.median(y).values():
        assert float(value) == pytest.approx(float(y.std()), rel=0.15)


def others() -> None:
    pyro.sample("simplex", dist.Dirichlet(double(2, 3, 4)))
    pyro.sample("student", dist.StudentT(double(4), double(1), double(2)))
    pyro.sample("share", dist.Beta(double(2, 3), double(4, 2)).to_event(1))
    pyro.sample("between", dist.Uniform(double(-1), double(5)))
    pyro.sample("vector", dist.MultivariateNormal(double(1, 2), torch.eye(2, dtype=DOUBLE)))


def test_other_sites_stay_in_their_support_and_near_the_prior() -> None:
    answer = AutoSpikeSlab(others)
    assert set(answer.kinds.values()) == {"other"}
    step_down(others, answer, steps=80)
    draws = Predictive(others, guide=answer, num_samples=2000, parallel=True)()
    torch.testing.assert_close(draws["simplex"].sum(-1), torch.ones(2000, dtype=DOUBLE))
    means = {"simplex": double(2, 3, 4) / 9, "share": double(1 / 3, 0.6), "between": double(2), "vector": double(1, 2)}
    for name, mean in means.items():
        assert (draws[name].mean(0) - mean).abs().max() < (0.6 if name == "between" else 0.2)
    assert ((draws["between"] > -1) & (draws["between"] < 5)).all()
    medians = answer.median()
    torch.testing.assert_close(medians["simplex"].sum(), double(1))
    assert medians["share"].shape == (2,)


# ---- plates ----------------------------------------------------------------------------------------------------------
def local(x: Tensor, y: Tensor, size: int | None = 4) -> None:
    """A model with gates, slabs, scales and shares of each row of the data."""
    with pyro.plate("rows", len(x), subsample_size=size) as rows:
        z = pyro.sample("z", dist.RelaxedBernoulli(double(0.5), probs=double(0.4)))
        s = pyro.sample("s", dist.LogNormal(double(0), double(1)))
        w = pyro.sample("w", dist.Normal(double(0), s), infer=hints(gates={"z": -1}))
        v = pyro.sample("v", dist.Normal(double(0), double(1)).expand((2,)).to_event(1))
        share = pyro.sample("share", dist.Dirichlet(torch.ones(3, dtype=DOUBLE)))
        pyro.sample("y", dist.Normal(z * w + v.sum(-1) + share[..., 0], 0.5), obs=y[rows])


@pytest.mark.parametrize("guide", GUIDES)
def test_local_latents_in_a_subsampling_plate(guide: Guide) -> None:
    """Parameters have a row for each entry of the plate, and each step moves those that it has drawn."""
    x, y = data(10)
    answer = perturbed(guide(local, x, y))
    shapes = {(role, site): tuple(p.shape) for role, site, p in answer.named_site_parameters()}
    sizes = {"s": (10,), "w": (10,), "v": (10, 2), "share": (10, 2)}
    assert shapes == {("logits", "z"): (10,), **{(r, s): size for s, size in sizes.items() for r in ("locs", "scales")}}
    for elbo in (SparseELBO(), TraceMeanField_ELBO(), Trace_ELBO()):
        torch.manual_seed(1)
        rows = traced(answer)(x, y).nodes["rows"]["value"]
        torch.manual_seed(1)
        loss = elbo.differentiable_loss(local, answer, x, y)
        drawn = torch.zeros(10, dtype=torch.bool).index_fill(0, rows, True)
        assert int(drawn.sum()) == 4
        for slope in gradients(loss, answer).values():
            moved = slope.reshape(10, -1).abs().sum(-1) > 0
            assert torch.equal(moved, drawn)
    assert answer(x, y)["v"].shape == (4, 2)
    assert answer.median(x, y)["share"].shape == (4, 3)
    quantiles = answer.quantiles([0.5], x, y)
    assert {name: tuple(value.shape) for name, value in quantiles.items() if name != "w"} == {
        **{"z": (1, 4), "s": (1, 4)},
        "v": (1, 4, 2),
    }
    assert ("w" in quantiles) is (guide is AutoCentered)


def test_subsampling_is_unbiased() -> None:
    """The bound of a batch is that of all rows in the mean: 100 losses each way at 5 standard errors."""
    x, y = data(10)
    answer = perturbed(AutoSpikeSlab(local, x, y))

    def losses(size: int | None) -> Tensor:
        return torch.tensor([SparseELBO().loss(local, answer, x, y, size=size) for _ in range(100)])

    batch, full = losses(4), losses(None)
    error = ((batch.var() + full.var()) / 100).sqrt()
    assert (batch.mean() - full.mean()).abs() < 5 * error


def test_a_guide_for_all_rows_serves_batches() -> None:
    x, y = data(10)
    answer = AutoSpikeSlab(local, x, y, size=None)
    assert answer(x, y, size=3)["w"].shape == (3,)
    assert step_down(local, answer, x, y) > 0


def test_nested_plates() -> None:
    def model(y: Tensor) -> None:
        columns = pyro.plate("columns", 3, dim=-1)
        with columns:
            scale = pyro.sample("scale", dist.Exponential(double(1)))
        with pyro.plate("rows", 6, subsample_size=2, dim=-2), columns:
            z = gate("z", double(0.4), size=2)
            w = slab("w", (2,), scale=scale.unsqueeze(-1), gates={"z": -1})
            pyro.sample("y", dist.Normal((z * w).sum(-1), 1.0), obs=y)

    y = torch.randn(2, 3, dtype=DOUBLE)
    answer = AutoSpikeSlab(model, y)
    shapes = {(role, site): tuple(p.shape) for role, site, p in answer.named_site_parameters()}
    assert shapes["logits", "z"] == shapes["locs", "w"] == (6, 3, 2)
    assert shapes["locs", "scale"] == (3,)
    draws = answer(y)
    assert (draws["scale"].shape, draws["z"].shape, draws["w"].shape) == ((3,), (2, 3, 2), (2, 3, 2))
    torch.testing.assert_close(*(one_loss(elbo, model, answer, y) for elbo in (SparseELBO(), TraceMeanField_ELBO())))


def one_loss(elbo: Any, model: Any, guide: Any, *args: Any) -> Tensor:
    torch.manual_seed(2)
    found: Tensor = elbo.differentiable_loss(model, guide, *args)
    return found


def test_sequential_plates() -> None:
    def model(y: Tensor) -> None:
        rows: Any = pyro.plate("rows", 3)
        for i in rows:
            w = pyro.sample(f"w{i}", dist.Normal(double(0), double(1)))
            pyro.sample(f"y{i}", dist.Normal(w, double(1)), obs=y[i])

    y = torch.randn(3, dtype=DOUBLE)
    answer = AutoSpikeSlab(model, y)
    assert set(answer(y)) == {"w0", "w1", "w2"}
    assert step_down(model, answer, y) > 0


# ---- models of all sorts ---------------------------------------------------------------------------------------------
def test_model_with_parameters_effects_and_modules() -> None:
    """Point parameters, deterministic sites, factors, scales and masks are the model's own business."""
    layer = nn.Linear(3, 1).double()

    def model(x: Tensor, y: Tensor) -> None:
        net = pyro.module("net", layer)
        offset = pyro.param("offset", double(0.5))
        z = gate("z", double(0.3), size=3)
        with poutine.scale(scale=2.0), poutine.mask(mask=True):
            w = slab("w", (3,), scale=double(1), gates={"z": -1})
        pyro.deterministic("zw", z * w)
        pyro.factor("penalty", -w.square().sum())
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(net(x).squeeze(-1) + x @ (z * w) + offset, 0.5), obs=y)

    x, y = data()
    answer = AutoSpikeSlab(model, x, y)
    assert set(answer.kinds) == {"z", "w"}
    assert answer.observed == {"zw", "penalty", "y"}
    assert set(answer(x, y)) == {"z", "w"}
    torch.testing.assert_close(*(one_loss(elbo, model, answer, x, y) for elbo in (SparseELBO(), TraceMeanField_ELBO())))
    before = layer.weight.detach().clone()
    assert step_down(model, answer, x, y) > 0
    assert not torch.equal(layer.weight, before)


def test_model_that_is_a_pyro_module() -> None:
    class Layer(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.weight = PyroSample(dist.Normal(double(0), double(1)).expand((3,)).to_event(1))

        def forward(self, x: Tensor, y: Tensor | None = None) -> None:
            weight: Any = self.weight
            mean = x @ weight
            with pyro.plate("data", len(x)):
                pyro.sample("y", dist.Normal(mean, 0.5), obs=y)

    x, y = data()
    model = Layer()
    answer = AutoSpikeSlab(model, x, y)
    assert not list(model.parameters()), "the guide must not be part of the model"
    assert {n for n, _ in answer.named_parameters()} == {"locs.weight_unconstrained", "scales.weight_unconstrained"}
    assert step_down(model, answer, x, y) > 0


def test_reparameterised_and_conditioned_models() -> None:
    x, y = data()
    reparameterised = poutine.reparam(mixed, {"w": LocScaleReparam(0.0)})
    assert set(AutoSpikeSlab(reparameterised, x, y).kinds) == {"s", "z", "w_decentered", "share", "simplex"}
    conditioned = poutine.condition(mixed, {"s": double(0.7)})
    answer = AutoSpikeSlab(conditioned, x, y)
    assert set(answer(x, y)) == {"z", "w", "share", "simplex"}
    slab_posterior = base_distribution(answer._answers(x, y).posteriors["w"])
    assert isinstance(slab_posterior, GatedNormal)
    torch.testing.assert_close(slab_posterior.prior_scale, double(0.7).expand(3))


def test_guide_is_a_part_of_a_list() -> None:
    x, y = data()
    answer = AutoGuideList(mixed)
    answer.append(AutoSpikeSlab(poutine.block(mixed, hide=["share", "simplex"]), x, y))
    answer.append(AutoNormal(poutine.block(mixed, expose=["share", "simplex"])))
    assert set(answer(x, y)) == {"s", "z", "w", "share", "simplex"}
    assert step_down(mixed, answer, x, y, elbo=Trace_ELBO()) > 0
    assert set(answer.median(x, y)) == {"s", "z", "w", "share", "simplex"}


def test_guide_of_a_program_of_latents_alone() -> None:
    """A guide may run a program of the latent sites without data, and serve the whole model."""

    def prior(*args: Any) -> Tensor:
        return spike_slab_gaussian("w", (3,), inclusion=double(0.3))

    def model(x: Tensor, y: Tensor) -> None:
        w = prior()
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ w, 0.5), obs=y)

    x, y = data()
    answer = AutoSpikeSlab(prior)
    torch.testing.assert_close(*(one_loss(elbo, model, answer, x, y) for elbo in (SparseELBO(), TraceMeanField_ELBO())))
    assert set(answer()) == {"w.gate", "w.weight"}
    trace = traced(answer.run)(model, x, y)
    assert trace.nodes["y"]["is_observed"]
    assert isinstance(trace.nodes["w.weight"]["infer"]["prior"].base_dist, dist.Normal)


# ---- gates -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["open", "frozen"])
@pytest.mark.parametrize("gates", ["hard", "relaxed"])
@pytest.mark.parametrize("gate_gradient", ["reinmax", "straight-through", "disarm"])
def test_gates_held_open_or_frozen(mode: Any, gates: Any, gate_gradient: Any) -> None:
    """They are 1, or 1 where gamma > 1/2; they do not learn, and slabs of frozen gates count wholly or not at all."""
    if gates == "relaxed" and gate_gradient == "disarm":
        return
    x, y = data()
    answer = AutoSpikeSlab(linear, x, y, gates=gates, gate_gradient=gate_gradient)
    with torch.no_grad():
        logits(answer, "w.gate").copy_(double(2, -1, 0.5))
    answer.gate_mode = mode
    expected = double(1, 1, 1) if mode == "open" else double(1, 0, 1)
    for _ in range(3):
        assert torch.equal(answer(x, y)["w.gate"], expected)
    slopes = gradients(elbo_terms(linear, answer, x, y).loss(), answer)
    assert not slopes["logits.w.gate_unconstrained"].any()
    if gates == "hard":
        gamma = torch.sigmoid(double(2, -1, 0.5))
        slab_posterior = base_distribution(answer._answers(x, y).posteriors["w.weight"])
        assert isinstance(slab_posterior, GatedNormal)
        weight = slab_posterior.weight
        torch.testing.assert_close(weight, expected if mode == "frozen" else gamma)
    if (mode, gates) == ("frozen", "hard"):
        closed = slopes["scales.w.weight_unconstrained"].abs() == 0
        assert closed.tolist() == [False, True, False]
    answer.gate_mode = "free"
    assert gradients(elbo_terms(linear, answer, x, y).loss(), answer)["logits.w.gate_unconstrained"].any()


def test_frozen_gates_predict_many_at_once() -> None:
    def model() -> Tensor:
        return spike_slab_gaussian("w", (3,), inclusion=double(0.3))

    answer = AutoSpikeSlab(model)
    answer.gate_mode = "frozen"
    found = Predictive(model, guide=answer, num_samples=4, parallel=True)()
    assert torch.equal(found["w.gate"], torch.ones(4, 3, dtype=DOUBLE))
    assert len(found["w.weight"].unique()) == 12


def test_temperature_is_the_first_gates_or_the_one_given() -> None:
    def model() -> None:
        pyro.sample("a", dist.RelaxedBernoulli(double(0.2, 0.7), probs=double(0.5, 0.5)).to_event(1))
        gate("b", double(0.3), temperature=0.9)

    assert AutoSpikeSlab(model).temperature == double(0.2)
    given = AutoSpikeSlab(model, temperature=0.3)
    assert given.temperature == double(0.3)
    gate_posterior = given._answers().posteriors["b"]
    assert isinstance(gate_posterior, HardGate)
    assert gate_posterior.temperature == double(0.3)
    assert AutoSpikeSlab(lambda: pyro.sample("w", dist.Normal(double(0), double(1)))).temperature == 0.5


# ---- initial values --------------------------------------------------------------------------------------------------
def test_initial_parameters() -> None:
    start = double(1.5, -2, 0.5)

    def model() -> None:
        s = pyro.sample("s", dist.Gamma(double(1), double(1)), infer=hints(init=2.0))
        gate("z", double(0.3), size=3)
        slab("w", (3,), scale=s.unsqueeze(-1), gates={"z": -1}, init=start)
        pyro.sample("share", dist.Beta(double(1), double(1)), infer=hints(init=0.25))

    answer = AutoSpikeSlab(model, init_scale=0.2, init_inclusion=0.8)
    medians = answer.median()
    torch.testing.assert_close((medians["s"], medians["w"], medians["share"]), (double(2), start, double(0.25)))
    torch.testing.assert_close(answer.inclusion()["z"], torch.full((3,), 0.8, dtype=DOUBLE))
    _, scale = loc_and_scale(answer, "w")
    torch.testing.assert_close(scale, 0.2 * (start / 2).square().mean().sqrt().expand(3))
    torch.testing.assert_close(loc_and_scale(answer, "s")[1], double(0.2))
    free = AutoSpikeSlab(model, init_inclusion=None)
    torch.testing.assert_close(free.inclusion()["z"], torch.full((3,), 0.3, dtype=DOUBLE))
    assert start.tolist() == [1.5, -2, 0.5]


@pytest.mark.parametrize("init", [init_to_median, init_to_sample, init_to_value(values={"share": double(0.9)})])
def test_pyros_initial_values(init: Any) -> None:
    x, y = data()
    answer = AutoSpikeSlab(mixed, x, y, init_loc_fn=init, init_inclusion=None)
    assert torch.isfinite(SparseELBO().differentiable_loss(mixed, answer, x, y))


def test_slabs_that_start_at_0_take_the_priors_scale() -> None:
    def model() -> None:
        pyro.sample("w", dist.Normal(double(0), double(3)).expand((4,)).to_event(1))

    torch.testing.assert_close(loc_and_scale(AutoSpikeSlab(model), "w")[1], torch.full((4,), 0.1, dtype=DOUBLE))


# ---- copying and pickling --------------------------------------------------------------------------------------------
def draws(guide: AutoProgram, *args: Any) -> dict[str, Tensor]:
    torch.manual_seed(4)
    found: dict[str, Tensor] = guide(*args)
    return found


@pytest.mark.parametrize("guide", GUIDES)
def test_pickling_keeps_a_models_name(guide: Guide) -> None:
    """A model at module level comes back with the guide, and the original still runs afterwards."""
    x, y = data()
    answer = perturbed(guide(mixed, x, y))
    before = draws(answer, x, y)
    with pyro.get_param_store().scope():
        back = pickle.loads(pickle.dumps(answer))
        assert back.model is mixed
        torch.testing.assert_close(draws(back, x, y), before)
        torch.testing.assert_close(back.quantiles([0.5], x, y), answer.quantiles([0.5], x, y))
    torch.testing.assert_close(draws(answer, x, y), before)
    assert step_down(mixed, answer, x, y) > 0


@pytest.mark.parametrize("kind", ["function", "lambda", "object"])
def test_pickling_a_local_model_leaves_it_behind(kind: str) -> None:
    def function() -> None:
        mixed(*data())

    class Local:
        def __call__(self) -> None:
            mixed(*data())

    model: Any = {"function": function, "lambda": lambda: function(), "object": Local()}[kind]
    answer = AutoSpikeSlab(model)
    before = draws(answer)
    with pyro.get_param_store().scope():
        back = pickle.loads(pickle.dumps(answer))
        for call in (back, back.median, lambda: back.quantiles([0.5])):
            with pytest.raises(ValueError, match="set guide.model before calling it"):
                call()
        back.model = model
        torch.testing.assert_close(draws(back), before)
    torch.testing.assert_close(draws(answer), before)


def test_pickling_a_model_with_pyros_parameters() -> None:
    """What Pyro's parameter store hands out refers to itself weakly, which no pickle can hold."""
    answer = AutoSpikeSlab(with_parameter)
    back = pickle.loads(pickle.dumps(answer))
    assert set(back()) == {"w"}
    assert set(copy.deepcopy(answer)()) == {"w"}


def with_parameter() -> None:
    scale = pyro.param("scale", double(1.5), constraint=dist.constraints.positive)
    pyro.sample("w", dist.Normal(double(0), scale))


class Program(nn.Module):
    """A module whose method is a guide's program."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(double(2))

    def prior(self) -> None:
        pyro.sample("w", dist.Normal(double(0), self.scale).expand((3,)).to_event(1))


def test_a_copy_has_a_copy_of_the_module() -> None:
    """The module of a bound method is copied with its guide, once where both are copied in the same breath."""
    module = Program()
    answer = AutoSpikeSlab(module.prior)
    other = copy.deepcopy(answer)
    assert other.model.__self__ is not module
    both, guide = copy.deepcopy((module, answer))
    assert guide.model.__self__ is both
    assert [name for name, _ in answer.named_parameters()] == ["locs.w_unconstrained", "scales.w_unconstrained"]
    with torch.no_grad():
        module.scale.fill_(5)
    torch.testing.assert_close(other.median()["w"] * 2.5, answer.median()["w"])


def test_training_a_copy_leaves_the_original() -> None:
    x, y = data()
    answer = AutoSpikeSlab(linear, x, y)
    before = draws(answer, x, y)
    snapshot = copy.deepcopy(answer)
    assert step_down(linear, answer, x, y) > 0
    torch.testing.assert_close(draws(snapshot, x, y), before)
    assert step_down(linear, snapshot, x, y) > 0


# ---- what bad input gets ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gates": "soft"}, "gates must be one of hard, relaxed, got 'soft'"),
        (
            {"gate_gradient": "reinforce"},
            "gate_gradient must be one of reinmax, straight-through, disarm, got",
        ),
        ({"gates": "relaxed", "gate_gradient": "disarm"}, "gate_gradient='disarm' needs gates='hard'"),
        ({"init_scale": 0.0}, r"init_scale must lie in \(0, inf\), got 0.0"),
        ({"init_scale": float("nan")}, r"init_scale must lie in \(0, inf\), got nan"),
        ({"init_inclusion": 0.0}, r"init_inclusion must lie in \(0, 1\), got 0.0"),
        ({"init_inclusion": 1}, r"init_inclusion must lie in \(0, 1\), got 1"),
        ({"temperature": 0}, r"temperature must lie in \(0, inf\), got 0"),
    ],
)
@pytest.mark.parametrize("guide", GUIDES)
def test_options_out_of_range(guide: Guide, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        guide(mixed, *data(), **options)


def test_gate_mode_must_be_known() -> None:
    answer: Any = AutoSpikeSlab(mixed, *data())
    with pytest.raises(ValueError, match="gate_mode must be one of free, open, frozen, got 'closed'"):
        answer.gate_mode = "closed"


def normals(*names: str) -> Callable[[], None]:
    def model() -> None:
        for name in names:
            pyro.sample(name, dist.Normal(double(0), double(1)))

    return model


@pytest.mark.parametrize(
    "names",
    [("a", "a.b"), ("a.b", "a"), ("a.b", "a.b.c"), ("half",), ("a.train",), ("a..b",), ("x", "x_unconstrained")],
)
def test_names_that_cannot_stand_side_by_side(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=f"site names must not begin with .* got '{names[-1]}': rename it"):
        AutoSpikeSlab(normals(*names))


def test_names_that_can() -> None:
    assert set(AutoSpikeSlab(normals("a.b", "a.c", "ab", "b.a", "b.b.a"))()) == {"a.b", "a.c", "ab", "b.a", "b.b.a"}


@pytest.mark.parametrize("fn", [dist.Bernoulli(0.5), dist.Categorical(torch.ones(3)), dist.Poisson(2.0)])
def test_discrete_latents_are_refused(fn: Any) -> None:
    with pytest.raises(ValueError, match="site 'n' must be continuous"):
        AutoSpikeSlab(lambda: pyro.sample("n", fn))


def test_a_model_without_latents_is_refused() -> None:
    with pytest.raises(ValueError, match="model must have a latent site that is not observed, got none"):
        AutoSpikeSlab(lambda: pyro.sample("y", dist.Normal(0.0, 1.0), obs=torch.tensor(1.0)))


def test_a_new_site_at_a_later_call_is_refused() -> None:
    def model(more: bool = False) -> None:
        pyro.sample("a", dist.Normal(double(0), double(1)))
        if more:
            pyro.sample("b", dist.Normal(double(0), double(1)))

    answer = AutoSpikeSlab(model)
    answer()
    for call in (answer, answer.median, lambda more: SparseELBO().differentiable_loss(model, answer, more)):
        with pytest.raises(ValueError, match="must have the same sites at every call, got a new one: 'b'"):
            call(True)


@pytest.mark.parametrize("start", [0.0, -1.0, float("nan")])
def test_initial_values_inside_the_support(start: float) -> None:
    with pytest.raises(ValueError, match="the initial value of site 'a' must lie inside its support"):
        AutoSpikeSlab(lambda: pyro.sample("a", dist.Gamma(1.0, 1.0), infer=hints(init=start)))


def test_initial_gates_inside_0_and_1() -> None:
    def model() -> None:
        pyro.sample("z", dist.RelaxedBernoulli(double(0.5), probs=double(0.3)), infer=hints(init=1.0))

    with pytest.raises(ValueError, match="the initial value of site 'z' must lie inside its support"):
        AutoSpikeSlab(model, init_inclusion=None)
    AutoSpikeSlab(model)


def test_hints_are_checked() -> None:
    def model(dim: int, name: str) -> None:
        gate("z", double(0.3), size=3)
        slab("w", (3, 2), scale=double(1), gates={name: dim})

    AutoSpikeSlab(model, -2, "z")(-2, "z")
    with pytest.raises(ValueError, match=r"\['z'\] must lay its gates along a slab of shape \(3, 2\), got \(1, 3\)"):
        AutoSpikeSlab(model, -1, "z")(-1, "z")
    with pytest.raises(ValueError, match=r"must name gate sites drawn before the slab, got 'gate'; known: z"):
        AutoSpikeSlab(model, -2, "gate")(-2, "gate")
    AutoSpikeSlab(model, -2, "gate", gates="relaxed")(-2, "gate")


def test_composed_scales_serve_in_anyones_model() -> None:
    """Half-Cauchy and group-lasso scales beside each other, in a model written by hand."""

    def model(x: Tensor, y: Tensor) -> None:
        s = half_cauchy("s", double(1))
        tau = group_lasso_scale("tau", 3, group_size=1, rate=double(2))
        z = gate("z", double(0.3), size=3)
        w = slab("w", (3,), scale=s * tau, gates={"z": -1})
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ (z * w), 0.5), obs=y)

    x, y = data(40)
    for guide in GUIDES:
        pyro.clear_param_store()
        assert step_down(model, guide(model, x, y), x, y) > 0
