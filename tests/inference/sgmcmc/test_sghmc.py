"""The sampler's step against its formula, its stationary law against the exact one, and its manners as an optimiser."""

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.sgmcmc.sghmc import CyclicalCosine, SpikeSlabSGHMC, amplitude, effective_temperature
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian

ROWS = 50  # of the data that the losses are means over
DOUBLE = torch.float64


def parameters(*shapes: tuple[int, ...]) -> list[nn.Parameter]:
    return [nn.Parameter(torch.randn(shape, dtype=DOUBLE)) for shape in shapes]


def with_gradients(params: list[nn.Parameter]) -> list[nn.Parameter]:
    """Gives each parameter the gradient of a quartic, which is like no other."""
    for parameter in params:
        parameter.grad = parameter.detach() ** 3 - 0.3
    return params


# ---- the step --------------------------------------------------------------------------------------------------------


def by_hand(
    values: list[Tensor], decays: list[Tensor], *, steps: int, lr: float, alpha: float, eta: float = 0.1
) -> list[Tensor]:
    """The cooled method, one tensor after the other, in the words of its derivation: sigma = T C^{3/2} tau^p."""
    beta1, noise_scale, c, p = 0.1, ROWS**-0.5, lr**0.5, 1 / (2 * alpha)
    values = [value.clone() for value in values]
    start = [(0.001 * torch.randn_like(value), torch.randn_like(value)) for value in values]
    momenta, noises = [m for m, _ in start], [e for _, e in start]
    rhos = [torch.zeros_like(value) for value in values]
    for _ in range(steps):
        for i, (value, decay) in enumerate(zip(values, decays, strict=True)):
            gradient, tau = value**3 - 0.3, torch.sigmoid(rhos[i])
            sigma = noise_scale * c**1.5 * tau**p
            slope_in_sigma = gradient * noises[i] + decay * sigma - 1 / (ROWS * sigma)
            rhos[i] = rhos[i] - eta * slope_in_sigma * p * sigma / tau
        noises = [torch.randn_like(value) for value in values]
        for i, (value, decay) in enumerate(zip(values, decays, strict=True)):
            tau = torch.sigmoid(rhos[i])
            injected = math.sqrt(2 + 2 * beta1**2) * noise_scale * c**1.5 * tau ** (p - 1) * noises[i]
            momenta[i] = beta1 * momenta[i] - c**2 * (value**3 - 0.3 + decay * value) + injected
            values[i] = value + tau * momenta[i]
    return values


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_step_is_the_formula(alpha: float) -> None:
    params = parameters((3, 4), (4,))
    decays = [torch.rand(1, 4, dtype=DOUBLE), torch.tensor(0.2, dtype=DOUBLE)]
    torch.manual_seed(1)
    expected = by_hand([p.detach() for p in params], decays, steps=5, lr=0.04, alpha=alpha)
    optimizer = SpikeSlabSGHMC(params, lr=0.04, num_data=ROWS, alpha=alpha, weight_decay=0.2)
    optimizer.weight_decays(params[0], decays[0])
    torch.manual_seed(1)
    for _ in range(5):
        with_gradients(params)
        optimizer.step()
    for parameter, value in zip(params, expected, strict=True):
        torch.testing.assert_close(parameter.detach(), value)


def test_first_line_is_the_gradient_of_the_bound() -> None:
    """What moves rho is the derivative in tau of -ELBO/N of one weight w = mu + sigma eps, by autograd."""
    for alpha, temperature in [(0.5, "cooled"), (1.0, "cooled"), (0.5, 1.0)]:
        parameter = parameters((6,))[0]
        options: Any = {"lr": 0.3, "num_data": ROWS, "alpha": alpha, "temperature": temperature}
        optimizer = SpikeSlabSGHMC([parameter], weight_decay=0.7, **options)
        with_gradients([parameter])
        optimizer.step()
        rho, noise = (optimizer.state[parameter][name].clone() for name in ("rho", "noise"))
        scale, p = amplitude(optimizer.param_groups[0])
        tau = torch.sigmoid(rho).requires_grad_()
        sigma = scale * tau**p
        mean = parameter.detach() - sigma.detach() * noise
        w = mean + sigma * noise
        bound = w**4 / 4 - 0.3 * w + 0.35 * (mean**2 + sigma**2) - sigma.log() / ROWS
        (slope,) = torch.autograd.grad(bound.sum(), tau)
        with_gradients([parameter])
        optimizer.step()
        torch.testing.assert_close(optimizer.state[parameter]["rho"], rho - 0.1 * slope)


# ---- the stationary law ----------------------------------------------------------------------------------------------


