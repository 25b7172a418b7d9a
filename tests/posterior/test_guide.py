"""What a posterior predicts, and which nodes it keeps."""

from collections.abc import Iterator
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuideList, AutoNormal
from torch import Tensor, nn

from bnn_pyro import fit
from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise, HeteroscedasticNoise, Likelihood, Normals
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior, copies
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from guides import AutoCentered, AutoSpikeSlab, initial_value
from tests.test_network import inputs, labels, network


def posterior_of(net: str | nn.Module = "mlp", *, seed: int = 0, **options: Any) -> GuidePosterior:
    """A posterior with every gate's log-odds, slab and scale somewhere at random."""
    model = network(net, **options)
    guide = AutoSpikeSlab(model.prior, init_scale=0.3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in guide.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(3 * noise if name.startswith("logits") else parameter + 0.3 * noise)
    return GuidePosterior(model, guide)


@pytest.fixture(scope="module")
def fitted() -> GuidePosterior:
    """A posterior that was fitted, with a point, gated inputs and learned scales."""
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    return fit(model, (inputs(), labels()), epochs=3, batch_size=6, seed=0)


def regression(likelihood: Likelihood, outputs: int) -> GuidePosterior:
    """The posterior of a regression."""
    return posterior_of(mlp(6, (4,), outputs).double(), likelihood=likelihood)


def by_hand(posterior: GuidePosterior, x: Tensor, num_samples: int) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """The net's outputs for so many draws, one draw after the other, and the draws."""
    draws = [posterior.guide() for _ in range(num_samples)]
    outputs = []
    for values in draws:
        gates = {name: values[f"{name}.gate"] for name in posterior.model.groups}
        outputs.append(posterior.model.call_net(posterior.model.assemble(values, gates), x))
    return torch.stack(outputs), draws


# ---- prediction ------------------------------------------------------------------------------------------------------


def test_predict_is_the_mean_of_the_draws_probabilities(fitted: GuidePosterior) -> None:
    torch.manual_seed(3)
    predicted = fitted.predict(inputs(), num_samples=4)
    torch.manual_seed(3)
    outputs, _ = by_hand(fitted, inputs(), 4)
    torch.testing.assert_close(predicted, outputs.softmax(-1).mean(0), rtol=1e-12, atol=1e-14)
    assert isinstance(predicted, Tensor) and predicted.shape == (12, 3) and not predicted.requires_grad


def test_batches_and_draws(fitted: GuidePosterior) -> None:
    torch.manual_seed(3)
    whole = fitted.predict(inputs(), num_samples=3, return_draws=True)
    torch.manual_seed(3)
    batched = fitted.predict(inputs(), num_samples=3, batch_size=5, return_draws=True)
    assert isinstance(whole, Classes) and isinstance(batched, Classes)
    assert whole.draws.shape == (3, 12, 3)
    torch.testing.assert_close(batched.draws, whole.draws, rtol=1e-12, atol=1e-14)
    assert (whole.draws[0] - whole.draws[1]).abs().max() > 1e-3  # no two draws are one
    torch.testing.assert_close(whole.probabilities, whole.draws.mean(0))


def test_regression_predicts_the_mean() -> None:
    posterior = regression(GaussianNoise(), 1)
    torch.manual_seed(3)
    predicted = posterior.predict(inputs(), num_samples=3)
    torch.manual_seed(3)
    normals = posterior.predict(inputs(), num_samples=3, return_draws=True)
    torch.manual_seed(3)
    outputs, draws = by_hand(posterior, inputs(), 3)
    assert isinstance(predicted, Tensor) and isinstance(normals, Normals)
    torch.testing.assert_close(predicted, outputs.squeeze(-1).mean(0))
    torch.testing.assert_close(normals.mean, outputs.squeeze(-1))
    torch.testing.assert_close(normals.sd[:, 0], torch.stack([values["noise_scale"] for values in draws]))


def test_x_of_another_dtype(fitted: GuidePosterior) -> None:
    predicted = fitted.predict(inputs().float(), num_samples=2)
    assert isinstance(predicted, Tensor) and predicted.dtype == torch.float64


# ---- evaluation ------------------------------------------------------------------------------------------------------


def test_evaluate_a_classifier(fitted: GuidePosterior) -> None:
    found = fitted.evaluate_median(inputs(), labels())
    assert set(found) == {"accuracy", "nll", "ece", "brier"}
    expected = fitted.median_model()(inputs()).softmax(-1)
    assert found == pytest.approx(classification_metrics(expected, labels()), rel=1e-9)
    torch.manual_seed(3)
    averaged = fitted.evaluate(inputs(), labels(), num_samples=4, batch_size=5)
    torch.manual_seed(3)
    predicted = fitted.predict(inputs(), num_samples=4)
    assert isinstance(predicted, Tensor)
    assert averaged == pytest.approx(classification_metrics(predicted, labels()), rel=1e-9)


@pytest.mark.parametrize(
    ("likelihood", "outputs"), [(GaussianNoise(), 1), (GaussianNoise(0.5), 1), (HeteroscedasticNoise(), 2)]
)
def test_evaluate_a_regression(likelihood: Likelihood, outputs: int) -> None:
    posterior = regression(likelihood, outputs)
    y = inputs()[:, 0]
    found = posterior.evaluate_median(inputs(), y, y_std=2.0)
    assert set(found) >= {"rmse", "nll", "ece", "crps", "coverage50", "coverage95", "width50", "width95"}
    latent = posterior.median_values().get("noise_scale")
    normals = likelihood.predict(posterior.median_model()(inputs()).unsqueeze(0), latent)
    assert isinstance(normals, Normals)
    assert found == pytest.approx(regression_metrics(*normals, y, y_std=2.0), rel=1e-9)
    assert posterior.evaluate(inputs(), y, num_samples=2).keys() == found.keys()


# ---- which nodes are kept --------------------------------------------------------------------------------------------


def test_inclusion_and_keep() -> None:
    posterior = posterior_of(select_inputs=True)
    logits = {name: getattr(posterior.guide.logits, name).gate for name in ("inputs", "hidden1", "hidden2")}
    inclusion, keep = posterior.inclusion(), posterior.keep()
    assert list(inclusion) == list(keep) == list(logits)
    for name, value in logits.items():
        assert torch.equal(inclusion[name], value.detach().sigmoid()) and not inclusion[name].requires_grad
        assert keep[name].tolist() == (value > 0).tolist()
        assert 0 < int(keep[name].sum()) < len(value)


def test_median_values() -> None:
    posterior = posterior_of(prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3))
    values = posterior.median_values()
    expected = set(poutine.trace(posterior.model.prior).get_trace().stochastic_nodes)
    assert set(values) == expected
    assert torch.equal(values["hidden1.gate"], posterior.keep()["hidden1"].double())
    assert torch.equal(values["global_scale.alpha"], posterior.guide.locs.global_scale.alpha.detach().exp())
    given = posterior.median_values(keep={"hidden1": torch.arange(8) < 2})
    assert given["hidden1.gate"].tolist() == [1.0] * 2 + [0.0] * 6
    assert torch.equal(given["hidden2.gate"], values["hidden2.gate"])


