"""What is measured of a run: numbers by hand."""

import math
from dataclasses import replace

import pytest
import torch

from bnn_pyro.evaluation.metrics import classification_metrics, paired_difference, regression_metrics
from bnn_pyro.posterior.prune import prune
from bnn_pyro.reports.measures import Run, evaluate_run
from bnn_pyro.reports.run_warnings import run_warnings, worse_than_dense, worse_than_draws
from tests.posterior import permuted
from tests.reports.finished import classification, refined, regression, sampled

KEYS = {
    *("test_accuracy", "test_nll", "test_ece", "nodes_kept", "params_kept", "flops_kept", "inclusion", "kl_weight"),
    *("pruned_test_accuracy", "pruned_max_abs_diff", "latency_ratio", "tempered", "posterior_test_accuracy"),
    *("dense_test_accuracy", "params_kept_one_sided", "latency_ratio_batch_1"),
}


# measuring
def test_metrics_have_the_promised_keys() -> None:
    assert set(evaluate_run(classification()).metrics) >= KEYS
    names = {key.replace("accuracy", "rmse") for key in KEYS}
    assert set(evaluate_run(regression()).metrics) >= names


def test_scores_are_those_of_the_median_model_and_of_the_dense_net() -> None:
    run = classification()
    x, y = run.test
    metrics = evaluate_run(run).metrics
    dense = classification_metrics(run.dense(x).softmax(1), y)
    median = classification_metrics(run.posterior.median_model()(x).softmax(1), y)
    for name in ("accuracy", "nll", "ece", "brier"):
        assert metrics[f"dense_test_{name}"] == pytest.approx(dense[name], rel=1e-5)
        assert metrics[f"test_{name}"] == pytest.approx(median[name], rel=1e-5)
        assert metrics[f"pruned_test_{name}"] == pytest.approx(median[name], rel=1e-5)
    assert metrics["posterior_test_nll"] != pytest.approx(median["nll"], rel=1e-4)


def test_regression_is_told_on_the_original_scale_with_the_noise_of_the_dense_net() -> None:
    run = regression()
    x, y = run.test
    metrics = evaluate_run(run).metrics
    mean = run.dense(x).detach().T
    dense = regression_metrics(mean, torch.full_like(mean, 0.3), y, y_std=7.0)
    for name in ("rmse", "nll", "ece", "coverage95"):
        assert metrics[f"dense_test_{name}"] == pytest.approx(dense[name], rel=1e-5)
        assert metrics[f"pruned_test_{name}"] == pytest.approx(metrics[f"test_{name}"], rel=1e-5)
    error = run.pruned(x).detach().squeeze(1) - y
    assert metrics["test_rmse"] == pytest.approx(7 * float(error.square().mean().sqrt()))


def test_chains_are_scored_as_chains(caplog: pytest.LogCaptureFixture) -> None:
    """The pruned net is a draw, the best one of the chains; where it is worse than the mean a warning is logged."""
    model, test = permuted.regression()
    posterior, dense = permuted.chains(model, test), model.net.eval()
    run = Run(posterior, prune(posterior), dense, test, dense_noise=torch.tensor(0.1), num_samples=120)
    metrics = evaluate_run(run).metrics
    assert metrics["chains"] == permuted.CHAINS and metrics["nodes_kept"] == {"hidden1": [5, 8]}
    assert metrics["posterior_test_rmse"] == pytest.approx(posterior.evaluate(*test)["rmse"])
    assert metrics["test_rmse"] == pytest.approx(metrics["pruned_test_rmse"]) == pytest.approx(0.1, abs=0.02)
    with torch.no_grad():
        run.pruned.get_parameter("output.bias").add_(1.0)
    caplog.clear()
    metrics = evaluate_run(run).metrics
    worse = [worse_than_dense(metrics), worse_than_draws(metrics)]
    assert [record.getMessage() for record in caplog.records] == [warning for warning in worse if warning]
    assert worse[1] and metrics["warnings"] == run_warnings(metrics) and set(metrics["warnings"]) >= {worse[1]}


def test_the_pruned_network_is_compared_with_the_dense_one() -> None:
    run = regression()
    x, y = run.test
    errors = [(net(x).detach().squeeze(1) - y).square() * 49 for net in (run.pruned, run.dense)]
    expected = paired_difference(*errors)
    metrics = evaluate_run(run).metrics
    assert metrics["pruned_minus_dense_mse"] == pytest.approx(list(expected))
    assert not any(key.startswith("validation") for key in metrics)
    metrics = evaluate_run(replace(run, validation=(x[:10], y[:10]))).metrics
    some = paired_difference(errors[0][:10], errors[1][:10])
    assert metrics["validation_pruned_minus_dense_mse"] == pytest.approx(list(some))
    of_classes = classification()
    metrics = evaluate_run(of_classes).metrics
    mean, error = metrics["pruned_minus_dense_nll"]
    assert mean == pytest.approx(metrics["pruned_test_nll"] - metrics["dense_test_nll"], abs=1e-5) and error > 0
    one = evaluate_run(replace(run, validation=(x[:1], y[:1]))).metrics
    assert one["validation_pruned_minus_dense_mse"][1] is None  # of a single row, and JSON has no NaN


