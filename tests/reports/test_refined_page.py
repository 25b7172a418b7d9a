"""What the page says of a refined network."""

from typing import Any

import pytest

from bnn_pyro.reports.page import summary_header, summary_rows
from bnn_pyro.reports.refined_page import is_refined, mixing_warning, program_rows, refined_values
from tests.reports.test_page import METRICS, REGRESSION, text

ADDED: dict[str, Any] = {
    **{"refined_test_nll": 0.1, "refined_draws": 1600, "refined_chains": 16, "refined_seconds": 61.4},
    **{"refined_r_hat": [1.01, 1.1], "ensemble_draws": 100},
    **{"refined_minus_dense_nll": [-0.25, 0.0512], "refined_minus_pruned_nll": [0.001, 0.02]},
    "program_bytes": {"ensemble": 63192, "pruned": 12043, "dense": 13579},
    "program_latency_ms": {
        "1": {"ensemble": 0.27, "pruned": 0.11, "dense": 0.1},
        "256": {"ensemble": 1.13, "pruned": 0.2, "dense": 0.15},
    },
}
REFINED = {**METRICS, **ADDED, "refined_test_accuracy": 0.98}


def test_the_refined_network_stands_in_the_table_of_scores() -> None:
    shown = text(REFINED)
    assert "| refined network, 400 of 1,600 draws | 98.00 % | 0.1000 |" in shown
    assert "| refined network, 7 draws | 98.00 % | 0.1000 |" in text({**REFINED, "refined_draws": 7})
    assert "whole network, sampled" not in shown
    whole = {"reference_test_accuracy": 0.5, "reference_test_nll": 2.0, "reference_draws": 40}
    shown = text({**REFINED, **whole, "refined_minus_reference_nll": [-1.0, 0.1]})
    assert "| whole network, sampled, 40 draws | 50.00 % | 2.0000 |" in shown
    assert "| whole network, sampled | -1.0000 | 0.1000 |" in shown


def test_differences_programs_and_mixing_are_reported() -> None:
    shown = text(REFINED)
    for words in (
        "1,600 draws of 16 chains, was sampled for 61 seconds",
        "| dense network | -0.2500 | 0.0512 |\n| pruned network | +0.0010 | 0.0200 |",
        "| ensemble.pt2 | 63,192 | 0.27 ms | 1.13 ms |",
        "The chains have mixed: R-hat of the predictions on test rows is 1.010 in the median and 1.100 at 95 %.",
    ):
        assert words in shown
    assert "All results except the dense network's and the refined network's are from a tempered" in shown


def test_weights_of_chains_are_reported() -> None:
    assert "Its chains weigh the same.\n" in text(REFINED)  # as those of older runs do
    weighted = {"refined_weights": "stacking", "refined_largest_weight": 0.4281, "refined_unreliable_rows": [12, 1222]}
    shown = text({**REFINED, **weighted, "refined_scored_draws": 233})
    assert "Its chains are weighted by stacking of PSIS-LOO: the largest weight is 0.428, and Pareto k is" in shown
    assert "Pareto k is above 0.7 in 12 of 1,222 training rows.\n" in shown
    assert "| refined network, 233 of 1,600 draws |" in shown
    given = {"refined_weights": "given", "refined_largest_weight": 0.5}
    assert "Its chains are weighted as given: the largest weight is 0.500.\n" in text({**REFINED, **given})


@pytest.mark.parametrize("r_hat", [[1.06, 1.1], [1.01, 1.3], [None, None]])
def test_chains_that_have_not_mixed_are_warned_of(r_hat: list[float | None]) -> None:
    metrics = {**REFINED, "refined_r_hat": r_hat}
    warning = mixing_warning(metrics)
    assert "the chains of the refined network have not mixed" in warning and "at most 1.05 and 1.2" in warning
    assert f"* {warning[0].upper()}{warning[1:]}.\n" in text(metrics) and "bnn-pyro refine" in warning
    assert "\n\nThe chains have not mixed: R-hat of the predictions" in text(metrics)
    assert mixing_warning(REFINED) == mixing_warning(METRICS) == ""


def test_a_run_that_is_not_refined_says_nothing_of_it_or_why() -> None:
    assert not is_refined(METRICS) and is_refined(REFINED)
    assert "efine" not in text()
    shown = text({**METRICS, "not_refined": "no node is left"})
    assert "The pruned network was not refined: no node is left.\n" in shown


def test_a_network_without_a_program_says_so() -> None:
    metrics = {**{k: v for k, v in REFINED.items() if not k.startswith("program")}, "ensemble_draws": 0}
    shown = text(metrics)
    assert "There is no `ensemble.pt2`" in shown and 'torch.export.load("ensemble.pt2")' not in shown
    assert program_rows(metrics) == []
    assert "bytes of the program" not in [name for name, *_ in summary_rows(metrics)]
    assert refined_values(metrics)["programs"] == []


def test_how_to_use_the_ensemble_fits_the_task() -> None:
    regression = {**REGRESSION, **ADDED, "refined_test_rmse": 0.5}
    assert "probabilities = ensemble(x)" in text(REFINED) and "y_mean" not in text(REFINED)
    shown = text(regression, has_checkpoint=True)
    assert 'mean, sd = config["y_mean"] + config["y_std"] * mean, config["y_std"] * sd' in shown
    assert 'load_refined(".")' in shown
    for block in shown.split("```python\n")[1:]:
        compile(block.split("```")[0], "report.md", "exec")


def test_the_page_has_no_gaps_and_whole_tables() -> None:
    for change in ({}, {"ensemble_draws": 0}, {"refined_r_hat": [2.0, 3.0]}, {"tempered": False, "kl_weight": 1.0}):
        for more in ({}, {"has_checkpoint": True, "pictures": ["bands"]}):
            shown = text({**REFINED, **change}, **more)
            assert "\n\n\n" not in shown and shown.endswith("|\n")
            for block in (block for block in shown.split("\n\n") if block.startswith("|")):
                assert len({line.count("|") for line in block.splitlines()}) == 1


def test_the_summary_has_a_column_for_it() -> None:
    assert summary_header(METRICS) == ("", "dense", "pruned", "kept")
    assert summary_header(REFINED) == ("", "dense", "pruned", "refined", "kept")
    rows = summary_rows(REFINED)
    assert rows[0] == ("test accuracy", "97.50 %", "96.12 %", "98.00 %", "")
    assert rows[1] == ("test NLL", "0.1235", "0.1235", "0.1000", "")
    assert ("bytes of the program", "13,579", "12,043", "63,192", "") in rows
    assert ("its latency, batch 256", "0.15 ms", "0.2 ms", "1.13 ms", "") in rows
    assert ("parameters", "478,410", "1,234", "", "0.3 %") in rows
    assert {len(row) for row in rows} == {5}
