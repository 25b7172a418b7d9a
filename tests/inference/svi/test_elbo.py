"""The bound as one tensor: against Pyro's estimators, its KL weight, DisARM's gradient."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoDelta, AutoMultivariateNormal, AutoNormal
from pyro.optim import PyroOptim
from torch import Tensor

from bnn_pyro.inference.svi.elbo import SparseELBO, Terms, elbo_terms
from bnn_pyro.priors import gate
from bnn_pyro.tracing.trace import trace
from guides import AutoProgram, AutoSpikeSlab
from tests.cases import GUIDES, SLABS, GuideCase, SlabCase
from tests.models import DOUBLE, NOISE, data, gradients, linear, logits, one_layer, perturbed
from tests.monte_carlo import assert_mean

guide_and_slab = pytest.mark.parametrize(("guide", "case"), [(g, s) for g in GUIDES for s in SLABS], ids=str)


def double(*values: float) -> Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=DOUBLE)


def mask(values: Tensor) -> Any:
    return poutine.mask(mask=values)  # type: ignore[call-overload]


def loss_at(seed: int, elbo: Any, *args: Any) -> Tensor:
    torch.manual_seed(seed)
    found: Tensor = elbo.differentiable_loss(*args)
    return found


# ---- Pyro's estimators -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gates", ["hard", "relaxed"])
@guide_and_slab
def test_equals_pyros_mean_field_bound(guide: GuideCase, case: SlabCase, gates: Any) -> None:
    """In value and gradient, to rounding, with the same noise."""
    x, y = data()
    model = one_layer(case.slab)
    answer = perturbed(guide.guide(model, x, y, gates=gates))
    for seed in range(2):
        one, two = (loss_at(seed, elbo, model, answer, x, y) for elbo in (SparseELBO(), TraceMeanField_ELBO()))
        torch.testing.assert_close(one, two)
        torch.testing.assert_close(gradients(one, answer), gradients(two, answer))


@pytest.mark.parametrize("temperature", [None, 0.3])
def test_relaxed_gates_can_be_traced(temperature: float | None) -> None:
    """At the prior's temperature the divergence is in closed form, at another one it is the log ratio of the draw."""
    x, y = data()
    answer = perturbed(AutoSpikeSlab(linear, x, y, gates="relaxed", temperature=temperature))
    one, two = (loss_at(3, elbo, linear, answer, x, y) for elbo in (SparseELBO(), TraceMeanField_ELBO()))
    torch.testing.assert_close(one, two)
    torch.testing.assert_close(gradients(one, answer), gradients(two, answer))
    with pyro.validation_enabled(False):
        program = trace(lambda x, y: SparseELBO().differentiable_loss(linear, answer, x, y), x, y)
    assert torch.isfinite(program(x, y))


@pytest.mark.parametrize("case", [SLABS[1], SLABS[4]], ids=str)
def test_agrees_with_trace_elbo_in_expectation(case: SlabCase) -> None:
    """150 losses of each within 4 standard errors: fails by chance once in 16,000 cases."""
    x, y = data()
    model = one_layer(case.slab)
    answer = perturbed(AutoSpikeSlab(model, x, y))
    ours, pyros = (
        torch.tensor([elbo.loss(model, answer, x, y) for _ in range(150)]) for elbo in (SparseELBO(), Trace_ELBO())
    )
    error = ((ours.var() + pyros.var()) / 150).sqrt()
    assert (ours.mean() - pyros.mean()).abs() < 4 * error


@pytest.mark.parametrize("guide", [AutoNormal, AutoMultivariateNormal, AutoDelta])
def test_pyros_guides_have_the_bound_of_trace_elbo(guide: Any) -> None:
    """They answer by Delta distributions of auxiliary sites, whose densities count, those of transformed sites too."""

    def model(x: Tensor, y: Tensor) -> None:
        s = pyro.sample("s", dist.LogNormal(double(0), double(1)))
        w = pyro.sample("w", dist.Normal(double(0), double(1)).expand((3,)).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x @ w, s), obs=y)

    x, y = data()
    answer = guide(model)
    answer(x, y)
    one, two = (loss_at(3, elbo, model, answer, x, y) for elbo in (SparseELBO(), Trace_ELBO()))
    torch.manual_seed(3)
    torch.testing.assert_close(one.detach(), double(Trace_ELBO().loss(model, answer, x, y)))
    torch.testing.assert_close(gradients(one, answer), gradients(two, answer))


