"""Time series, as functions of tensors without a loop over time."""

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from tests.references.posterior import DOUBLE, Posterior, Values, joined, load


def _filtered(x: Tensor, factor: Tensor) -> Tensor:
    r"""Return :math:`z_t = x_t + a z_{t-1}`, by sums over twice as many terms each time.

    Args:
        x: Shape ``(time,)``.
        factor: a.
    """
    lag = 1
    while lag < len(x):
        x = torch.cat([x[:lag], x[lag:] + factor * x[:-lag]])
        lag, factor = 2 * lag, factor.square()
    return x


def _series(name: str) -> Tensor:
    return torch.tensor(load("series")[name], dtype=DOUBLE)


def autoregressive(name: str) -> Posterior:
    """Return an autoregression of order 5.

    Args:
        name: Name of the summary.
    """

    def model(before: Tensor, y: Tensor) -> None:
        alpha = pyro.sample("alpha", dist.Normal(0.0, 10.0))
        beta = pyro.sample("beta", dist.Normal(0.0, 10.0).expand([5]).to_event(1))
        sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
        pyro.sample("y", dist.Normal(alpha + before @ beta, sigma).to_event(1), obs=y)

    y = _series("arK")
    before = torch.stack([y[5 - lag : len(y) - lag] for lag in range(1, 6)], 1)
    return Posterior(model, (before, y[5:]), joined("alpha", "beta", "sigma"), name)


def moving_average(name: str) -> Posterior:
    """Return an autoregression with a moving average, each of order 1.

    Args:
        name: Name of the summary.
    """

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        phi, theta = (pyro.sample(site, dist.Normal(0.0, 2.0)) for site in ("phi", "theta"))
        sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
        before = torch.cat([mu.reshape(1), y[:-1]])
        error = _filtered(y - mu - phi * before, -theta)
        pyro.factor("errors", dist.Normal(0.0, sigma).log_prob(error).sum())

    return Posterior(model, (_series("arma"),), joined("mu", "phi", "theta", "sigma"), name)


def garch(name: str) -> Posterior:
    """Return a series whose variance follows the last variance and the last squared deviation.

    Args:
        name: Name of the summary.
    """

    def model(y: Tensor) -> None:
        mu = pyro.sample("mu", dist.ImproperUniform(constraints.real, (), ()))
        base = pyro.sample("alpha0", dist.ImproperUniform(constraints.positive, (), ()))
        alpha, beta, _ = pyro.sample(
            "shares", dist.Dirichlet(torch.ones(3, dtype=DOUBLE))
        )  # flat where their sum is below 1
        first = torch.full((1,), 0.25, dtype=DOUBLE)
        variance = _filtered(torch.cat([first, base + alpha * (y[:-1] - mu).square()]), beta)
        pyro.sample("y", dist.Normal(mu, variance.sqrt()).to_event(1), obs=y)

    def quantities(values: Values) -> Tensor:
        return torch.cat([joined("mu", "alpha0")(values), values["shares"][..., :2]], -1)

    return Posterior(model, (_series("garch"),), quantities, name)
