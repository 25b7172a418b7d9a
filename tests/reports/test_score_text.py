"""Scores as text."""

from bnn_pyro.reports.score_text import SCORES, is_classification, main_score, percent, score_text


def test_scores_have_their_digits() -> None:
    metrics = {"test_accuracy": 0.96123, "test_rmse": 12.34567, "test_nll": -1.23456}
    assert [score_text(metrics, "test_", name) for name in ("accuracy", "rmse", "nll")] == [
        "96.12 %",
        "12.35",
        "-1.2346",
    ]
    assert percent(0.1234) == "12.3 %" and percent(1.0, 0) == "100 %"


def test_the_first_score_is_that_of_the_task() -> None:
    assert is_classification({"test_accuracy": 0.5}) and not is_classification({"test_rmse": 0.5})
    assert main_score({"test_accuracy": 0.5}) == "accuracy" and main_score({"test_rmse": 0.5}) == "rmse"
    assert {"accuracy", "rmse"} <= SCORES.keys()