def test_scales_and_masks_count() -> None:
    def model(x: Tensor, y: Tensor) -> None:
        with poutine.scale(scale=3.0):
            w = pyro.sample("w", dist.Normal(double(0), double(1)).expand((3,)).to_event(1))
        with pyro.plate("p", 2), mask(torch.tensor([True, False])):
            pyro.sample("v", dist.Normal(double(0), double(1)))
        with pyro.plate("data", 30, subsample=torch.arange(len(x))), mask(y > 0):
            pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)

    x, y = data(10)
    answer = perturbed(AutoSpikeSlab(model, x, y))
    one, two = (loss_at(3, elbo, model, answer, x, y) for elbo in (SparseELBO(), TraceMeanField_ELBO()))
    torch.testing.assert_close(one, two)
    assert not gradients(one, answer)["locs.v_unconstrained"][1]


def test_trains_in_pyros_svi() -> None:
    x, y = data(30)
    answer = AutoSpikeSlab(linear, x, y)
    svi = SVI(linear, answer, PyroOptim(torch.optim.Adam, {"lr": 0.1}), SparseELBO(num_particles=2))
    first = svi.evaluate_loss(x, y)
    for _ in range(30):
        last = svi.step(x, y)
    assert last < first - 5
    module: Any = SparseELBO()
    assert module(linear, answer)(x, y).requires_grad, "an ELBO of Pyro can be called as a module too"


# ---- its parts -------------------------------------------------------------------------------------------------------


def test_kl_weight_and_particles() -> None:
    x, y = data()
    answer = perturbed(AutoSpikeSlab(linear, x, y))
    torch.manual_seed(1)
    first, second = (elbo_terms(linear, answer, x, y) for _ in range(2))
    for weight in (0.0, 0.3, 1.0, 2.0):
        expected = torch.stack([weight * t.kl - t.log_likelihood for t in (first, second)]).mean()
        torch.testing.assert_close(
            loss_at(1, SparseELBO(kl_weight=weight, num_particles=2), linear, answer, x, y), expected
        )
    torch.testing.assert_close(first.loss(double(0.3)), 0.3 * first.kl - first.log_likelihood)


def test_loss_and_gradients_as_numbers() -> None:
    x, y = data()
    answer = perturbed(AutoSpikeSlab(linear, x, y))
    expected = loss_at(1, SparseELBO(), linear, answer, x, y)
    slopes = gradients(expected, answer)
    torch.manual_seed(1)
    assert SparseELBO().loss(linear, answer, x, y) == pytest.approx(float(expected.detach()))
    torch.manual_seed(1)
    assert SparseELBO().loss_and_grads(linear, answer, x, y) == pytest.approx(float(expected.detach()))
    torch.testing.assert_close({n: p.grad for n, p in answer.named_parameters()}, slopes)


def test_without_observations_there_is_a_divergence_alone() -> None:
    def model() -> None:
        gate("z", double(0.3), size=3)

    for gate_gradient in ("reinmax", "straight-through", "disarm"):
        terms = elbo_terms(model, AutoSpikeSlab(model, gate_gradient=gate_gradient))
        assert (float(terms.log_likelihood), float(terms.surrogate.detach())) == (0, 0)
        assert terms.kl > 0


def test_terms_add_up() -> None:
    terms = Terms(double(2), double(3), double(0))
    assert (float(terms.loss()), float(terms.loss(0.5))) == (1, -0.5)


# ---- DisARM ----------------------------------------------------------------------------------------------------------


def quadratic(prior: Callable[[], Tensor]) -> Callable[[], None]:
    """A likelihood that is not linear in its gates."""

    def model() -> None:
        z = prior()
        curved = (z * double(1.0, -2.0, 0.5)).sum(-1).square() + z[..., 0] * z[..., 1]
        pyro.factor("f", -curved)

    return model


def expected_gradient(gamma: Tensor) -> Tensor:
    """The gradient of the mean log-likelihood in the logits, by summing over all eight settings of the gates."""
    theta = torch.logit(gamma).requires_grad_()
    settings = torch.cartesian_prod(*[double(0, 1)] * 3)
    probability = (settings * torch.sigmoid(theta) + (1 - settings) * torch.sigmoid(-theta)).prod(-1)
    value = -((settings * double(1.0, -2.0, 0.5)).sum(-1).square() + settings[:, 0] * settings[:, 1])
    (slope,) = torch.autograd.grad((probability * value).sum(), theta)
    return slope


