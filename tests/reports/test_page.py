"""Page: what a person reads about a run."""

from typing import Any

import pytest

from bnn_pyro.posterior.tempering import tempering
from bnn_pyro.reports.page import page, summary_rows

METRICS: dict[str, Any] = {
    **{f"{prefix}test_accuracy": 0.9612 for prefix in ("", "pruned_", "posterior_")},
    **{f"{prefix}test_nll": 0.12345 for prefix in ("", "pruned_", "posterior_", "dense_")},
    "dense_test_accuracy": 0.975,
    "nodes_kept": {"inputs": [300, 784], "hidden1": [3, 400]},
    "params": [1234, 478_410],
    "flops": [2000, 956_000],
    "params_kept": 1234 / 478_410,
    "params_kept_one_sided": 0.125,
    "flops_kept": 2000 / 956_000,
    "latency_ms": {"1": [0.05, 0.1], "256": [1.0, 4.0]},
    "kl_weight": 0.05,
    "tempered": True,
    "pruned_max_abs_diff": 1e-7,
    "seconds": 61.4,
}
CONFIG = {"data": "mnist", "net": "mlp", "prior": "ss-ghs", "seed": 2, "hidden": [400, 400], "clip_norm": None}
REGRESSION = {key.replace("accuracy", "rmse"): value for key, value in METRICS.items()}


def text(metrics: dict[str, Any] = METRICS, **options: Any) -> str:
    return page(metrics, CONFIG, **options)


def test_the_page_begins_with_what_came_out() -> None:
    title, headline, *_ = text().split("\n\n")
    assert title == "# mnist, mlp, ss-ghs, seed 2"
    assert headline.replace("\n", " ") == (
        "**The pruned network keeps 0.3 % of the parameters and 0.2 % of the FLOPs. Its test accuracy is 96.12 %; "
        "the dense network it started from has 97.50 %.** The run took 61 seconds."
    )


def test_tables_are_whole() -> None:
    """Each row of a table has as many cells as its header."""
    blocks = [block for block in text().split("\n\n") if block.startswith("|")]
    assert len(blocks) == 3
    for block in blocks:
        assert len({line.count("|") for line in block.splitlines()}) == 1


def test_figures_stand_beside_those_of_the_dense_net() -> None:
    shown = text()
    for row in (
        "| dense network | 97.50 % | 0.1235 |",
        "| tempered posterior, 32 draws | 96.12 % | 0.1235 |",
        "| nodes: inputs | 784 | 300 | 38.3 % |",
        "| nodes: hidden1 | 400 | 3 | 0.8 % |",
        "| parameters | 478,410 | 1,234 | 0.3 % |",
        "| latency, batch 256 | 4 ms | 1 ms | 0.25 x |",
        "| hidden | [400, 400] |",
        "| clip_norm | null |",
    ):
        assert row in shown
    assert "12.5 % of the parameters" in shown.replace("\n", " ")


def test_a_tempered_posterior_is_called_so_and_another_is_not() -> None:
    assert "tempered (cold) posterior, KL weight 0.05" in text()
    assert "tempered" not in text({**METRICS, "kl_weight": 1.0, "tempered": False})
    assert tempering(1.0) == ""


def test_draws_of_a_cooled_sampler_are_called_so() -> None:
    shown = text({**METRICS, "temperature": "cooled"})
    assert "from draws of a cooled sampler" in shown and "the dense network beside it has" in shown
    assert "The median model is the last draw" in shown and "KL weight 0.05" not in shown
    assert "They vary less than draws from the posterior" in shown
    adapted = text({**METRICS, "temperature": "adapted"})
    assert "adapts its prior or its preconditioner" in adapted and "They vary less" not in adapted


def test_settings_of_an_object_are_rows_of_their_own() -> None:
    shown = page(METRICS, {"schedule": {"hold": 5, "rates": {"gates": 0.1}}, "empty": {}})
    assert "| schedule.hold | 5 |\n| schedule.rates.gates | 0.1 |" in shown


def test_the_page_has_no_gaps_and_one_end() -> None:
    """Whatever is left out, paragraphs stay one empty line apart."""
    for metrics in (METRICS, REGRESSION, {**METRICS, "kl_weight": 1.0, "tempered": False}):
        for more in ({}, {"has_checkpoint": True, "pictures": ["training", "calibration"]}):
            shown = text(metrics, **more)
            assert "\n\n\n" not in shown and shown.endswith("|\n")


def test_regression_is_told_by_its_error() -> None:
    assert "Its test RMSE is 0.9612; the dense network it started from has 0.975." in text(REGRESSION)
    assert "original scale" in text(REGRESSION) and "original scale" not in text()
    assert summary_rows(REGRESSION)[0] == ("test RMSE", "0.975", "0.9612", "")


def test_a_prior_without_gates_prunes_nothing() -> None:
    shown = text({**METRICS, "nodes_kept": {}, "params_kept": 1.0, "flops_kept": 1.0})
    assert "The prior has no gates, so nothing is pruned: 100.0 % of the parameters" in shown


def test_the_page_says_how_to_load_what_is_there() -> None:
    shown = text(input_shape=(784,), has_checkpoint=True, pictures=["training"])
    assert "# x: (rows, 784); logits" in shown
    assert 'load_run(".")' in shown and 'load_pruned(".")' in shown
    assert "](training.png)" in shown
    assert "load_run" not in text()


@pytest.mark.parametrize("metrics", [METRICS, REGRESSION])
def test_python_on_the_page_is_python(metrics: dict[str, Any]) -> None:
    for block in text(metrics, input_shape=(784,), has_checkpoint=True).split("```python\n")[1:]:
        compile(block.split("```")[0], "report.md", "exec")


def test_a_draw_of_chains_is_called_so() -> None:
    shown = text({**METRICS, "chains": 16})
    assert "The median model is a single draw, the best one of 16 chains" in shown and "posterior means" not in shown
