"""The page of a comparison: its tables, and the warnings beside them."""

import copy
from typing import Any

import pytest

from bnn_pyro.comparison.page import comparison_notes, comparison_page, comparison_tables, print_comparison


def made_row(gates: str, **changes: Any) -> dict[str, Any]:
    row = {
        "gates": gates,
        "scores": {"rmse": 1.23456, "nll": 0.98765, "ece": 0.0512, "coverage95": 0.9032},
        "seconds": 12.4,
        "nodes_open": {"inputs": 1.5, "hidden1": 4.25},
        "inclusion": {"inputs": [0.5, 1.0], "hidden1": [0.85] * 5},
        "at_least": {"inputs": [1.0, 0.5], "hidden1": [1.0, 1.0, 1.0, 1.0, 0.25]},
        "chains": {},
        "agreement": {
            "with": "NUTS",
            "total_variation": 0.25,
            "wasserstein": 0.4321,
            "r_hat": 1.234,
            "nodes inputs": 0.1,
        },
        "details": {},
    }
    return {**row, **changes}


def made_metrics(r_hat: float = 1.01) -> dict[str, Any]:
    """Numbers as a comparison gives them."""
    chains = {"r_hat": r_hat, "ess": 321.0, "ess_per_second": 2.675}
    details = {"chains": 4, "warmup": 100, "draws": 200, "leapfrogs": 31.0, "divergences": 3}
    own = {"with": "its own halves", "total_variation": 0.01, "wasserstein": 0.02, "r_hat": 1.001}
    distance = {"total_variation": 0.25, "wasserstein": 0.4, "r_hat": 1.2}
    titles = ("AutoSpikeSlab", "NUTS")
    return {
        **{"data": "yacht", "task": "regression", "net": "mlp", "hidden": [5], "prior": "ss-ghs", "seed": 3},
        **{"train_rows": 1277, "test_rows": 31, "compared_rows": 31, "threads": 1, "seconds": 400.0},
        "groups": {"inputs": 2, "hidden1": 5},
        "methods": {
            "AutoSpikeSlab": made_row("exact"),
            "NUTS": made_row("relaxed", chains=chains, details=details, agreement=own),
            "exact spikes": {"failed": "ValueError: it broke"},
        },
        "distances": {a: dict.fromkeys(titles, distance) for a in titles},
    }


def test_the_scores() -> None:
    scores = comparison_tables(made_metrics())[0]
    assert scores.header == ("method", "gates", "RMSE", "NLL", "ECE", "95 % int.", "inputs/2", "hidden1/5", "seconds")
    assert scores.rows[0] == ("AutoSpikeSlab", "exact", "1.23", "0.988", "0.051", "90.3 %", "1.5", "4.2", "12")
    assert scores.rows[2] == ("exact spikes", "failed", *[""] * 7)


def test_agreement_and_chains() -> None:
    _, agreement, chains = comparison_tables(made_metrics())
    assert agreement.rows[0] == ("AutoSpikeSlab", "NUTS", "0.250", "0.432", "1.23", "0.10", "")
    assert agreement.rows[1][:3] == ("NUTS", "its own halves", "0.010")
    assert [row[0] for row in chains.rows] == ["NUTS"]
    assert chains.rows[0][1:] == ("4", "100", "200", "31", "3", "1.010", "321", "2.67")


def test_tables_without_chains_or_gates() -> None:
    metrics = made_metrics() | {"groups": {}}
    metrics["methods"] = {"AutoSpikeSlab": made_row("none", agreement={})}
    (scores,) = comparison_tables(metrics)
    assert "gates" not in scores.header and len(scores.rows[0]) == len(scores.header)


def printed(metrics: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> str:
    print_comparison(metrics)
    return capsys.readouterr().out


def test_a_table_is_aligned_and_narrow(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(made_metrics(), capsys).splitlines()
    assert max(len(line) for line in lines if line.startswith("  ")) <= 88
    header = next(i for i, line in enumerate(lines) if "RMSE" in line)
    assert lines[header + 1].index("1.23") + 4 == lines[header].index("RMSE") + 4


def test_what_nobody_should_overlook_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = comparison_notes(made_metrics(r_hat=1.7))
    assert "exact spikes failed: ValueError: it broke" in text
    assert "Chains have not converged: NUTS (R-hat 1.70)" in text and "not a reference" in text
    assert "All chains have converged: R-hat at most 1.010." in comparison_notes(made_metrics())
    assert "have not converged: NUTS (R-hat nan)" in comparison_notes(made_metrics(r_hat=float("nan")))
    assert text in printed(made_metrics(r_hat=1.7), capsys)


def test_each_note_is_one_line() -> None:
    metrics = made_metrics()
    metrics["methods"]["exact spikes"]["failed"] = "ValueError: it broke\nbadly"
    problems = {"epochs": 7, "problems": ["stopped after 7 of 9 epochs, as time was up"]}
    metrics["methods"]["AutoSpikeSlab"]["details"] = problems
    assert comparison_notes(metrics).splitlines() == [
        "exact spikes failed: ValueError: it broke badly",
        "AutoSpikeSlab: stopped after 7 of 9 epochs, as time was up.",
        "All chains have converged: R-hat at most 1.010.",
    ]
    for note in comparison_notes(metrics).splitlines():
        assert f"\n* {note}\n" in comparison_page(metrics)


def test_the_page_says_how_to_read_it() -> None:
    metrics = made_metrics()
    page = comparison_page(metrics, pictures=("predictions", "agreement"))
    for words in (
        "# yacht: mlp 5, prior ss-ghs, seed 3",
        "1,277 training rows, 31 test rows; KL weight 1",
        "400 seconds on 1 thread.",
        "| NUTS | relaxed |",
        "on the target's original scale",
        "two models",
        "](predictions.png)",
    ):
        assert words in page
    assert "inclusion.png" not in page
    assert metrics == copy.deepcopy(metrics)
