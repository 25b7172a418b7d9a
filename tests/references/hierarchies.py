"""Models with scales that are unknown: schools, counties, Gaussian processes and a horseshoe."""

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from tests.references.posterior import DOUBLE, Posterior, Values, joined, load

# ---- schools and counties --------------------------------------------------------------------------------------------


def schools_model(y: Tensor, sigma: Tensor) -> None:
    """Eight effects about a common mean.

    Args:
        y: Measured effects.
        sigma: Their errors.
    """
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    theta = pyro.sample("theta", dist.Normal(mu, tau).expand(y.shape).to_event(1))
    pyro.sample("y", dist.Normal(theta, sigma).to_event(1), obs=y)


def _schools_data() -> tuple[Tensor, Tensor]:
    found = load("schools")
    return torch.tensor(found["y"], dtype=DOUBLE), torch.tensor(found["sigma"], dtype=DOUBLE)


def schools(name: str) -> Posterior:
    """Return eight schools, whose effects become non-centred.

    Args:
        name: Name of the summary.
    """
    return Posterior(schools_model, _schools_data(), joined("theta", "mu", "tau"), name)


def schools_by_hand(name: str) -> Posterior:
    """Return eight schools, written with effects of unit scale.

    Args:
        name: Name of the summary.
    """

    def model(y: Tensor, sigma: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
        tau = pyro.sample("tau", dist.HalfCauchy(5.0))
        unit = pyro.sample("unit", dist.Normal(0.0, 1.0).expand(y.shape).to_event(1))
        theta = pyro.deterministic("theta", mu + tau * unit)
        pyro.sample("y", dist.Normal(theta, sigma).to_event(1), obs=y)

    return Posterior(model, _schools_data(), joined("theta", "mu", "tau"), name)


def schools_centered(name: str) -> Posterior:
    """Return eight schools, sampled with centred effects: a funnel, which no step size suits.

    Args:
        name: Name of the summary.
    """
    return Posterior(schools_model, _schools_data(), joined("theta", "mu", "tau"), name, noncentered=False)


def schools_log_normal(name: str) -> Posterior:
    """Return eight schools with a log-normal spread.

    Args:
        name: Name of the summary.
    """

    def model(y: Tensor, sigma: Tensor) -> None:
        mu = pyro.sample("mu", dist.Normal(0.0, 10.0))
        log_tau = pyro.sample("log_tau", dist.Normal(5.0, 1.0))
        theta = pyro.sample("theta", dist.Normal(mu, log_tau.exp()).expand(y.shape).to_event(1))
        pyro.sample("y", dist.Normal(theta, sigma).to_event(1), obs=y)

    return Posterior(model, _schools_data(), joined("theta", "mu", "log_tau"), name)


# ---- Gaussian processes ----------------------------------------------------------------------------------------------


def _covariance(x: Tensor, alpha: Tensor, rho: Tensor, nugget: Tensor | float) -> Tensor:
    distance = (x.unsqueeze(1) - x) / rho
    return alpha.square() * (-0.5 * distance.square()).exp() + nugget * torch.eye(len(x), dtype=x.dtype)


def gp_regression(name: str) -> Posterior:
    """Return a Gaussian process with noise.

    Args:
        name: Name of the summary.
    """

    def model(x: Tensor, y: Tensor) -> None:
        rho = pyro.sample("rho", dist.Gamma(25.0, 4.0))
        alpha, sigma = pyro.sample("alpha", dist.HalfNormal(2.0)), pyro.sample("sigma", dist.HalfNormal(1.0))
        factor = torch.linalg.cholesky(_covariance(x, alpha, rho, sigma))
        pyro.sample("y", dist.MultivariateNormal(torch.zeros_like(y), scale_tril=factor), obs=y)

    found = load("gp_pois_regr")
    x, y = (torch.tensor(found[key], dtype=DOUBLE) for key in ("x", "y"))
    return Posterior(model, (x, y), joined("rho", "alpha", "sigma"), name)


def gp_counts(name: str) -> Posterior:
    """Return counts whose log rate is a Gaussian process.

    Args:
        name: Name of the summary.
    """

    def model(x: Tensor, k: Tensor) -> None:
        rho, alpha = pyro.sample("rho", dist.Gamma(25.0, 4.0)), pyro.sample("alpha", dist.HalfNormal(2.0))
        unit = pyro.sample("unit", dist.Normal(0.0, 1.0).expand(x.shape).to_event(1))
        f = pyro.deterministic("f", torch.linalg.cholesky(_covariance(x, alpha, rho, 1e-10)) @ unit)
        pyro.sample("k", dist.Poisson(f.exp()).to_event(1), obs=k)

    found = load("gp_pois_regr")
    x, k = (torch.tensor(found[key], dtype=DOUBLE) for key in ("x", "k"))
    return Posterior(model, (x, k), joined("rho", "alpha", "f"), name)


# ---- the horseshoe ---------------------------------------------------------------------------------------------------


def horseshoe(name: str) -> Posterior:
    """Return a regularised horseshoe of 100 columns, eight of which matter, and 200 rows: 204 coordinates.

    Args:
        name: Name of the summary.
    """

    def model(x: Tensor, y: Tensor) -> None:
        rows, columns = x.shape
        alpha = pyro.sample("alpha", dist.Normal(0.0, 2.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(2.0))
        tau = pyro.sample("tau_tilde", dist.HalfCauchy(1.0)) * sigma * (10 / (columns - 10)) / rows**0.5
        slab = 9 * pyro.sample("c2_tilde", dist.InverseGamma(12.5, 12.5))
        own = pyro.sample("lambda", dist.HalfCauchy(1.0).expand([columns]).to_event(1)).square()
        unit = pyro.sample("beta_tilde", dist.Normal(0.0, 1.0).expand([columns]).to_event(1))
        beta = unit * tau * (slab * own / (slab + tau.square() * own)).sqrt()
        pyro.sample("y", dist.Normal(x @ beta + alpha, sigma).to_event(1), obs=y)

    chance = np.random.default_rng(42)
    x = chance.standard_normal((200, 100)).astype(np.float32)
    beta, matters = np.zeros(100, dtype=np.float32), chance.binomial(1, 0.05, 100).astype(bool)
    beta[matters] = (chance.standard_normal(matters.sum()) + 10.0).astype(np.float32)
    y = chance.normal(x @ beta, 1.0).astype(np.float32)
    some = torch.tensor([1, 3, 5, 9, 10, 12, 26, 27, 36, 38, 58, 69, 72]) - 1

    def quantities(values: Values) -> Tensor:
        logs = joined(*("sigma", "tau_tilde", "c2_tilde"))(values).log()
        parts = [joined("alpha")(values), logs, values["beta_tilde"][..., some], values["lambda"][..., some[:11]].log()]
        return torch.cat(parts, -1)

    return Posterior(model, (torch.from_numpy(x).to(DOUBLE), torch.from_numpy(y).to(DOUBLE)), quantities, name)
