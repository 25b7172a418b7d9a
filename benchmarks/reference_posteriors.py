"""Posteriors whose moments are known, exactly or by a sampler that is not the one in question.

Written anew in Pyro, in double precision. Posteriordb's own files, German credit among them, are not read: the logistic
regression has the table ``ionosphere`` instead, and the regressions with unknown noise and with a horseshoe have
synthetic data. The measurements of eight schools are those that were published.

What is compared are quantities: functions of the latents, each of one number per draw.

Source: Rubin (1981), *Estimation in parallel randomized experiments*; Magnusson et al. (2025), *posteriordb: Testing,
benchmarking and developing Bayesian inference algorithms*; Carvalho, Polson, Scott (2010), *The horseshoe estimator for
sparse signals*.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.nn.functional import silu

from bnn_pyro import Gaussian, SparseNetwork, networks
from bnn_pyro.data import load
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.posterior.diagnostics import ess_bulk, r_hat

DOUBLE = torch.float64
Values = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Reference:
    """Moments of quantities, and how well they are known.

    Args:
        mean: Means.
        sd: Standard deviations.
        mean_error: Monte Carlo errors of the means, in standard deviations; 0 where exact.
        square_error: Those of the second moments about ``mean``, in variances.
        r_hat: The largest; 1 where exact.
        how: How they were found.
    """

    mean: Tensor
    sd: Tensor
    mean_error: Tensor
    square_error: Tensor
    r_hat: float
    how: str


@dataclass(frozen=True, eq=False)
class Target:
    """A posterior.

    Args:
        model: The Pyro model.
        args: Its arguments.
        quantities: Returns what is compared, shape ``(chains, draws, quantities)``, of the values of its sites.
        reference: Returns the moments; the argument divides the number of draws where they are sampled.
    """

    model: Callable[..., object]
    args: tuple[Tensor, ...]
    quantities: Callable[[Values], Tensor]
    reference: Callable[["Target", int], Reference]


# ---- references ------------------------------------------------------------------------------------------------------


def exact(mean: Tensor, sd: Tensor) -> Reference:
    """Return moments that are known."""
    return Reference(mean, sd, torch.zeros_like(mean), torch.zeros_like(mean), 1.0, "exact")


def of_draws(quantities: Tensor, how: str) -> Reference:
    """Return the moments of draws.

    Args:
        quantities: Shape ``(chains, draws, quantities)``.
        how: How they were made.
    """
    sd, mean = torch.std_mean(quantities, (0, 1))
    errors = monte_carlo_errors((quantities - mean) / sd)
    return Reference(mean, sd, *errors, float(r_hat(quantities).max()), how)


def monte_carlo_errors(scaled: Tensor) -> tuple[Tensor, Tensor]:
    """Return the standard errors of means and of mean squares.

    Args:
        scaled: Draws, shape ``(chains, draws, quantities)``.
    """
    first, second = (each.std((0, 1)) / ess_bulk(each).sqrt() for each in (scaled, scaled.square()))
    return first, second


def by_nuts(target: Target, divisor: int, *, chains: int, draws: int) -> Reference:
    """Return the moments of draws by NUTS."""
    kept = max(draws // divisor, 8)
    plan = SamplingPlan(kernel="nuts", chains=chains, warmup=max(400 // divisor, 8), draws=kept, target_accept=0.9)
    found = sample(target.model, target.args, plan, seed=1000, progress=False)
    drawn = found.draws.values if hasattr(found, "draws") else found.values
    return of_draws(target.quantities(drawn), f"NUTS, {chains} chains of {kept} draws")


def mixture(log_weight: Tensor, mean: Tensor, variance: Tensor) -> Reference:
    """Return the moments of a mixture of Normals over a grid.

    Args:
        log_weight: Unnormalised, shape ``(grid,)``.
        mean: Of each component, shape ``(grid, quantities)``.
        variance: Likewise.
    """
    weight = torch.softmax(log_weight, 0)
    first = weight @ mean
    return exact(first, (weight @ (variance + (mean - first).square())).sqrt())


def _half_cauchy(log_value: Tensor, scale: float) -> Tensor:
    """Return the logarithm of the half-Cauchy density of a value, over its logarithm, up to a constant."""
    return log_value - torch.log1p((log_value.exp() / scale).square())


# ---- eight schools ---------------------------------------------------------------------------------------------------

EFFECTS = (28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0)
ERRORS = (15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0)


def _schools(y: Tensor, sigma: Tensor) -> None:
    """Eight effects about a common mean; their Normals become non-centred."""
    mean = pyro.sample("mean", dist.Normal(y.new_zeros(()), 5.0))
    spread = pyro.sample("spread", dist.HalfCauchy(y.new_full((), 5.0)))
    effect = pyro.sample("effect", dist.Normal(mean.expand(len(y)), spread).to_event(1))
    pyro.sample("y", dist.Normal(effect, sigma).to_event(1), obs=y)


def _schools_exactly(target: Target, _: int) -> Reference:
    """Return the moments, by quadrature over the spread; given it, all else is Normal."""
    y, sigma = target.args
    log_spread = torch.linspace(-16.0, 9.0, 8001, dtype=DOUBLE)
    spread = log_spread.exp().square()[:, None, None]
    prior = 25.0 + torch.eye(len(y), dtype=DOUBLE) * spread
    data = prior + sigma.square().diag()
    with_data = torch.cat([torch.full_like(prior[:, :1], 25.0), prior], 1)  # of mean and effects
    gain = torch.linalg.solve(data, with_data, left=False)
    own = torch.cat([torch.full_like(prior[:, :1, 0], 25.0), prior.diagonal(dim1=1, dim2=2)], 1)
    likelihood = dist.MultivariateNormal(torch.zeros_like(y), covariance_matrix=data).log_prob(y)
    mean, variance = gain @ y, own - (gain * with_data).sum(-1)
    mean, variance = torch.cat([mean, log_spread[:, None]], 1), torch.nn.functional.pad(variance, (0, 1))
    return mixture(likelihood + _half_cauchy(log_spread, 5.0), mean, variance)


def schools(_: Path) -> Target:
    """Return eight schools: the mean, the effects and the logarithm of their spread."""

    def quantities(values: Values) -> Tensor:
        return torch.cat([values["mean"][..., None], values["effect"], values["spread"].log()[..., None]], -1)

    args = torch.tensor(EFFECTS, dtype=DOUBLE), torch.tensor(ERRORS, dtype=DOUBLE)
    return Target(_schools, args, quantities, _schools_exactly)


# ---- a Normal --------------------------------------------------------------------------------------------------------


def _normal(factor: Tensor) -> None:
    pyro.sample("x", dist.MultivariateNormal(factor.new_zeros(len(factor)), scale_tril=factor))


def normal(_: Path) -> Target:
    """Return a Normal of 50 coordinates: standard deviations from .1 to 10, correlations .8 to the power of the lag."""
    size = 50
    lag = (torch.arange(size)[:, None] - torch.arange(size)).abs()
    sd = torch.logspace(-1, 1, size, dtype=DOUBLE)[torch.randperm(size, generator=torch.Generator().manual_seed(0))]
    factor = torch.linalg.cholesky(sd.outer(sd) * 0.8**lag)
    reference = exact(torch.zeros_like(sd), sd)
    return Target(_normal, (factor,), lambda values: values["x"], lambda target, divisor: reference)


# ---- regressions -----------------------------------------------------------------------------------------------------


def _linear(x: Tensor, y: Tensor) -> None:
    """Coefficients with wide priors, and an unknown noise."""
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), 10.0).to_event(1))
    noise = pyro.sample("noise", dist.HalfCauchy(x.new_ones(())))
    pyro.sample("y", dist.Normal(x @ w, noise).to_event(1), obs=y)


def _linear_exactly(target: Target, _: int) -> Reference:
    """Return the moments, by quadrature over the noise."""
    x, y = target.args
    log_noise = torch.linspace(-6.0, 6.0, 8001, dtype=DOUBLE)
    noise = log_noise.exp().square()[:, None, None]
    covariance = torch.linalg.inv(x.T @ x / noise + torch.eye(x.shape[1], dtype=DOUBLE) / 100.0)
    mean = (covariance @ (x.T @ y / noise[:, 0])[..., None]).squeeze(-1)
    data = 100.0 * x @ x.T + torch.eye(len(y), dtype=DOUBLE) * noise
    likelihood = torch.cat(
        [dist.MultivariateNormal(torch.zeros_like(y), covariance_matrix=part).log_prob(y) for part in data.split(500)]
    )
    variance = torch.nn.functional.pad(covariance.diagonal(dim1=1, dim2=2), (0, 1))
    weight = likelihood + _half_cauchy(log_noise, 1.0)
    return mixture(weight, torch.cat([mean, log_noise[:, None]], 1), variance)


def linear(_: Path) -> Target:
    """Return a linear regression, five correlated columns and 40 rows: coefficients and logarithm of the noise."""
    chance = torch.Generator().manual_seed(0)
    x, common, errors = (torch.randn(40, k, dtype=DOUBLE, generator=chance) for k in (5, 1, 1))
    x = 0.6 * x + 0.8 * common
    y = x @ torch.tensor([1.0, -0.5, 0.5, 0.0, 0.0], dtype=DOUBLE) + errors[:, 0]

    def quantities(values: Values) -> Tensor:
        return torch.cat([values["w"], values["noise"].log()[..., None]], -1)

    return Target(_linear, (x, y), quantities, _linear_exactly)


def _logistic(x: Tensor, y: Tensor) -> None:
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), 1.0).to_event(1))
    pyro.sample("y", dist.Bernoulli(logits=x @ w).to_event(1), obs=y)


def logistic(folder: Path) -> Target:
    """Return a logistic regression of all rows of ``ionosphere``, standardised, with an intercept."""
    found = load(str(folder / "tables" / "ionosphere.npz"), data_dir=folder)
    x, y = (torch.cat([getattr(part, name) for part in (found.train, found.test)]).to(DOUBLE) for name in "xy")
    x = torch.cat([x.new_ones(len(x), 1), x], 1)
    return Target(
        _logistic,
        (x, y.reshape(-1)),
        lambda values: values["w"],
        lambda target, divisor: by_nuts(target, divisor, chains=4, draws=4000),
    )


# ---- the horseshoe ---------------------------------------------------------------------------------------------------

HORSESHOE_NOISE = 0.7


def _horseshoe(x: Tensor, y: Tensor) -> None:
    """Known noise, and a half-Cauchy scale of each coefficient and of all."""
    whole = pyro.sample("whole", dist.HalfCauchy(x.new_ones(())))
    own = pyro.sample("own", dist.HalfCauchy(x.new_ones(x.shape[1])).to_event(1))
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), whole * own).to_event(1))
    pyro.sample("y", dist.Normal(x @ w, HORSESHOE_NOISE).to_event(1), obs=y)


def _gibbs(target: Target, divisor: int) -> Reference:
    """Return the moments of draws by a Gibbs sampler, whose conditionals all have a closed form.

    Source: Makalic, Schmidt (2016), *A simple sampler for the horseshoe estimator*.
    """
    x, y = target.args
    torch.manual_seed(1000)
    chains, transitions, columns = 256, max(800 // divisor, 8), x.shape[1]
    own, own_mixing = torch.ones(2, chains, columns, dtype=DOUBLE)
    whole, whole_mixing = torch.ones(2, chains, dtype=DOUBLE)
    kept = []
    for number in range(transitions * 5 // 4):
        precision = x.T @ x / HORSESHOE_NOISE**2 + torch.diag_embed(1 / (own * whole[:, None]))
        factor = torch.linalg.cholesky(precision)
        mean = torch.cholesky_solve((x.T @ y / HORSESHOE_NOISE**2).expand(chains, columns)[..., None], factor)
        w = (mean + torch.linalg.solve_triangular(factor.mT, torch.randn_like(mean), upper=True)).squeeze(-1)
        halves = w.square() / 2
        own = _inverse_gamma(1.0, 1 / own_mixing + halves / whole[:, None])
        own_mixing = _inverse_gamma(1.0, 1 + 1 / own)
        whole = _inverse_gamma((columns + 1) / 2, 1 / whole_mixing + (halves / own).sum(-1))
        whole_mixing = _inverse_gamma(1.0, 1 + 1 / whole)
        if number >= transitions // 4:
            kept.append({"w": w, "own": own.sqrt(), "whole": whole.sqrt()})
    values = {name: torch.stack([each[name] for each in kept], 1) for name in kept[0]}
    return of_draws(target.quantities(values), f"Gibbs, {chains} chains of {transitions} draws")


def _inverse_gamma(shape: float, scale: Tensor) -> Tensor:
    return scale / torch._standard_gamma(torch.full_like(scale, shape))


def horseshoe(_: Path) -> Target:
    """Return a horseshoe regression, 15 columns, two that matter, 30 rows: coefficients and logarithms of scales."""
    chance = torch.Generator().manual_seed(0)
    x, errors = (torch.randn(30, k, dtype=DOUBLE, generator=chance) for k in (15, 1))
    y = 2.0 * x[:, 0] - 0.7 * x[:, 1] + HORSESHOE_NOISE * errors[:, 0]

    def quantities(values: Values) -> Tensor:
        return torch.cat([values["w"], values["own"].log(), values["whole"].log()[..., None]], -1)

    return Target(_horseshoe, (x, y), quantities, _gibbs)


# ---- a network -------------------------------------------------------------------------------------------------------


def network(folder: Path) -> Target:
    """Return a network with five SiLU units on yacht, known noise: what it computes at 20 test points."""
    found = load("yacht", data_dir=folder)
    x, y, points = found.train.x.to(DOUBLE), found.train.y.to(DOUBLE), found.test.x[:20].to(DOUBLE)
    net = networks.mlp(x.shape[1], (5,), 1).double()
    model = SparseNetwork(net, x[:2], prior=Gaussian(1.0), likelihood=GaussianNoise(0.5), num_data=len(x)).eval()

    def quantities(values: Values) -> Tensor:
        first = torch.einsum("td,csnd->cstn", points, values["hidden1.weight"])
        hidden = silu(first + values["hidden1.bias"].unsqueeze(-2))
        outputs = torch.einsum("cstn,csmn->cst", hidden, values["output.weight"])
        return outputs + values["output.bias"]

    return Target(model, (x, y), quantities, lambda target, divisor: by_nuts(target, divisor, chains=8, draws=600))


TARGETS: dict[str, Callable[[Path], Target]] = {
    "normal": normal,
    "schools": schools,
    "linear": linear,
    "logistic": logistic,
    "horseshoe": horseshoe,
    "network": network,
}
