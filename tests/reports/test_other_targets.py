"""A report of any targets: counts, labels, several targets, outliers."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bnn_pyro.likelihoods import (
    Bernoulli,
    CorrelatedNoise,
    Likelihood,
    MultiOutputNoise,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.prune import prune
from bnn_pyro.reports.folder import write_report
from bnn_pyro.reports.measures import Run, evaluate_run
from tests.reports.finished import CHAINS, CONFIG, DRAWS, posterior, refined

COUNTS = torch.arange(40) % 4
CASES: dict[str, tuple[Likelihood, int, Tensor, set[str]]] = {
    "one label": (Bernoulli(), 1, COUNTS % 2, {"accuracy", "nll", "brier", "ece"}),
    "counts": (Poisson(), 1, COUNTS, {"rmse", "nll", "deviance"}),
    "counts that vary more": (NegativeBinomial(), 1, COUNTS, {"rmse", "nll", "deviance"}),
    "outliers": (StudentT(), 1, COUNTS.float(), {"rmse", "nll", "mae"}),
    "several targets": (MultiOutputNoise(2), 2, torch.randn(40, 2), {"rmse", "nll", "mae"}),
    "correlated targets": (CorrelatedNoise(2), 2, torch.randn(40, 2), {"rmse", "nll", "mae"}),
}


@pytest.mark.parametrize(("likelihood", "outputs", "y", "scores"), CASES.values(), ids=CASES.keys())
def test_a_report_has_the_scores_of_the_likelihood(
    likelihood: Likelihood, outputs: int, y: Tensor, scores: set[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    net = mlp(4, (6,), outputs)
    fitted = posterior(net, likelihood, torch.arange(6) < 2)
    site = latent_site(likelihood)
    noise = None if site is None else fitted.median_values()[site]
    run = Run(fitted, prune(fitted), net.eval(), (torch.randn(40, 4), y), dense_noise=noise, num_samples=4)
    folder = tmp_path / "report"
    folder.mkdir()
    write_report(folder, run, evaluate_run(run), config=CONFIG)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    for whose in ("test", "posterior_test", "pruned_test", "dense_test"):
        assert {f"{whose}_{name}" for name in scores} <= metrics.keys()
    assert len(metrics["pruned_minus_dense_nll"]) == 2
    assert "| NLL |" in (folder / "report.md").read_text(encoding="utf-8")
    assert not (folder / "calibration.png").exists() and "cannot be drawn" not in caplog.text


@pytest.mark.parametrize("name", ["counts", "correlated targets"])
def test_a_refined_report_has_them_too(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of one number per row with bands, of several without."""
    likelihood, outputs, y, scores = CASES[name]
    net = mlp(4, (6,), outputs)
    fitted = posterior(net, likelihood, torch.arange(6) < 2)
    site, x = latent_site(likelihood), torch.randn(40, 4)
    noise = None if site is None else fitted.median_values()[site]
    run = refined(Run(fitted, prune(fitted), net.eval(), (x, y), dense_noise=noise, num_samples=4, train_x=x), draws=8)
    evaluation = evaluate_run(run)
    assert run.refined is not None and DRAWS > 8
    assert evaluation.metrics["refined_test_nll"] == pytest.approx(run.refined.evaluate(x, y)["nll"], rel=1e-5)
    assert {f"refined_test_{name}" for name in scores} <= evaluation.metrics.keys()
    assert evaluation.metrics["refined_scored_draws"] == 8 * CHAINS
    write_report(tmp_path, run, evaluation, config=CONFIG)
    assert (tmp_path / "bands.png").exists() == (y.dim() == 1) and "cannot be drawn" not in caplog.text
    assert "refined" in (tmp_path / "report.md").read_text(encoding="utf-8")
