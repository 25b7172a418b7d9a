"""How a dense network is trained: checked before there is data."""

import pytest

from bnn_pyro.recipes.dense_training import DenseTraining


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
def test_there_is_something_to_train_on(name: str) -> None:
    with pytest.raises(ValueError, match=f"dense.{name} must be at least 1, got 0"):
        DenseTraining(**{name: 0})
