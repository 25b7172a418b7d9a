"""What the hyper-parameters of priors must be."""

from typing import Any

import pytest
import torch

from bnn_pyro.priors.checks import check_positive, check_real, check_size


def test_what_is_right() -> None:
    check_real("r", -1)
    check_positive("p", 0.1)
    check_positive("p", torch.zeros(2))
    check_size("n", 1)


@pytest.mark.parametrize("wrong", [True, "1", None, 1j, [1]])
def test_other_types(wrong: Any) -> None:
    for check in (check_real, check_positive, check_size):
        with pytest.raises(TypeError, match="it must be a (whole )?number, got"):
            check("it", wrong)


def test_whole_numbers_that_no_tensor_holds() -> None:
    with pytest.raises(ValueError, match="it must be positive"):
        check_positive("it", 10**400)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf")])
def test_numbers_out_of_range(wrong: Any) -> None:
    with pytest.raises(ValueError, match="it must be positive"):
        check_positive("it", wrong)
    with pytest.raises((ValueError, TypeError), match="it must be (at least 1|a whole number)"):
        check_size("it", wrong)
