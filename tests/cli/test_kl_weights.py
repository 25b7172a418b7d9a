"""KL weights on the command line."""

import pytest

from bnn_pyro.cli.kl_weights import kl_weight_of, path_plan_of
from bnn_pyro.recipes import PathPlan


def test_a_number_or_auto() -> None:
    assert kl_weight_of(None) == (None, False) and kl_weight_of("auto") == (None, True)
    assert kl_weight_of(".3") == (0.3, False)
    with pytest.raises(ValueError, match="kl_weight must be a number or auto, got 'much'"):
        kl_weight_of("much")


def test_the_weights_of_a_path() -> None:
    assert path_plan_of(None) == PathPlan() and path_plan_of(None, refine=True).refine
    assert path_plan_of(".03,1").kl_weights == (0.03, 1.0)
    with pytest.raises(ValueError, match="kl_weights must be numbers with commas between, .*, got '1;2'"):
        path_plan_of("1;2")
    with pytest.raises(ValueError, match="kl_weights must be positive and finite"):
        path_plan_of("0,1")
