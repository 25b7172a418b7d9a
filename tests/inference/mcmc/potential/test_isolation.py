"""What a model's run leaves as it was, and the dtype that it runs in."""

import pyro
import pytest
import torch

from bnn_pyro.inference.mcmc.potential.isolation import data_device, data_dtype, in_dtype, isolated


def test_all_is_as_it_was() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="from the model"), isolated(torch.float64, torch.device("cpu")):
        pyro.param("p", torch.zeros(()))
        torch.randn(3)
        assert torch.zeros(()).dtype == torch.float64
        assert torch.linalg.cholesky(-torch.eye(2)).isnan().all()
        raise ValueError("from the model")
    assert torch.equal(before, torch.get_rng_state())
    assert not list(pyro.get_param_store()) and torch.get_default_dtype() == torch.float32


def test_dtype_and_device_of_data() -> None:
    single, double = torch.zeros(2), torch.zeros(2, dtype=torch.float64)
    assert data_dtype((single,), {"y": [torch.ones(1, dtype=torch.long), double]}) == torch.float64
    assert data_dtype((single, 3)) is None and data_dtype() is None
    assert data_device((3, {"x": single})) == data_device() == torch.device("cpu")
    assert data_device(single, torch.zeros(1, device="meta")) == torch.device("meta")


def test_no_dtype_changes_nothing() -> None:
    torch.set_default_dtype(torch.float64)
    with in_dtype(None):
        assert torch.zeros(()).dtype == torch.float64
    assert torch.get_default_dtype() == torch.float64
