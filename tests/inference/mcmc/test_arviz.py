"""Draws as ArviZ holds them, whichever of its versions is installed."""

import builtins
from pathlib import Path
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.arviz import to_arviz
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.posterior.draws import Draws
from tests.inference.mcmc.test_sample import regression
from tests.models import DOUBLE, NOISE, data
from tests.posterior.test_diagnostics import TAIL
from tests.posterior.test_sampled import CHAINS, DRAWS, by_hand, rows, sampled

pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore::DeprecationWarning"
)  # of ArviZ, at its import


@pytest.fixture(scope="module")
def arviz() -> Any:
    return pytest.importorskip("arviz")


@pytest.fixture(scope="module")
def run() -> tuple[Draws, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    given = data()
    plan = SamplingPlan(chains=2, warmup=100, draws=60)
    return sample(regression, given, plan, seed=0, progress=False), given


def values(group: Any, name: str) -> Tensor:
    return torch.as_tensor(group[name].values)


def test_posterior_and_statistics(arviz: Any, run: tuple[Draws, Any]) -> None:
    draws, _ = run
    found = to_arviz(draws)
    assert set(found["posterior"].data_vars) == {"w"} and found["posterior"]["w"].dims[:2] == ("chain", "draw")
    assert torch.equal(values(found["posterior"], "w"), draws.values["w"])
    statistics = found["sample_stats"]
    names = {"lp", "energy", "diverging", "acceptance_rate", "step_size", "n_steps", "tree_depth"}
    assert set(statistics.data_vars) == names
    assert torch.equal(values(statistics, "lp"), -draws.energy)
    assert torch.equal(values(statistics, "energy"), draws.total_energy)
    assert values(statistics, "diverging").dtype == torch.bool
    assert torch.equal(values(statistics, "step_size")[:, 0], draws.step_size)
    depth, steps = values(statistics, "tree_depth"), values(statistics, "n_steps")
    assert ((2**depth - 1 <= steps) & (steps < 2 ** (depth + 1) - 1)).all()
    assert found["posterior"].attrs["inference_library"] == "bnn_pyro"
    assert not hasattr(found, "log_likelihood")


def test_arviz_says_what_we_say(arviz: Any, run: tuple[Draws, Any]) -> None:
    """Its R-hat, ESS and E-BFMI of the exported draws."""
    draws, _ = run
    found, summary = to_arviz(draws), draws.summary()["w"]
    dataset = found["posterior"]
    for name, options in (("ess_bulk", {"method": "bulk"}), ("ess_tail", TAIL)):
        expected = torch.as_tensor(arviz.ess(dataset, **options)["w"].values)
        torch.testing.assert_close(summary[name], expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(summary["r_hat"], torch.as_tensor(arviz.rhat(dataset)["w"].values), rtol=1e-6, atol=0)
    assert len(arviz.summary(found)) == 3


@pytest.mark.filterwarnings("ignore:Estimated shape parameter:UserWarning")  # of few rows and draws
def test_likelihood_of_a_model(arviz: Any, run: tuple[Draws, Any]) -> None:
    draws, (x, y) = run
    found = to_arviz(draws, (x, y), model=one_by_one)
    mean = (draws.values["w"].unsqueeze(-2) * x).sum(-1)
    expected = dist.Normal(mean, NOISE).log_prob(y)
    torch.testing.assert_close(values(found["log_likelihood"], "y"), expected)
    assert torch.equal(values(found["observed_data"], "y"), y)
    comparison = arviz.loo(found, var_name="y")
    elpd = float(comparison.elpd_loo if hasattr(comparison, "elpd_loo") else comparison.elpd)
    assert 0 < float(expected.mean((0, 1)).sum()) - elpd < 10


def one_by_one(x: Tensor, y: Tensor) -> None:
    """The regression, its observations in a plate."""
    w = pyro.sample("w", dist.Normal(x.new_zeros(x.shape[1]), 2.0).to_event(1))
    with pyro.plate("rows", len(x)):
        pyro.sample("y", dist.Normal(x @ w, NOISE), obs=y)


def test_network(arviz: Any) -> None:
    posterior, x, y = sampled(1, likelihood=GaussianNoise()), rows(), torch.randn(8, dtype=DOUBLE)
    found = to_arviz(posterior, (x, y), sites=["hidden1.gate", "noise_scale"])
    assert found["posterior"]["hidden1.gate"].dims == ("chain", "draw", "hidden1_node")
    assert set(found["posterior"].data_vars) == {"hidden1.gate", "noise_scale"}
    scale = posterior.draws.stacked()["noise_scale"].unsqueeze(-1)
    expected = dist.Normal(by_hand(posterior, x).squeeze(-1), scale).log_prob(y).unflatten(0, (CHAINS, DRAWS))
    torch.testing.assert_close(values(found["log_likelihood"], "obs"), expected)
    assert found["log_likelihood"]["obs"].dims == ("chain", "draw", "row")
    assert found["observed_data"]["obs"].dims == ("row",)


def test_classes(arviz: Any) -> None:
    posterior, x, y = sampled(), rows(), torch.randint(3, (8,))
    found = to_arviz(posterior, (x, y))
    expected = by_hand(posterior, x).log_softmax(-1).unflatten(0, (CHAINS, DRAWS))[..., torch.arange(8), y]
    torch.testing.assert_close(values(found["log_likelihood"], "obs"), expected)
    assert torch.equal(values(found["observed_data"], "obs"), y)


def test_can_be_written(arviz: Any, run: tuple[Draws, Any], tmp_path: Path) -> None:
    """As NetCDF, with the dots in its sites' names."""
    pytest.importorskip("h5netcdf")
    pytest.importorskip("h5py")
    found = to_arviz(sampled())
    found.to_netcdf(tmp_path / "draws.nc", engine="h5netcdf")
    assert (tmp_path / "draws.nc").stat().st_size > 0


def test_what_is_missing_is_told(arviz: Any, run: tuple[Draws, Any]) -> None:
    draws, given = run
    with pytest.raises(ValueError, match="sites must be of w, got 'v'"):
        to_arviz(draws, sites=["v"])
    with pytest.raises(ValueError, match="model must be given with the data"):
        to_arviz(draws, given)
    with pytest.raises(ValueError, match="x must have shape"):
        to_arviz(sampled(), (torch.randn(4, 9), torch.randint(3, (4,))))
    other: Any = draws.values
    with pytest.raises(ValueError, match="draws must be what sample has returned, got dict"):
        to_arviz(other)


def test_without_arviz_it_says_how_to_install_it(run: tuple[Draws, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    original: Any = builtins.__import__

    def refusing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "arviz":
            raise ImportError("No module named 'arviz'")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refusing)
    with pytest.raises(ImportError, match=r"pip install 'bnn_pyro\[diagnostics\]'"):
        to_arviz(run[0])