def stationary_variance(curvature: Tensor, *, tau: float = 0.5, steps: int = 300, **options: Any) -> Tensor:
    """The variance of draws on the quadratic losses a w^2 / 2 of many independent weights, one row a curvature."""
    parameter = nn.Parameter(torch.zeros(len(curvature), 8_000))
    optimizer = SpikeSlabSGHMC([parameter], num_data=ROWS, eta=0, **options)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.state[parameter]["rho"].fill_(math.log(tau / (1 - tau)))
    square = torch.zeros(len(curvature))
    for step in range(2 * steps):
        parameter.grad = curvature[:, None] * parameter.detach()
        optimizer.step()
        square += parameter.detach().square().mean(1) * (step >= steps)
    return square / steps


def exact(curvature: Tensor, injected: float, *, tau: float, lr: float, beta1: float) -> Tensor:
    """The variance of w' = (1 + beta - k) w - beta w_before + tau s eps, an autoregression of order 2 (Yule-Walker)."""
    k = lr * curvature * tau
    first, second = 1 + beta1 - k, -beta1
    return (1 - second) / (1 + second) * (tau * injected) ** 2 / ((1 - second) ** 2 - first**2)


@pytest.mark.parametrize("alpha", [0.5, 1.0])
@pytest.mark.parametrize(("beta1", "tau"), [(0.1, 0.5), (0.6, 0.8)])
def test_cooled_variance(alpha: float, beta1: float, tau: float) -> None:
    """Within 1.5 % of the exact value; 8,000 chains of 300 steps have a standard error of at most 0.4 %."""
    curvature, lr = torch.tensor([0.3, 2.0, 8.0]), 0.2
    injected = math.sqrt(2 + 2 * beta1**2) * ROWS**-0.5 * lr**0.75 * tau ** (1 / (2 * alpha) - 1)
    expected = exact(curvature, injected, tau=tau, lr=lr, beta1=beta1)
    found = stationary_variance(curvature, tau=tau, lr=lr, betas=(beta1, 1.0), alpha=alpha)
    torch.testing.assert_close(found, expected, rtol=0.015, atol=0)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("tau", [0.5, 0.15])
def test_temperature_one_is_the_posterior(temperature: float, tau: float) -> None:
    """At any preconditioner the variance is 1 / (N a), times the temperature, but for the error of a finite step."""
    curvature, lr, beta1 = torch.tensor([0.5, 4.0]), 0.2, 0.1
    k = lr * curvature * tau
    expected = temperature / (ROWS * curvature) / (1 - k / (2 * (1 + beta1)))
    found = stationary_variance(curvature, tau=tau, lr=lr, temperature=temperature)
    torch.testing.assert_close(found, expected, rtol=0.015, atol=0)


def test_gradient_weight_keeps_the_temperature() -> None:
    curvature, lr = torch.tensor([2.0]), 0.2
    found = stationary_variance(curvature, lr=lr, betas=(0.1, 0.5), temperature=1.0)
    k = 0.5 * lr * 2 * 0.5
    torch.testing.assert_close(found, torch.tensor([1 / (ROWS * 2) / (1 - k / 2.2)]), rtol=0.015, atol=0)


def test_error_of_a_step_shrinks_with_it() -> None:
    curvature = torch.tensor([4.0])
    errors = [float(stationary_variance(curvature, lr=lr, temperature=1.0)) * ROWS * 4 - 1 for lr in (0.4, 0.2, 0.1)]
    assert errors[0] > 1.5 * errors[1] > 2.25 * errors[2] > 0


def test_draws_are_those_of_nuts() -> None:
    """A linear regression at temperature 1: means and standard deviations within 5 Monte Carlo errors of NUTS's.

    The step is small enough that its own error, 1 % of the variance at most, is below them.
    """
    x = torch.randn(ROWS, 2)
    y = x @ torch.tensor([1.0, -0.5]) + 0.5 * torch.randn(ROWS)
    net = nn.Linear(2, 1, bias=False)
    model = SparseNetwork(net, x[:2], prior=Gaussian(1.0), likelihood=GaussianNoise(0.5), num_data=ROWS)
    reference = sample(
        model, (x, y), SamplingPlan(chains=1, warmup=80, draws=150), seed=0, progress=False
    ).draws.summary()["weight"]
    weights = nn.Parameter(torch.zeros(4_000, 2))
    optimizer = SpikeSlabSGHMC([weights], lr=0.01, num_data=ROWS, temperature=1.0, weight_decay=1 / ROWS)
    for _ in range(800):
        weights.grad = (weights.detach() @ x.T - y) @ x / (ROWS * 0.25)
        optimizer.step()
    mean, sd = weights.detach().mean(0), weights.detach().std(0)
    ess = reference["ess_bulk"][0].clamp(max=4_000)
    assert ((mean - reference["mean"][0]).abs() < 5 * sd / ess.sqrt()).all()
    assert ((sd / reference["sd"][0] - 1).abs() < 5 / (2 * ess).sqrt()).all()
    covariance = torch.linalg.inv(x.T @ x / 0.25 + torch.eye(2))
    exact_mean = covariance @ x.T @ y / 0.25
    assert ((mean - exact_mean).abs() < 0.1 * covariance.diag().sqrt()).all()
    scale = covariance.diag().outer(covariance.diag()).sqrt()
    torch.testing.assert_close(weights.detach().T.cov() / scale, covariance / scale, atol=0.1, rtol=0)


