"""A network is called with all draws of its tensors, together where that can be done."""

import logging
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bnn_pyro.posterior.network_draws import call_all

X, DRAWS = torch.randn(5, 3), {"w": torch.randn(4, 2, 3)}
EXPECTED = torch.stack([X @ w.T for w in DRAWS["w"]])


def product(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x @ tensors["w"].T


def looking(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return product(tensors, x) if tensors["w"].sum() > -1e9 else x


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_draws_are_called_together(at_once: int) -> None:
    torch.testing.assert_close(call_all(product, DRAWS, X, at_once=at_once), EXPECTED)


def test_a_net_that_looks_at_values_is_called_with_one_draw_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        torch.testing.assert_close(call_all(looking, DRAWS, X, at_once=4), EXPECTED)
    assert "one after the other" in caplog.text


def test_faults_of_a_net_are_its_own() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call_all(product, DRAWS, torch.randn(5, 7), at_once=4)
