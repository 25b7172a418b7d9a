"""Inputs that a posterior is asked about: checked, and warned of where they cannot be those that it was trained on."""

import logging

import pytest
import torch

from bnn_pyro.posterior.inputs import checked_inputs, warn_of_raw_inputs
from tests.posterior.test_guide import posterior_of

LOG = "bnn_pyro.posterior.inputs"


def test_inputs_that_do_not_fit_are_refused() -> None:
    model = posterior_of().model
    width = model.input_shape[0]
    fitting = torch.randn(3, width, dtype=torch.float64)
    assert torch.equal(checked_inputs(model, fitting.numpy()), fitting.to(torch.float32))
    for wrong in (fitting[:, 1:], fitting[:0], fitting[0]):
        with pytest.raises(ValueError, match=rf"x must have shape \(rows, {width}\) and a row, got"):
            checked_inputs(model, wrong)
    with pytest.raises(ValueError, match="x must be finite, got NaN or infinite values"):
        checked_inputs(model, fitting.index_fill(1, torch.tensor([0]), torch.nan))


def test_raw_numbers_are_warned_of_by_predict_alone(caplog: pytest.LogCaptureFixture) -> None:
    posterior = posterior_of()
    x = torch.randn(200, *posterior.model.input_shape, dtype=torch.float64)
    with caplog.at_level(logging.WARNING, LOG):
        posterior.predict(3 * x)
        warn_of_raw_inputs(posterior.model, 3 * x)
        assert not caplog.records
        posterior.predict(x + 5_000)
    assert [record.name for record in caplog.records] == [LOG]
    assert "largest root mean square of a column is 5e+03: unless the training inputs were so too" in caplog.text


def test_few_rows_are_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    posterior = posterior_of()
    with caplog.at_level(logging.WARNING, LOG):
        posterior.predict(torch.full((1, *posterior.model.input_shape), 12.0, dtype=torch.float64))
    assert not caplog.records


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_whole_numbers_and_truth_values_are_predicted_from(dtype: torch.dtype) -> None:
    posterior = posterior_of()
    x = torch.ones(20, *posterior.model.input_shape, dtype=dtype)
    torch.manual_seed(0)
    found = posterior.predict(x, num_samples=2)
    torch.manual_seed(0)
    torch.testing.assert_close(found, posterior.predict(x.double(), num_samples=2))
