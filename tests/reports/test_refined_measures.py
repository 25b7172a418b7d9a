"""What is measured of a refined network: numbers by hand."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import lenet
from bnn_pyro.posterior.diagnostics import r_hat_summary
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.posterior.stacking import Stacking
from bnn_pyro.priors import Gaussian
from bnn_pyro.reports import refined_measures
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.predictions import predict_net
from bnn_pyro.reports.refined_measures import IMAGE_DRAWS, RefinedMeasures, measure_refined
from tests.reports.finished import CHAINS, DRAWS, classification, refined, regression, sampled


def measured(run: Run, **options: Any) -> RefinedMeasures:
    assert run.refined is not None
    likelihood = run.posterior.model.likelihood
    predictions = {"dense": predict_net(run.dense, likelihood, run.test[0], run.dense_noise)}
    return measure_refined(run.refined, predictions, {"dense": run.dense}, run.test, y_std=run.y_std, **options)


def drawn(run: Run) -> SampledPosterior:
    assert run.refined is not None
    return run.refined


@pytest.mark.parametrize("make", [classification, regression])
def test_scores_and_differences(make: Any) -> None:
    run = refined(make())
    x, y = run.test
    found = measured(run).metrics
    scores = drawn(run).evaluate(x, y, y_std=run.y_std)
    assert {name: found[f"refined_test_{name}"] for name in scores} == pytest.approx(scores, rel=1e-5)
    own = log_scores(drawn(run).predict(x, return_draws=True), y, y_std=run.y_std)
    dense = predict_net(run.dense, run.posterior.model.likelihood, x, run.dense_noise)
    difference = log_scores(dense, y, y_std=run.y_std) - own
    error = float(difference.double().std()) / math.sqrt(len(y))
    assert found["refined_minus_dense_nll"] == pytest.approx([float(difference.mean()), error], rel=1e-4)
    assert found["refined_chains"] == CHAINS and found["refined_draws"] == CHAINS * DRAWS
    assert found["refined_seconds"] == 12.0


def test_weights_of_chains_are_reported() -> None:
    run = refined(regression(), apart=3.0)
    found = measured(run).metrics
    assert found["refined_weights"] == "equal" and found["refined_largest_weight"] == 1 / CHAINS
    assert found["refined_scored_draws"] == CHAINS * DRAWS and "refined_unreliable_rows" not in found
    given = drawn(run).weighted(torch.tensor([0.25, 0.25, 0.5]))
    found = measured(replace(run, refined=given), reference=drawn(run)).metrics
    assert found["refined_weights"] == "given" and found["refined_largest_weight"] == 0.5
    assert found["refined_scored_draws"] == 2 * DRAWS and found["refined_draws"] == CHAINS * DRAWS
    assert found["reference_weights"] == "equal" and found["reference_scored_draws"] == CHAINS * DRAWS
    x, y = run.test
    scores = given.evaluate(x, y, y_std=run.y_std)
    assert found["refined_test_nll"] == pytest.approx(scores["nll"], rel=1e-5)
    shapes = torch.tensor([[0.8] * 5 + [0.1] * 3, [0.8] + [0.1] * 7, [0.8] * 2 + [0.1] * 6])
    stacking = Stacking(torch.tensor([0.25, 0.25, 0.5]), torch.zeros(3, 8), shapes)
    stacked = SampledPosterior(given.model, given.draws, chain_weights=stacking)
    found = measured(replace(run, refined=stacked)).metrics
    assert found["refined_weights"] == "stacking" and found["refined_unreliable_rows"] == [2, 8]


def test_mixing_is_that_of_the_predictions_on_some_rows() -> None:
    run = refined(regression(), apart=3.0)
    found = measured(run).metrics["refined_r_hat"]
    assert found == pytest.approx(list(r_hat_summary(drawn(run).prediction_r_hat(run.test[0]))))
    assert found[0] > 1.2
    assert measured(refined(regression(), draws=3)).metrics["refined_r_hat"] == [None, None]


def test_the_program_has_thinned_draws_and_a_cost() -> None:
    run = refined(classification())
    found = measured(run)
    assert found.ensemble is not None and found.ensemble.draws == found.metrics["ensemble_draws"] == 100
    assert found.metrics["program_bytes"].keys() == {"ensemble", "dense"}
    assert found.metrics["program_latency_ms"]["256"].keys() == {"ensemble", "dense"}
    expected = drawn(run).predict(run.test[0], num_samples=100)
    torch.testing.assert_close(found.ensemble(run.test[0]), expected)


def test_the_program_of_a_net_that_reads_images_has_few_draws() -> None:
    x = torch.randn(6, 1, 16, 16)
    net = lenet(1, 3, image_size=16, filters=(2, 2), hidden=(3,)).eval()
    model = SparseNetwork(net, x[:2], prior=Gaussian(), likelihood=Categorical(), num_data=10)
    found = measure_refined(sampled(model, draws=10), {}, {}, (x, torch.tensor([0, 1, 2, 0, 1, 2])))
    assert found.ensemble is not None and found.ensemble.draws == IMAGE_DRAWS


def test_a_program_that_cannot_be_made_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no such operation")

    monkeypatch.setattr(refined_measures, "predictive_net", fail)
    found = measured(refined(classification()))
    assert found.ensemble is None and found.metrics["ensemble_draws"] == 0
    assert "program_bytes" not in found.metrics and "refined_test_nll" in found.metrics
    assert "is not written as a program: no such operation" in caplog.text
