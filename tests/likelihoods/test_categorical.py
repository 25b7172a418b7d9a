"""Categorical: its density, its mean over draws, its labels."""

import pytest
import torch

from bnn_pyro.likelihoods import Categorical, Classes
from tests.likelihoods.targets import ROWS, output_of, targets_of


# densities
def test_categorical_density_is_log_softmax_at_the_label() -> None:
    output, y = output_of(4), targets_of(4)
    expected = output[range(ROWS), y] - output.exp().sum(1).log()
    torch.testing.assert_close(Categorical().distribution(output).log_prob(y), expected)


def test_weights_of_classes_multiply_the_density() -> None:
    output, y = output_of(4), targets_of(4)
    weighted = Categorical((1.0, 2.0, 0.5, 4.0))
    expected = Categorical().distribution(output).log_prob(y) * output.new_tensor([1.0, 2.0, 0.5, 4.0])[y]
    torch.testing.assert_close(weighted.distribution(output).log_prob(y), expected)
    torch.testing.assert_close(weighted.predict(output[None]).draws, Categorical().predict(output[None]).draws)
    with pytest.raises(ValueError, match="weight must hold one number for each of the 3 classes, got 4"):
        weighted.check(output[:, :3], y.clamp(max=2))


# predictions
def test_classes_average_probabilities_and_not_logits() -> None:
    draws = torch.stack([output_of(4), -3 * output_of(4)])
    prediction = Categorical().predict(draws)
    assert isinstance(prediction, Classes)
    expected = draws.exp() / draws.exp().sum(2, keepdim=True)
    torch.testing.assert_close(prediction.draws, expected)
    torch.testing.assert_close(prediction.probabilities, (expected[0] + expected[1]) / 2)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened(dtype: torch.dtype) -> None:
    draws = torch.stack([output_of(4), -3 * output_of(4)]).to(dtype)
    prediction = Categorical().predict(draws)
    assert prediction.probabilities.dtype == torch.float32
    torch.testing.assert_close(prediction.draws.sum(-1), torch.ones(2, ROWS))
    density = Categorical().distribution(draws[0]).log_prob(targets_of(4))
    torch.testing.assert_close(density, Categorical().distribution(draws[0].float()).log_prob(targets_of(4)))


@pytest.mark.parametrize(("label", "message"), [(-1, r"got -1 \.\.\. 3"), (4, r"got 0 \.\.\. 4")])
def test_labels_must_be_in_range(label: int, message: str) -> None:
    y = targets_of(4)
    y[-1] = label
    y[3] = 3
    y[0] = min(label, 0)
    with pytest.raises(ValueError, match=r"y must hold labels in 0 \.\.\. 3, " + message):
        Categorical().check(output_of(4), y)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.bool])
def test_labels_must_be_int64(dtype: torch.dtype) -> None:
    with pytest.raises(ValueError, match="torch.int64"):
        Categorical().check(output_of(4), torch.zeros(ROWS, dtype=dtype))