def test_the_median_model_is_a_plain_net_with_zeros() -> None:
    posterior = posterior_of(select_inputs=True)
    posterior.model.net.train()
    net, keep = posterior.median_model(), posterior.keep()
    assert type(net) is type(posterior.model.net) and not any(module.training for module in net.modules())
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert not net.get_parameter("hidden1.bias")[~keep["hidden1"]].any()
    assert not net.get_parameter("hidden1.weight")[:, ~keep["inputs"]].any()
    assert net.get_parameter("hidden1.bias")[keep["hidden1"]].all()
    for name, value in net.named_parameters():
        assert not torch.equal(value, posterior.model.net.get_parameter(name))


def test_a_posterior_while_gates_are_held_open(fitted: GuidePosterior) -> None:
    posterior = posterior_of()
    expected = posterior.median_model()(inputs())
    posterior.guide.gate_mode = "open"
    torch.testing.assert_close(posterior.median_model()(inputs()), expected)
    (drawn,) = posterior.network_draws(num_samples=3)
    assert {len(tensor) for tensor in drawn.tensors.values()} == {3}


def test_tempered() -> None:
    posterior = posterior_of()
    assert not posterior.tempered and posterior.is_classification
    cold = GuidePosterior(posterior.model, posterior.guide, history=[{"epoch": 1}], kl_weight=0.2)
    assert cold.tempered and cold.history == [{"epoch": 1}]
    assert cold.tempering == "tempered (cold) posterior, KL weight 0.2"


