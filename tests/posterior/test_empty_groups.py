"""Groups without a node."""

import torch

from bnn_pyro.posterior.empty_groups import empty_groups, empty_warning


def test_groups_without_a_node_are_named_and_it_is_said_what_to_do() -> None:
    keep = {"hidden1": torch.tensor([True, False]), "hidden2": torch.zeros(3, dtype=torch.bool)}
    assert empty_groups(keep) == ["hidden2"] and empty_groups({}) == []
    warning = empty_warning(["hidden1", "hidden2"], 0.3)
    assert warning.startswith("no node of 'hidden1', 'hidden2' is left")
    assert "the same output for all inputs" in warning and "--kl-weight, 0.3 here" in warning
    assert empty_warning([], 1.0) == ""
