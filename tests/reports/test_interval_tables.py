"""The table of intervals on the page."""

from typing import Any

from bnn_pyro.reports.interval_tables import interval_header, interval_rows, noise_text
from bnn_pyro.reports.page import summary_rows
from tests.reports.test_page import METRICS, REGRESSION, text
from tests.reports.test_refined_page import ADDED

PREFIXES = ("", "dense_", "pruned_", "posterior_")


def measured(*prefixes: str) -> dict[str, Any]:
    """Coverage 1 % too high at each level, widths of 10 times the level, and a CRPS."""
    found: dict[str, Any] = {}
    for prefix in prefixes:
        found |= {f"{prefix}test_coverage{p}": p / 100 + 0.01 for p in (50, 80, 90, 95)}
        found |= {f"{prefix}test_width{p}": p / 10 for p in (50, 80, 90, 95)} | {f"{prefix}test_crps": 12.34567}
    return found


def test_levels_with_coverage_and_width() -> None:
    metrics = {**REGRESSION, **measured(*PREFIXES)}
    assert interval_header(metrics) == ("central interval", "tempered posterior: covers", "tempered posterior: width")
    assert interval_rows(metrics)[0] == ("50 %", "51.0 %", "5")
    assert interval_rows(metrics)[3] == ("95 %", "96.0 %", "9.5")
    assert "| 90 % | 91.0 % | 9 |" in text(metrics) and "## Intervals" in text(metrics)
    assert interval_header({**metrics, "tempered": False})[1] == "posterior: covers"


def test_a_refined_network_stands_beside_the_posterior() -> None:
    metrics = {**REGRESSION, **ADDED, "refined_test_rmse": 0.5, **measured(*PREFIXES, "refined_")}
    metrics["refined_test_width80"] = 3.21
    assert interval_header(metrics)[3:] == ("refined network: covers", "refined network: width")
    assert interval_rows(metrics)[1] == ("80 %", "81.0 %", "8", "81.0 %", "3.21")
    rows = summary_rows(metrics)
    assert rows[2:5] == [
        ("test CRPS", "12.35", "12.35", "12.35", ""),
        ("90 % interval covers", "91.00 %", "91.00 %", "91.00 %", ""),
        ("its mean width", "9", "9", "9", ""),
    ]


def test_runs_from_before_and_classes_have_none() -> None:
    for metrics in (METRICS, REGRESSION):
        assert interval_rows(metrics) == [] and "## Intervals" not in text(metrics)
        assert all("interval" not in name and "CRPS" not in name for name, *_ in summary_rows(metrics))
    refined_later = {**REGRESSION, **ADDED, "refined_test_rmse": 0.5, **measured("refined_")}
    assert interval_header(refined_later) == ("central interval", "refined network: covers", "refined network: width")
    assert "test CRPS" not in [name for name, *_ in summary_rows(refined_later)]
    assert "| refined network" in text(refined_later)


def test_what_held_out_rows_said_of_the_noise() -> None:
    trial = {"gain": 0.1321, "gain_error": 0.0412, "rows": 1480, "noise": "mean"}
    metrics = {**REGRESSION, **measured(*PREFIXES)}
    assert noise_text(metrics) == ""
    said = (
        "With a noise that depends on the prediction 1,480 held-out rows gain 0.132 (standard error 0.041) in log "
        "score; so the noise of the sampled network does"
    )
    assert noise_text({"noise_trial": trial}) == said
    constant = noise_text({"noise_trial": {**trial, "gain": -0.02, "noise": "constant"}})
    assert "rows lose 0.020" in constant and constant.endswith("so the noise is one number")
    shown = text({**metrics, "noise_trial": trial})
    assert f"the narrower says more.\n{said}.\n\n" in shown and "\n\n\n" not in shown
