"""What a run warns of, from its numbers alone."""

from typing import Any

import pytest

from bnn_pyro.reports.run_warnings import run_warnings, worse_than_dense, worse_than_draws
from tests.reports.test_page import METRICS, REGRESSION, text
from tests.reports.test_refined_page import REFINED

EMPTY = {**METRICS, "nodes_kept": {"inputs": [3, 784], "hidden1": [0, 400]}}


@pytest.mark.parametrize("metrics", [METRICS, REGRESSION, REFINED, {**METRICS, "nodes_kept": {}}])
def test_a_good_run_warns_of_nothing(metrics: dict[str, Any]) -> None:
    fine = {**metrics, "input_rms": 1.0, "target_mean_sd": [0.0, 1.0], "pruned_minus_dense_nll": [0.01, 0.02]}
    assert run_warnings(metrics) == run_warnings(fine) == [] and "Warnings" not in text(fine)


def test_all_of_them_stand_on_top_of_the_page() -> None:
    metrics = {
        **{**EMPTY, **{key: value for key, value in REFINED.items() if key not in METRICS}},
        **{"refined_test_accuracy": 0.98, "refined_r_hat": [1.3, 2.0], "input_rms": 255.0},
        **{"chains": 2, "posterior_test_accuracy": 0.99, "pruned_minus_dense_nll": [0.2, 0.1]},
    }
    found = run_warnings(metrics)
    starts = (
        *("inputs are far from unit scale", "no node of 'hidden1' is left", "the pruned network is clearly worse"),
        *("the pruned network is a single draw of 2 chains", "the chains of the refined network have not mixed"),
    )
    assert len(found) == len(starts)
    assert all(warning.startswith(start) for warning, start in zip(found, starts, strict=True))
    shown = text(metrics)
    assert shown.index("## Warnings") < shown.index("## Scores")
    for warning in found:
        assert f"* {warning[0].upper()}{warning[1:]}.\n" in shown


def test_targets_are_looked_at() -> None:
    (warning,) = run_warnings({**REGRESSION, "input_rms": 1.0, "target_mean_sd": [2e5, 8e4]})
    assert "their mean is 2e+05 and their standard deviation 8e+04" in warning


@pytest.mark.parametrize(
    ("pair", "warns"),
    [([0.2, 0.1], True), ([0.05, 0.1], False), ([-0.3, 0.1], False), ([0.2, None], False)],
)
def test_the_pruned_network_is_judged_by_one_standard_error(pair: list[float | None], warns: bool) -> None:
    assert bool(worse_than_dense({**METRICS, "pruned_minus_dense_nll": pair})) == warns
    assert bool(worse_than_dense({**REGRESSION, "pruned_minus_dense_mse": pair})) == warns


def test_validation_rows_come_before_test_rows() -> None:
    metrics = {**METRICS, "pruned_minus_dense_nll": [0.2, 0.1]}
    warning = worse_than_dense(metrics)
    assert "worse than the dense one on the test rows: its negative log score is larger by 0.2 per row" in warning
    assert "a standard error of 0.1" in warning and "a lower KL weight" in warning
    assert worse_than_dense({**metrics, "validation_pruned_minus_dense_nll": [0.0, 0.1]}) == ""
    other = worse_than_dense({**metrics, "validation_pruned_minus_dense_nll": [0.4, 0.1]})
    assert "on the validation rows" in other
    sampled = worse_than_dense({**metrics, "temperature": "cooled"})
    assert "a lower threshold of removal" in sampled and "KL weight" not in sampled
    assert "its squared error" in worse_than_dense({**REGRESSION, "pruned_minus_dense_mse": [3.0, 1.0]})


def test_a_draw_of_chains_is_warned_of() -> None:
    of_chains = {**METRICS, "chains": 16, "posterior_test_accuracy": 0.97}
    assert worse_than_draws(of_chains) == (
        "the pruned network is a single draw of 16 chains and is worse than the mean over draws: "
        "test accuracy 96.12 % instead of 97.00 %; predict with the posterior's draws"
    )
    assert worse_than_draws({**REGRESSION, "chains": 16, "posterior_test_rmse": 0.9})


def test_nothing_is_warned_of_where_pruning_costs_nothing() -> None:
    for metrics in (
        METRICS,
        {**METRICS, "chains": 16},
        {**METRICS, "chains": 16, "posterior_test_accuracy": 0.96121},
        {**METRICS, "posterior_test_accuracy": 0.97},
        {**REGRESSION, "chains": 16, "posterior_test_rmse": 0.97},
    ):
        assert worse_than_draws(metrics) == ""