def test_scales_are_those_of_training() -> None:
    run = regression()
    metrics = evaluate_run(replace(run, train_x=100 * run.test[0], train_y=2 * run.test[1] + 50)).metrics
    assert metrics["input_rms"] == pytest.approx(100 * float(run.test[0].square().mean(0).sqrt().max()))
    assert metrics["target_mean_sd"][0] == pytest.approx(50 + 2 * float(run.test[1].mean()), abs=1e-3)
    assert [warning.split()[0] for warning in metrics["warnings"]][:2] == ["inputs", "targets"]
    assert "target_mean_sd" not in evaluate_run(classification()).metrics


def test_without_chains_nothing_is_said_of_them(caplog: pytest.LogCaptureFixture) -> None:
    assert "chains" not in evaluate_run(classification()).metrics and "chains" not in caplog.text


def test_counts_by_hand() -> None:
    """4-6-3 with 2 hidden nodes left: 19 of 51 parameters two-sided, 31 one-sided, 14 of 42 multiply-accumulates."""
    metrics = evaluate_run(classification()).metrics
    assert metrics["nodes_kept"] == {"hidden1": [2, 6]}
    assert metrics["params"] == [19, 51]
    assert metrics["params_kept"] == 19 / 51
    assert metrics["params_kept_one_sided"] == 31 / 51
    assert metrics["flops"] == [28, 84]
    assert metrics["flops_kept"] == pytest.approx(1 / 3)
    assert metrics["inclusion"] == {"hidden1": pytest.approx([0.952574] * 2 + [0.047426] * 4)}


def test_removed_inputs_count_two_sided_alone() -> None:
    metrics = evaluate_run(classification(select_inputs=True)).metrics
    assert metrics["nodes_kept"] == {"inputs": [3, 4], "hidden1": [2, 6]}
    assert metrics["params"] == [3 * 2 + 2 + 2 * 3 + 3, 51]
    assert metrics["params_kept_one_sided"] == 31 / 51


def test_the_difference_of_the_pruned_net_is_measured() -> None:
    run = classification()
    assert evaluate_run(run).metrics["pruned_max_abs_diff"] < 1e-5
    with torch.no_grad():
        list(run.pruned.parameters())[-1].add_(torch.tensor([0.0, 0.5, 0.0]))
    assert evaluate_run(run).metrics["pruned_max_abs_diff"] == pytest.approx(0.5, rel=1e-3)


def test_latency_is_that_of_both_nets_at_batch_1_and_256() -> None:
    metrics = evaluate_run(classification()).metrics
    for size, key in (("1", "latency_ratio_batch_1"), ("256", "latency_ratio")):
        pruned, dense = metrics["latency_ms"][size]
        assert metrics[key] == pytest.approx(pruned / dense)
        assert 0 < pruned and math.isfinite(dense)


def test_a_prior_without_gates_keeps_everything() -> None:
    metrics = evaluate_run(classification(None)).metrics
    assert metrics["nodes_kept"] == metrics["inclusion"] == {}
    assert metrics["params_kept"] == metrics["params_kept_one_sided"] == metrics["flops_kept"] == 1


@pytest.mark.parametrize(("kl_weight", "tempered"), [(0.1, True), (1.0, False)])
def test_a_tempered_posterior_is_called_so(kl_weight: float, tempered: bool) -> None:
    metrics = evaluate_run(classification(kl_weight=kl_weight)).metrics
    assert metrics["kl_weight"] == kl_weight
    assert metrics["tempered"] is tempered


def test_a_refined_run_is_measured_beside_the_others() -> None:
    run = refined(regression())
    run = replace(run, reference=sampled(run.posterior.model))
    plain, found = evaluate_run(replace(run, refined=None, reference=None)), evaluate_run(run)
    assert plain.ensemble is None and found.ensemble is not None
    assert not {name for name in plain.metrics if "refine" in name or "reference" in name}
    assert plain.metrics.keys() < found.metrics.keys()
    for name in ("refined_test_nll", "reference_test_rmse", "refined_minus_reference_nll", "refined_minus_dense_nll"):
        assert name in found.metrics
    mean, _ = found.metrics["refined_minus_pruned_nll"]
    nll = {name: found.metrics[f"{name}_test_nll"] for name in ("refined", "pruned")}
    assert mean == pytest.approx(nll["refined"] - nll["pruned"], abs=1e-5)


def test_why_a_run_is_not_refined_is_said() -> None:
    run = replace(classification(), not_refined="no node of 'hidden1' is left")
    assert evaluate_run(run).metrics["not_refined"] == "no node of 'hidden1' is left"
