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


TRIAL = {
    "gain": -0.0214,
    "gain_error": 0.0043,
    "rows": 1180,
    "inclusion": [0.75, 0.125, 0.99],
    "is_empty": False,
    "drops_inputs": False,
}


def test_what_held_out_rows_said_of_dropping_inputs() -> None:
    assert trial_text(METRICS) == ""
    said = (
        "A shorter fit with gates on inputs keeps 2 of 3 of them. By sampled networks that read these alone 1,180 "
        "held-out rows lose 0.021 (standard error 0.004) in CRPS, in standard deviations of the target; so the network "
        "reads all inputs"
    )
    assert trial_text({"input_trial": TRIAL}) == said
    classes = said.replace("CRPS, in standard deviations of the target", "log score")
    assert trial_text({"input_trial": TRIAL, "test_accuracy": 0.5}) == classes
    gained = {**TRIAL, "gain": 0.0214, "drops_inputs": True}
    assert "rows gain 0.021" in trial_text({"input_trial": gained})
    assert trial_text({"input_trial": gained}).endswith("so the network reads these inputs alone")
    nothing = {**TRIAL, "gain": None, "gain_error": None}
    every = trial_text({"input_trial": {**nothing, "inclusion": [0.75, 0.9, 0.99]}})
    assert every == "In a shorter fit with gates on inputs 3 of 3 inputs are kept; so the network reads all inputs"
    empty = trial_text({"input_trial": {**nothing, "inclusion": [0.1] * 3, "is_empty": True}})
    assert empty == "In a shorter fit with gates on inputs a layer ends without a node; so the network reads all inputs"


def test_the_page_shows_the_probabilities_of_a_trial() -> None:
    others = {name: value for name, value in METRICS.items() if name not in ("nodes_kept", "inclusion")}
    bare = {**others, "nodes_kept": {"hidden1": [2, 3]}, "inclusion": {"hidden1": [0.9, 0.8, 0.1]}}
    for trial in (TRIAL, {**TRIAL, "gain": 0.0214, "drops_inputs": True}):
        shown = page({**bare, "tempered": False, "input_trial": trial}, CONFIG, input_names=("age", "income", "rooms"))
        assert f"## Inputs\n\n{trial_text({**bare, 'input_trial': trial})}.\n" in shown and "\n\n\n" not in shown
        assert "| rooms | 0.990 |\n| age | 0.750 |\n| income | 0.125 |\n\nThe probabilities are those of" in shown
        assert "inputs are kept." not in shown
    assert "shorter fit, a tempered posterior.\n" in text({**bare, "input_trial": TRIAL})
    many = {**TRIAL, "inclusion": [number / 100 for number in range(60)]}
    assert "of the shorter fit. The other 40 have inclusion probabilities of at most 0.390.\n" in text(
        {**bare, "tempered": False, "input_trial": many}
    )


def test_kept_are_those_of_the_pruned_network_and_not_of_the_mean_over_snapshots() -> None:
    found = input_values({"nodes_kept": {"inputs": [1, 3]}, "inclusion": {"inputs": [1.0, 0.75, 0.25]}})
    assert found is not None and found["kept"] == 1