def test_gates_are_drawn_with_their_inclusion_probabilities(normal: GuidePosterior) -> None:
    posterior = posterior_of(select_inputs=True)
    drawn, gammas = posterior.gate_draws(), posterior.inclusion()
    for name, gamma in gammas.items():
        assert drawn[name].shape == (4000, len(gamma)) and drawn[name].dtype == torch.bool
        tolerance = 5 * (gamma * (1 - gamma) / 4000).sqrt() + 1e-3  # fails by chance in 1 of 50,000 runs
        assert ((drawn[name].double().mean(0) - gamma).abs() < tolerance).all()
    assert normal.gate_draws(num_samples=3)["hidden1"].shape == (3, 8)


# ---- guides of Pyro --------------------------------------------------------------------------------------------------


@pytest.fixture
def normal() -> Iterator[GuidePosterior]:
    """A posterior that is held by a guide of Pyro."""
    model = network(select_inputs=True)
    guide = AutoNormal(model.prior, init_loc_fn=initial_value)
    guide()
    with torch.no_grad():
        guide.locs.hidden1.gate.copy_(torch.linspace(-2, 2, 8))
        guide.scales.hidden1.gate_unconstrained.fill_(0.5)
    pyro.clear_param_store()
    yield GuidePosterior(model, guide)


def test_a_guide_of_pyro_predicts(normal: GuidePosterior) -> None:
    torch.manual_seed(3)
    predicted = normal.predict(inputs(), num_samples=3)
    torch.manual_seed(3)
    outputs, _ = by_hand(normal, inputs(), 3)
    torch.testing.assert_close(predicted, outputs.softmax(-1).mean(0).detach())
    assert normal.evaluate(inputs(), labels(), num_samples=2).keys() == {"accuracy", "nll", "ece", "brier"}


def test_a_guide_of_pyro_keeps_what_is_above_its_median(normal: GuidePosterior) -> None:
    keep = normal.keep()
    assert keep["hidden1"].tolist() == [False] * 4 + [True] * 4
    gamma = normal.inclusion(num_samples=400)["hidden1"]
    loc, scale = normal.guide.locs.hidden1.gate, normal.guide.scales.hidden1.gate
    expected = torch.distributions.Normal(0.0, 1.0).cdf(loc / scale).detach()
    tolerance = 4.5 * (expected * (1 - expected) / 400).sqrt() + 0.01  # fails by chance in 1 of 10,000 runs
    assert ((gamma - expected).abs() < tolerance).all()
    closed = normal.median_values()["hidden1.gate"]
    assert torch.equal(closed, keep["hidden1"].double())


# ---- copies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guide_class", [AutoSpikeSlab, AutoCentered, AutoNormal])
@pytest.mark.parametrize("whole", [True, False])
def test_copies_belong_together_and_leave_the_originals(guide_class: type[Any], whole: bool) -> None:
    model = network()
    program, arguments = (model, (inputs(), labels())) if whole else (model.prior, ())
    guide = guide_class(program, *arguments) if guide_class is not AutoNormal else guide_class(program)
    guide(*arguments)
    pyro.clear_param_store()
    new_model, new_guide = copies(model, guide)
    for parameter in [*new_model.parameters(), *new_guide.parameters()]:
        parameter.data.fill_(0.1)
    assert not any((parameter == 0.1).all() for parameter in [*model.parameters(), *guide.parameters()])
    assert guide.model is not None and poutine.trace(guide.model).get_trace(*arguments)
    assert set(new_guide()) == set(guide(*arguments))
    if guide_class is not AutoNormal:
        assert new_guide.model == new_model.prior and new_guide.model.__self__ is new_model


