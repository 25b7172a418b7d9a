"""The table of inclusion probabilities on the page."""

import pytest

from bnn_pyro.reports.input_tables import input_values, trial_text
from bnn_pyro.reports.page import page
from tests.reports.test_page import CONFIG, METRICS, text

FEW = {**METRICS, "nodes_kept": {"inputs": [2, 3]}, "inclusion": {"inputs": [0.75, 0.125, 0.99]}}


def test_inputs_stand_in_the_order_of_their_probabilities() -> None:
    found = input_values(FEW)
    assert found is not None
    assert found["rows"] == [("input 3", "0.990"), ("input 1", "0.750"), ("input 2", "0.125")]
    assert (found["kept"], found["total"], found["rest"], found["largest_rest"]) == (2, 3, 0, "")
    shown = page(FEW, CONFIG, input_names=("age", "income", "rooms"))
    assert "| rooms | 0.990 |\n| age | 0.750 |\n| income | 0.125 |" in shown
    assert "2 of 3 inputs are kept, by a tempered posterior." in shown and "The other" not in shown
    assert "2 of 3 inputs are kept.\n" in text({**FEW, "tempered": False})


def test_at_most_twenty_are_shown() -> None:
    many = {**METRICS, "inclusion": {"inputs": [number / 1000 for number in range(784)]}}
    found = input_values(many)
    assert found is not None and isinstance(found["rows"], list)
    assert len(found["rows"]) == 20 and found["rows"][0] == ("input 784", "0.783")
    assert "The other 764 have inclusion probabilities of at most 0.763." in text(many)
    for metrics in (many, FEW, {**FEW, "tempered": False}):
        assert "\n\n\n" not in text(metrics)


def test_a_layer_of_that_name_is_no_input() -> None:
    both = {"network_inputs": [0.5, 0.75], "inputs": [0.1]}
    found = input_values({"nodes_kept": {"network_inputs": [1, 2], "inputs": [0, 1]}, "inclusion": both})
    assert found is not None and found["rows"] == [("input 2", "0.750"), ("input 1", "0.500")]


def test_without_gates_on_inputs_there_is_no_table() -> None:
    for inclusion in ({}, {"hidden1": [0.5]}):
        metrics = {**METRICS, "inclusion": inclusion}
        assert input_values(metrics) is None and "## Inputs" not in text(metrics)
    assert input_values({}) is None


def test_names_are_one_per_input() -> None:
    with pytest.raises(ValueError, match="names must hold one per input, 3, got 2"):
        input_values(FEW, ("age", "income"))


TRIAL = {"gain": -0.0214, "gain_error": 0.0043, "rows": 1180, "kept": 5, "inputs": 8, "select_inputs": False}


def test_what_held_out_rows_said_of_gates_on_inputs() -> None:
    assert trial_text(METRICS) == ""
    said = (
        "With gates on inputs 1,180 held-out rows lose 0.021 (standard error 0.004) in log score, and 5 of 8 inputs "
        "are kept; so inputs have no gates"
    )
    assert trial_text({"input_trial": TRIAL}) == said
    others = {name: value for name, value in METRICS.items() if name not in ("nodes_kept", "inclusion")}
    bare = {**others, "nodes_kept": {"hidden1": [2, 3]}, "inclusion": {"hidden1": [0.9, 0.8, 0.1]}}
    gained = {**TRIAL, "gain": 0.0214, "select_inputs": True}
    for metrics in ({**bare, "input_trial": TRIAL}, {**FEW, "input_trial": gained}):
        shown = text(metrics)
        assert f"## Inputs\n\n{trial_text(metrics)}.\n" in shown and "\n\n\n" not in shown
    nothing = {**TRIAL, "gain": None, "gain_error": None}
    words = {8: "With gates on inputs all 8 inputs are kept; so inputs have no gates"}
    words[0] = "With gates on inputs a layer ends without a node; so inputs have no gates"
    for kept, sentence in words.items():
        assert trial_text({"input_trial": {**nothing, "kept": kept}}) == sentence
    assert "rows gain 0.021" in trial_text({"input_trial": gained})
    assert trial_text({"input_trial": gained}).endswith("so inputs have gates")