def mean_gradients(
    answer: AutoProgram, name: str, model: Callable[..., Any], *args: Tensor, kl_weight: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Means of 200 negative log-likelihoods, and of their gradients in a parameter; 50 of each."""
    parameter, losses, slopes = dict(answer.named_parameters())[name], [], []
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        many = torch.vmap(lambda _: elbo_terms(model, answer, *args).loss(kl_weight), randomness="different")
        for _ in range(50):
            losses.append(many(torch.zeros(200)).mean())
            slopes.append(torch.autograd.grad(losses[-1], parameter)[0])
    return torch.stack(losses).detach(), torch.stack(slopes)


@pytest.mark.parametrize("gamma", [(0.2, 0.5, 0.9), (0.05, 0.8, 0.6)])
def test_disarm_and_reinmax_are_unbiased(gamma: tuple[float, ...]) -> None:
    """Their means are the exact gradient of a quadratic, that of straight-through is not.

    12 means of 10,000 draws at 5 standard errors.
    """
    model = quadratic(lambda: gate("z", double(0.3), size=3))
    exact = expected_gradient(double(*gamma))
    found = {}
    for gate_gradient in ("disarm", "reinmax", "straight-through"):
        answer = AutoSpikeSlab(model, gate_gradient=gate_gradient)
        with torch.no_grad():
            logits(answer, "z").copy_(torch.logit(double(*gamma)))
        found[gate_gradient] = -mean_gradients(answer, "logits.z_unconstrained", model)[1]
    assert_mean(found["disarm"], exact)
    assert_mean(found["reinmax"], exact)
    biased = found["straight-through"]
    assert ((biased.mean(0) - exact).abs() > 5 * biased.std(0) / len(biased) ** 0.5).any()


def test_disarm_changes_the_gates_gradient_alone() -> None:
    """Value and slopes of slabs agree with ReinMax in the mean: 10,000 draws of each at 5 standard errors."""
    x, y = data()
    answers = [perturbed(AutoSpikeSlab(linear, x, y, gate_gradient=g)) for g in ("disarm", "reinmax")]
    found = [mean_gradients(answer, "locs.w.weight_unconstrained", linear, x, y) for answer in answers]
    for one, two in zip(*found, strict=True):
        error = ((one.var(0) + two.var(0)) / len(one)).sqrt()
        assert ((one.mean(0) - two.mean(0)).abs() < 5 * error).all()


def test_disarms_partner_has_the_same_slabs_and_rows() -> None:
    """Both likelihoods are of one batch and one draw of the slabs: with gates that cannot differ they are equal."""
    x, y = data(20)

    def model(x: Tensor, y: Tensor) -> None:
        z = gate("z", double(0.5), size=3)
        w = pyro.sample("w", dist.Normal(double(0), double(1)).expand((3,)).to_event(1))
        with pyro.plate("data", len(x), subsample_size=5) as rows:
            pyro.sample("y", dist.Normal(x[rows] @ (z * w), NOISE), obs=y[rows])

    answer = perturbed(AutoSpikeSlab(model, x, y, gate_gradient="disarm"))
    with torch.no_grad():
        logits(answer, "z").copy_(double(60, -60, 60))
    plain = AutoSpikeSlab(model, x, y)
    plain.load_state_dict(answer.state_dict())
    found = []
    for guide in (answer, plain):
        torch.manual_seed(2)
        with pyro.get_param_store().scope():
            found.append(elbo_terms(model, guide, x, y))
    torch.testing.assert_close(found[0].log_likelihood, found[1].log_likelihood)
    assert not gradients(found[0].surrogate, answer)["logits.z_unconstrained"].any()


def test_surrogate_has_no_value() -> None:
    x, y = data()
    answer = perturbed(AutoSpikeSlab(linear, x, y, gate_gradient="disarm"))
    for _ in range(5):
        terms = elbo_terms(linear, answer, x, y)
        assert float(terms.surrogate.detach()) == 0
    answer.gate_mode = "frozen"
    assert not elbo_terms(linear, answer, x, y).surrogate.requires_grad


# ---- what bad input gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kl_weight": -0.1}, "kl_weight must be finite and not negative, got -0.1"),
        ({"num_particles": 0}, "num_particles must be at least 1, got 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SparseELBO(**options)


def test_guide_must_have_every_site() -> None:
    def model() -> None:
        pyro.sample("a", dist.Normal(double(0), double(1)))
        pyro.sample("b", dist.Normal(double(0), double(1)))

    guide = AutoDelta(poutine.block(model, hide=["b"]))
    with pytest.raises(ValueError, match="guide must have every latent site of the model, got none for 'b'"):
        elbo_terms(model, guide)
