"""MCMC in place of Pyro's: the same calls give the same things and right answers, and Pyro itself does the rest."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import HMC, NUTS, Predictive
from pyro.infer.autoguide.initialization import init_to_value
from pyro.infer.reparam import LocScaleReparam
from torch import Tensor

from bnn_pyro.inference.mcmc.pyro_interface import MCMC
from tests.inference.mcmc.test_sample import assert_conjugate, correlated, regression

Y = torch.tensor([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
SIGMA = torch.tensor([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
QUIET: Any = {"disable_progbar": True}


def schools(sigma: Tensor, y: Tensor | None = None) -> None:
    """Eight schools, centred, with priors of plain numbers."""
    mu = pyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = pyro.sample("tau", dist.HalfCauchy(5.0))
    with pyro.plate("schools", len(sigma)):
        theta = pyro.sample("theta", dist.Normal(mu, tau))
        pyro.sample("y", dist.Normal(theta, sigma), obs=y)


def mixture(y: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 3.0))
    with pyro.plate("rows", len(y)):
        sign = pyro.sample("sign", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(mean * (2 * sign - 1), 1.0), obs=y)


def ran(mcmc: Any, model: Callable[..., Any], **options: Any) -> Any:
    """A short run of eight schools, by ours or by Pyro's."""
    pyro.set_rng_seed(0)
    chains = mcmc(NUTS(model, max_tree_depth=4), num_samples=6, warmup_steps=8, **QUIET, **options)
    chains.run(SIGMA, y=Y)
    return chains


@pytest.mark.filterwarnings("ignore:num_chains=2 is more than available_cpu")
def test_gives_what_pyros_gives() -> None:
    """Keys, shapes and dtypes, of samples and of diagnostics."""
    ours, pyros = (ran(mcmc, schools) for mcmc in (MCMC, pyro.infer.MCMC))
    for options in ({}, {"group_by_chain": True}, {"num_samples": 3}, {"num_samples": 3, "group_by_chain": True}):
        found, expected = ours.get_samples(**options), pyros.get_samples(**options)
        assert {n: (v.shape, v.dtype) for n, v in found.items()} == {n: (v.shape, v.dtype) for n, v in expected.items()}
    found, expected = ours.diagnostics(), pyros.diagnostics()
    assert found.keys() == expected.keys()
    for name in ("mu", "theta"):
        assert (
            found[name].keys() == expected[name].keys() and found[name]["r_hat"].shape == expected[name]["r_hat"].shape
        )
    for name in ("divergences", "acceptance rate"):
        assert found[name].keys() == expected[name].keys() == {"chain 0"}
    assert ours.kernel.model is schools and ours.draws.kernel == "nuts"


def test_prints_a_summary(capsys: pytest.CaptureFixture[str]) -> None:
    ran(MCMC, schools).summary(prob=0.5)
    printed = capsys.readouterr().out
    assert "theta[7]" in printed and "25.0%" in printed and "Number of divergences: " in printed
    with pytest.raises(ValueError, match="run must be called first"):
        MCMC(NUTS(schools), 5).summary()


def test_conjugate_posterior_of_several_chains() -> None:
    """Mean and covariance; fails by chance less than once in 10,000 seeds."""
    x, y = correlated()
    pyro.set_rng_seed(3)
    mcmc = MCMC(NUTS(regression, full_mass=True), num_samples=150, warmup_steps=100, num_chains=2, **QUIET)
    mcmc.run(x, y)
    assert mcmc.get_samples()["w"].shape == (300, 2) and mcmc.draws is not None
    assert mcmc.draws.inverse_mass.shape == (2, 2, 2)
    assert_conjugate(mcmc.draws, x, y)


def test_seed_decides_and_sites_to_keep_are_kept() -> None:
    one, two = (ran(MCMC, schools, save_params=["mu"]).get_samples() for _ in range(2))
    assert one.keys() == {"mu"} and torch.equal(one["mu"], two["mu"])


def test_sites_of_a_program_that_reparameterises_itself_are_there_for_predictive() -> None:
    """Pyro's Predictive needs each latent of the program, or would draw it from the prior."""
    model = poutine.reparam(schools, {"theta": LocScaleReparam(0.0)})
    samples = ran(MCMC, model).get_samples()
    assert samples.keys() == {"mu", "tau", "theta_decentered"}
    predicted = Predictive(model, samples)(SIGMA)
    expected = samples["mu"].unsqueeze(-1) + samples["tau"].unsqueeze(-1) * samples["theta_decentered"]
    torch.testing.assert_close(predicted["theta"].reshape(expected.shape), expected)


def test_chains_start_where_they_are_told() -> None:
    """By unconstrained values, or by the kernel's strategy: a step that is too short to leave leads nowhere."""
    far = {"mu": torch.tensor(50.0), "tau": torch.tensor(3.0).log()}
    values = {"mu": far["mu"], "tau": torch.tensor(3.0)}
    for kernel, params in ((NUTS(schools), far), (NUTS(schools, init_strategy=init_to_value(values=values)), None)):
        kernel._max_tree_depth = 1
        mcmc = MCMC(kernel, 1, 1, params, **QUIET)
        mcmc.run(SIGMA, Y)
        assert float(mcmc.get_samples()["mu"]) > 20


def test_hmc_has_its_length() -> None:
    mcmc = MCMC(HMC(schools, trajectory_length=0.5, target_accept_prob=0.7), 3, 4, **QUIET)
    mcmc.run(SIGMA, Y)
    assert mcmc.draws is not None and mcmc.draws.kernel == "hmc" and mcmc.get_samples()["tau"].shape == (3,)


LEFT_TO_PYRO: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "the discrete site 'sign' is to be summed out": (lambda: NUTS(mixture, max_plate_nesting=1), {}),
    "a hook_fn is given": (lambda: NUTS(regression), {"hook_fn": lambda *_: None}),
    "the kernel must not adapt": (lambda: NUTS(regression, adapt_step_size=False, step_size=0.1), {}),
}


@pytest.mark.parametrize("reason", LEFT_TO_PYRO)
def test_what_we_do_not_do_is_left_to_pyro(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    kernel, options = LEFT_TO_PYRO[reason]
    mcmc = MCMC(kernel(), 5, 5, **QUIET, **options)
    mcmc.run(*((torch.randn(4),) if "sign" in reason else correlated()))
    assert f"the chains run in Pyro's own MCMC: {reason}" in caplog.text
    (samples,) = mcmc.get_samples().values()
    assert len(samples) == 5 and mcmc.draws is None and "divergences" in mcmc.diagnostics()


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="num_chains must be at least 1, got 0"):
        MCMC(NUTS(schools), 5, num_chains=0)
    with pytest.raises(ValueError, match="sites must be of mu, tau, theta, got 'nu'"):
        MCMC(NUTS(schools), 5, save_params=["nu"], **QUIET).run(SIGMA, Y)
