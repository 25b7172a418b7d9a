"""Regressions: linear ones with flat priors, and logistic ones."""

from collections.abc import Callable

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from tests.references.posterior import DATA, DOUBLE, Posterior, bits, joined, load

_LINEAR, _LOGISTIC = joined("beta", "sigma"), joined("beta")


# ---- linear ----------------------------------------------------------------------------------------------------------


def flat_linear(x: Tensor, y: Tensor) -> None:
    """Flat priors of coefficients and noise.

    Args:
        x: Columns, of which the intercept is one.
        y: Targets.
    """
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real, (), x.shape[1:]))
    sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
    pyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)


def cauchy_linear(x: Tensor, y: Tensor) -> None:
    """A half-Cauchy prior of the noise, and flat ones of the coefficients.

    Args:
        x: Columns, of which the intercept is one.
        y: Targets.
    """
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real, (), x.shape[1:]))
    sigma = pyro.sample("sigma", dist.HalfCauchy(2.5))
    pyro.sample("y", dist.Normal(x @ beta, sigma).to_event(1), obs=y)


def _columns(*columns: Tensor) -> Tensor:
    return torch.stack([torch.ones_like(columns[0]), *columns], 1)


def _scaled(column: Tensor) -> Tensor:
    return (column - column.mean()) / (2 * column.std())


def kidiq(name: str) -> Posterior:
    """Return a regression of children's test scores on their mothers' schooling, test score or work.

    Args:
        name: Name of the summary.
    """
    rows = {key: torch.tensor(value, dtype=DOUBLE) for key, value in load("kidiq").items()}
    school, iq, work = rows["mom_hs"], rows["mom_iq"], rows["mom_work"]

    def interacting(a: Tensor, b: Tensor) -> Tensor:
        return _columns(a, b, a * b)

    x: Callable[[], Tensor] = {
        "kidscore_momhs": lambda: _columns(school),
        "kidscore_momiq": lambda: _columns(iq),
        "kidscore_momhsiq": lambda: _columns(school, iq),
        "kidscore_interaction": lambda: interacting(school, iq),
        "kidscore_interaction_c": lambda: interacting(school - school.mean(), iq - iq.mean()),
        "kidscore_interaction_c2": lambda: interacting(school - 0.5, iq - 100),
        "kidscore_interaction_z": lambda: interacting(_scaled(school), _scaled(iq)),
        "kidscore_mom_work": lambda: _columns(*((work == kind).to(DOUBLE) for kind in (2, 3, 4))),
    }[name.partition("-")[2]]
    model = cauchy_linear if name.startswith("kidiq-") else flat_linear
    return Posterior(model, (x(), rows["kid_score"]), _LINEAR, name)


def mesquite(name: str) -> Posterior:
    """Return a regression of the leaves' weight of mesquite bushes on their sizes.

    Args:
        name: Name of the summary.
    """
    rows = {key: torch.tensor(value, dtype=DOUBLE) for key, value in load("mesquite").items()}
    group, logs = rows["group"], {key: value.log() for key, value in rows.items()}
    area = logs["diam1"] + logs["diam2"]
    volume, shape = area + logs["canopy_height"], logs["diam1"] - logs["diam2"]
    sizes = ("diam1", "diam2", "canopy_height", "total_height", "density")
    kind = name.partition("-")[2]
    x = {
        "mesquite": _columns(*(rows[key] for key in sizes), group),
        "logmesquite": _columns(*(logs[key] for key in sizes), group),
        "logmesquite_logva": _columns(volume, area, group),
        "logmesquite_logvas": _columns(volume, area, shape, logs["total_height"], logs["density"], group),
        "logmesquite_logvash": _columns(volume, area, shape, logs["total_height"], group),
        "logmesquite_logvolume": _columns(volume),
    }[kind]
    return Posterior(flat_linear, (x, rows["weight"] if kind == "mesquite" else logs["weight"]), _LINEAR, name)


def sesame(name: str) -> Posterior:
    """Return a regression of who watched a programme on who was encouraged to.

    Args:
        name: Name of the summary.
    """
    counts = load("sesame")
    pairs = [(kind, who) for kind in ("not_encouraged", "encouraged") for who in ("others", "watched")]
    times = torch.tensor([counts[kind][who] for kind, who in pairs])
    encouraged, watched = (
        torch.tensor(part, dtype=DOUBLE).repeat_interleave(times) for part in ([0, 0, 1, 1], [0, 1, 0, 1])
    )
    return Posterior(flat_linear, (_columns(encouraged), watched), _LINEAR, name)


def kilpisjarvi(name: str) -> Posterior:
    """Return a trend of summer temperatures, its year not centred, so that slope and intercept are almost the same.

    Args:
        name: Name of the summary.
    """
    found = load("kilpisjarvi")
    y = torch.tensor(found["y"], dtype=DOUBLE)
    x = torch.arange(len(y), dtype=DOUBLE) + found["first_x"]

    def model(x: Tensor, y: Tensor) -> None:
        alpha = pyro.sample("alpha", dist.Normal(9.31290322580645, 100.0))
        beta = pyro.sample("beta", dist.Normal(0.0, 0.0333333333333333))
        sigma = pyro.sample("sigma", dist.ImproperUniform(constraints.positive, (), ()))
        pyro.sample("y", dist.Normal(alpha + beta * x, sigma).to_event(1), obs=y)

    return Posterior(model, (x, y), joined("alpha", "beta", "sigma"), name)