def test_copies_of_a_list_of_guides() -> None:
    model = network()
    guide: Any = AutoGuideList(model.prior)
    gates = ["hidden1.gate", "hidden2.gate"]
    guide.append(AutoNormal(poutine.block(model.prior, hide=gates)))
    guide.append(AutoNormal(poutine.block(model.prior, expose=gates)))
    guide()
    copied: Any = copies(model, guide)[1]
    assert guide[0].model is not None and guide[0].master() is guide and copied[1].master() is copied
    assert set(copied()) == set(guide())


# ---- what stays as it was, and what bad input gets -------------------------------------------------------------------


def test_nothing_global_is_changed(fitted: GuidePosterior) -> None:
    pyro.param("mine", torch.ones(2))
    fitted.model.net.train()
    before = {name: value.clone() for name, value in fitted.model.net.state_dict().items()}
    fitted.predict(inputs(), num_samples=2)
    fitted.evaluate(inputs(), labels(), num_samples=2)
    fitted.evaluate_median(inputs(), labels())
    fitted.inclusion()
    fitted.median_model()
    assert list(pyro.get_param_store()) == ["mine"]
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    assert torch.distributions.Distribution._validate_args
    assert all(module.training for module in fitted.model.net.modules())
    assert all(torch.equal(value, before[name]) for name, value in fitted.model.net.state_dict().items())
    fitted.model.net.eval()


def test_dropout_and_batch_statistics_rest() -> None:
    net = nn.Sequential(
        nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 4), nn.SiLU(), nn.Linear(4, 3)
    )
    posterior = posterior_of(net.double())
    posterior.model.net.train()
    before = {name: value.clone() for name, value in posterior.model.net.named_buffers()}
    assert posterior.evaluate_median(inputs(), labels()) == posterior.evaluate_median(inputs(), labels())
    torch.manual_seed(3)
    predicted = posterior.predict(inputs(), num_samples=2)
    posterior.model.net.eval()
    torch.manual_seed(3)
    torch.testing.assert_close(predicted, posterior.predict(inputs(), num_samples=2, batch_size=1))
    assert all(torch.equal(value, before[name]) for name, value in posterior.model.net.named_buffers())


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (inputs(3, 5), {}, r"x must have shape \(rows, 6\) and a row, got \(3, 5\)"),
        (inputs()[:0], {}, r"got \(0, 6\)"),
        (inputs() * float("nan"), {}, "x must be finite"),
        (inputs(), {"num_samples": 0}, "num_samples must be at least 1, got 0"),
        (inputs(), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_input_to_predict(fitted: GuidePosterior, x: Tensor, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted.predict(x, **options)


@pytest.mark.parametrize(
    ("y", "options", "message"),
    [
        (labels()[:5], {}, r"y must have shape \(12,\)"),
        (labels() + 1, {}, "y must hold labels in 0 ... 2"),
        (labels().float(), {}, "dtype torch.int64"),
        (labels(), {"num_samples": 0}, "num_samples must be at least 1, got 0"),
        (labels(), {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_bad_input_to_evaluate(fitted: GuidePosterior, y: Tensor, options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fitted.evaluate(inputs(), y, **options)


def test_bad_input_to_evaluate_median(fitted: GuidePosterior) -> None:
    with pytest.raises(ValueError, match=r"y must have shape \(12,\)"):
        fitted.evaluate_median(inputs(), labels()[:5])
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        fitted.evaluate_median(inputs(), labels(), batch_size=0)


def test_bad_masks(fitted: GuidePosterior) -> None:
    with pytest.raises(ValueError, match="keep must be masks of the groups"):
        fitted.median_model(keep={"hidden9": torch.ones(3) > 0})
    with pytest.raises(ValueError, match="must be a bool tensor"):
        fitted.median_values(keep={"inputs": torch.ones(6)})


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    x, y = inputs().cuda(), labels().cuda()
    model = SparseNetwork(
        mlp(6, (4,), 3).double().cuda(),
        x,
        prior=SpikeSlab(Gaussian()),
        likelihood=Categorical(),
        num_data=12,
        select_inputs=True,
    )
    posterior = fit(model, (x, y), epochs=2, schedule=Schedule(shrink_below=0.4), seed=0)
    predicted = posterior.predict(inputs(), num_samples=2)
    assert isinstance(predicted, Tensor) and predicted.is_cuda
    assert posterior.evaluate(inputs(), labels())["accuracy"] >= 0