def test_effective_temperature_of_the_cooled_sampler() -> None:
    """At the peak of the method's regression examples (C = .1, N = 10240) it is 0.056."""
    group = SpikeSlabSGHMC(parameters((1,)), lr=0.01, num_data=10_240).param_groups[0]
    assert effective_temperature(group) == pytest.approx(1.01 / 0.9 * 0.5 * 0.1)
    second = SpikeSlabSGHMC(parameters((1,)), lr=0.01, num_data=10_240, alpha=1.0).param_groups[0]
    assert effective_temperature(second, 0.3) == effective_temperature(second, 0.9) == pytest.approx(1.01 / 0.9 * 0.1)
    given = SpikeSlabSGHMC(parameters((1,)), lr=0.01, num_data=10_240, temperature=0.5).param_groups[0]
    assert effective_temperature(given) == 0.5


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_preconditioner_goes_as_a_power_of_the_curvature(alpha: float) -> None:
    """tau ~ (h + d)^-alpha: as Adam's for 1/2, as a second-order method's for 1. Gradients at mu + sigma eps."""
    curvature, decay, chains = torch.tensor([1.0, 3.0, 9.0], dtype=DOUBLE), 1.0, 400
    parameter = nn.Parameter(torch.zeros(3, chains, dtype=DOUBLE))
    optimizer = SpikeSlabSGHMC([parameter], lr=1.0, num_data=ROWS, alpha=alpha, weight_decay=decay, eta=0.1)
    parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    scale, p = amplitude(optimizer.param_groups[0])
    total = torch.zeros(3, dtype=DOUBLE)
    for step in range(2000):
        tau, noise = optimizer.preconditioner(parameter), optimizer.state[parameter]["noise"]
        parameter.grad = curvature[:, None] * scale * tau**p * noise  # at the mean 0
        optimizer.step()
        total += tau.mean(1) * (step >= 1500)
    torch.testing.assert_close(total / 500, (curvature + decay) ** -alpha, rtol=0.05, atol=0)


# ---- an optimiser among others ---------------------------------------------------------------------------------------


def regression_run(optimizer_of: Callable[[nn.Module], SpikeSlabSGHMC], steps: int) -> tuple[nn.Module, SpikeSlabSGHMC]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.SiLU(), nn.Linear(4, 1)).double()
    optimizer = optimizer_of(net)
    train(net, optimizer, steps)
    return net, optimizer


def train(net: nn.Module, optimizer: SpikeSlabSGHMC, steps: int) -> None:
    x = torch.linspace(-1, 1, 60, dtype=DOUBLE).reshape(20, 3)
    for _ in range(steps):
        optimizer.zero_grad()
        (net(x).squeeze(-1) - x.sum(1)).square().mean().backward()
        optimizer.step()


def test_state_dict_round_trip() -> None:
    """A run taken up from a file goes on as if it had not been interrupted."""
    net, optimizer = regression_run(lambda n: SpikeSlabSGHMC(n.parameters(), num_data=ROWS), 3)
    optimizer.weight_decays(net[0].weight, torch.full((1, 3), 0.3, dtype=DOUBLE))  # type: ignore[index]
    file = io.BytesIO()
    torch.save((net.state_dict(), optimizer.state_dict()), file)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    again, other = regression_run(lambda n: SpikeSlabSGHMC(n.parameters(), lr=0.5, num_data=1), 1)
    again.load_state_dict(weights)
    other.load_state_dict(state)
    for one, its in ((net, optimizer), (again, other)):
        torch.manual_seed(7)
        train(one, its, 4)
    for first, second in zip(net.parameters(), again.parameters(), strict=True):
        assert torch.equal(first, second)


def test_closure() -> None:
    parameter = parameters((2,))[0]
    optimizer = SpikeSlabSGHMC([parameter], num_data=ROWS)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = parameter.square().sum()
        loss.backward()
        return loss

    before = parameter.detach().clone()
    loss = optimizer.step(closure)
    assert loss.item() == pytest.approx(before.square().sum().item())
    assert not torch.equal(parameter, before)
    assert optimizer.step() is None


def test_parameters_without_gradient_stay() -> None:
    moved, still = parameters((2,), (3,))
    optimizer = SpikeSlabSGHMC([moved, still], num_data=ROWS)
    with_gradients([moved])
    before = still.detach().clone()
    optimizer.step()
    assert torch.equal(still, before) and not optimizer.state[still]