def radon_pooled(name: str) -> Posterior:
    """Return a regression of radon in houses on the floor where it was measured.

    Args:
        name: Name of the summary.
    """

    def model(x: Tensor, y: Tensor) -> None:
        alpha, beta = (pyro.sample(site, dist.Normal(0.0, 10.0)) for site in ("alpha", "beta"))
        sigma = pyro.sample("sigma_y", dist.HalfNormal(1.0))
        pyro.sample("y", dist.Normal(alpha + beta * x, sigma).to_event(1), obs=y)

    found = load("radon")
    y = torch.tensor(found["log_radon"], dtype=DOUBLE)
    return Posterior(model, (bits(found["floor"]), y), joined("alpha", "beta", "sigma_y"), name)


# ---- logistic --------------------------------------------------------------------------------------------------------


def flat_logistic(x: Tensor, y: Tensor) -> None:
    """Flat priors of the coefficients.

    Args:
        x: Columns, of which the intercept is one.
        y: 0 or 1.
    """
    beta = pyro.sample("beta", dist.ImproperUniform(constraints.real, (), x.shape[1:]))
    pyro.sample("y", dist.Bernoulli(logits=x @ beta).to_event(1), obs=y)


def wells(name: str) -> Posterior:
    """Return a regression of who changes his well on the way to the next one, and on the arsenic in the old one.

    Args:
        name: Name of the summary.
    """
    found = load("wells")
    way, arsenic = (torch.tensor(found[key], dtype=DOUBLE) for key in ("dist", "arsenic"))
    x = _columns(way) if name.endswith("wells_dist") else _columns(way / 100, arsenic)
    return Posterior(flat_logistic, (x, bits(found["switched"])), _LOGISTIC, name)


def _shocks() -> tuple[Tensor, Tensor, Tensor]:
    """Return of each trial whether a dog was shocked, how often it avoided that before, and how often it did not."""
    y = torch.stack([bits(row) for row in load("dogs")["shocked"]])
    shocked = torch.cat([torch.zeros_like(y[:, :1]), y.cumsum(1)[:, :-1]], 1)
    return y, torch.arange(y.shape[1], dtype=DOUBLE) - shocked, shocked


def dogs(name: str) -> Posterior:
    """Return a regression of shocks that dogs did not avoid on those before.

    Args:
        name: Name of the summary.
    """

    def model(x: Tensor, y: Tensor) -> None:
        beta = pyro.sample("beta", dist.Normal(0.0, 100.0).expand([3]).to_event(1))
        pyro.sample("y", dist.Bernoulli(logits=x @ beta).to_event(1), obs=y)

    y, avoided, shocked = _shocks()
    return Posterior(model, (_columns(avoided.flatten(), shocked.flatten()), y.flatten()), _LOGISTIC, name)


def dogs_powers(name: str) -> Posterior:
    """Return dogs that are shocked with the probability ``a ** shocked * b ** avoided``.

    Args:
        name: Name of the summary.
    """

    def model(y: Tensor, avoided: Tensor, shocked: Tensor) -> None:
        a, b = (pyro.sample(site, dist.Uniform(0.0, 1.0)) for site in ("a", "b"))
        log_p = shocked * a.log() + avoided * b.log()
        never = (shocked + avoided == 0) & (y == 1)  # of the first trial the probability is 1
        log_q = torch.log(-torch.expm1(torch.where(never, -torch.ones_like(log_p), log_p)))
        pyro.factor("shocks", torch.where(y == 1, log_p, log_q).sum())

    return Posterior(model, _shocks(), joined("a", "b"), name)


def german_credit(name: str) -> Posterior:
    """Return a logistic regression of bad credits, with a Normal prior or a sparse one.

    Args:
        name: Name of the summary.
    """
    rows = [line.split(",") for line in (DATA / "german_credit.csv").read_text(encoding="utf-8").splitlines()]
    table = torch.tensor([[float(cell) for cell in row] for row in rows], dtype=DOUBLE)
    features = (table[:, :-1] - table[:, :-1].mean(0)) / table[:, :-1].std(0, correction=0)
    x, y = torch.cat([features, torch.ones_like(features[:, :1])], 1), table[:, -1] - 1
    if "sparse" not in name:
        return Posterior(unit_logistic, (x, y), joined("weights"), name)
    sites = ("global_scale", "local_scales", "unscaled_weights")
    return Posterior(sparse_logistic, (x, y), joined(*sites), name)


def unit_logistic(x: Tensor, y: Tensor) -> None:
    """Weights of unit scale.

    Args:
        x: Columns, of which the intercept is one.
        y: 0 or 1.
    """
    weights = pyro.sample("weights", dist.Normal(0.0, 1.0).expand(x.shape[1:]).to_event(1))
    pyro.sample("y", dist.Bernoulli(logits=x @ weights).to_event(1), obs=y)


def sparse_logistic(x: Tensor, y: Tensor) -> None:
    """Weights of unit scale times scales of their own and of all.

    Args:
        x: Columns, of which the intercept is one.
        y: 0 or 1.
    """
    whole = pyro.sample("global_scale", dist.Gamma(0.5, 0.5))
    own = pyro.sample("local_scales", dist.Gamma(0.5, 0.5).expand(x.shape[1:]).to_event(1))
    weights = pyro.sample("unscaled_weights", dist.Normal(0.0, 1.0).expand(x.shape[1:]).to_event(1))
    pyro.sample("y", dist.Bernoulli(logits=x @ (weights * own * whole)).to_event(1), obs=y)