def test_groups_have_options_of_their_own() -> None:
    """With no step size and no preconditioner step, nothing moves but by the momentum there was."""
    fast, slow = parameters((200,), (200,))
    optimizer = SpikeSlabSGHMC([{"params": [fast]}, {"params": [slow], "lr": 0.0}], lr=0.5, num_data=ROWS)
    before = [fast.detach().clone(), slow.detach().clone()]
    with_gradients([fast, slow])
    optimizer.step()
    assert (fast - before[0]).abs().mean() > 100 * (slow - before[1]).abs().mean()


def test_finds_a_minimum_when_cooled_down() -> None:
    net, optimizer = regression_run(lambda n: SpikeSlabSGHMC(n.parameters(), lr=0.3, num_data=100_000), 1)
    schedule = CyclicalCosine(optimizer, steps=600, cycles=1)
    x = torch.linspace(-1, 1, 60, dtype=DOUBLE).reshape(20, 3)
    for _ in range(600):
        train(net, optimizer, 1)
        schedule.step()
    assert (net(x).squeeze(-1) - x.sum(1)).square().mean() < 0.02


def test_replace_cuts_the_state() -> None:
    whole = parameters((4, 3))[0]
    optimizer = SpikeSlabSGHMC([whole], num_data=ROWS, weight_decay=0.1)
    optimizer.weight_decays(whole, torch.rand(4, 3, dtype=DOUBLE))
    with_gradients([whole])
    optimizer.step()
    before = copy.deepcopy(optimizer.state[whole])
    rows, columns = torch.tensor([0, 3]), torch.tensor([1])
    small = nn.Parameter(whole.detach()[rows][:, columns])
    optimizer.replace(whole, small, {0: rows, 1: columns})
    assert optimizer.param_groups[0]["params"] == [small] and whole not in optimizer.state
    for name, value in before.items():
        assert torch.equal(optimizer.state[small][name], value[rows][:, columns])
    with_gradients([small])
    optimizer.step()
    assert optimizer.preconditioner(small).shape == (2, 1)


def test_preconditioner_before_the_first_step() -> None:
    parameter = parameters((3,))[0]
    assert torch.equal(
        SpikeSlabSGHMC([parameter], num_data=ROWS).preconditioner(parameter), torch.full_like(parameter, 0.5)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_data": 0}, "num_data must be at least 1, got 0"),
        ({"lr": -1.0}, "lr must be finite and not negative, got -1"),
        ({"eta": math.nan}, "eta must be finite"),
        ({"weight_decay": -0.1}, "weight_decay must be finite"),
        ({"noise_scale": -1.0}, "noise_scale must be finite"),
        ({"betas": (1.0, 1.0)}, "betas must be a fraction below 1"),
        ({"betas": (0.5, 0.0)}, "betas must be .* got \\(0.5, 0.0\\)"),
        ({"alpha": 0.7}, "alpha must be 1/2 .* or 1 .* got 0.7"),
        ({"temperature": "hot"}, "temperature must be 'cooled' or a number .* got 'hot'"),
        ({"temperature": -1.0}, "temperature must be 'cooled' or a number"),
        ({"temperature": 1.0, "noise_scale": 0.1}, "noise_scale is of the 'cooled' temperature"),
    ],
)
def test_refusals(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpikeSlabSGHMC(parameters((1,)), **{"num_data": ROWS, **options})


# ---- the cycles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "cycles"), [(40, 4), (7, 3), (5, 5), (10, 1)])
def test_cyclical_cosine(steps: int, cycles: int) -> None:
    optimizer = SpikeSlabSGHMC(parameters((1,)), lr=0.02, num_data=ROWS)
    schedule = CyclicalCosine(optimizer, steps=steps, cycles=cycles)
    length = steps / cycles
    for step in range(steps):
        expected = 0.01 * (1 + math.cos(math.pi * (step % length) / length))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected)
        optimizer.step()
        schedule.step()


def test_cyclical_cosine_is_taken_up() -> None:
    optimizer = SpikeSlabSGHMC(parameters((1,)), lr=0.02, num_data=ROWS)
    schedule = CyclicalCosine(optimizer, steps=10, cycles=2)
    for _ in range(3):
        optimizer.step()
        schedule.step()
    again = CyclicalCosine(SpikeSlabSGHMC(parameters((1,)), lr=0.02, num_data=ROWS), steps=3)
    again.load_state_dict(schedule.state_dict())
    assert again.get_lr() == schedule.get_lr() and again.length == 5


@pytest.mark.parametrize("cycles", [0, 11])
def test_cycles_out_of_range(cycles: int) -> None:
    with pytest.raises(ValueError, match=f"cycles must be at least 1.*, got {cycles}"):
        CyclicalCosine(SpikeSlabSGHMC(parameters((1,)), num_data=ROWS), steps=10, cycles=cycles)
