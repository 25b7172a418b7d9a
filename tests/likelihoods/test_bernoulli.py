"""Bernoulli: one label or many, weighted, with gaps."""

import math
from typing import Any

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from bnn_pyro.likelihoods import Bernoulli

LOGITS = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
Y = (LOGITS.roll(1, 0) > 0).double()


def test_many_labels_are_one_observation() -> None:
    wanted = -cross_entropy(LOGITS, Y, reduction="none")
    torch.testing.assert_close(Bernoulli().distribution(LOGITS).log_prob(Y), wanted.sum(1))
    weight = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    torch.testing.assert_close(
        Bernoulli(weight=(1.0, 2.0, 5.0)).distribution(LOGITS).log_prob(Y), (wanted * weight).sum(1)
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float32])
def test_one_logit_has_one_label_of_any_dtype(dtype: torch.dtype) -> None:
    likelihood, column, y = Bernoulli(), LOGITS[:, :1], Y[:, 0]
    likelihood.check(column, y.to(dtype))
    wanted = -cross_entropy(column[:, 0], y, reduction="none")
    torch.testing.assert_close(likelihood.distribution(column).log_prob(y.to(dtype)), wanted)


def test_draws_are_averaged_as_probabilities() -> None:
    outputs = torch.stack([LOGITS, LOGITS - 1])
    found = Bernoulli().predict(outputs)
    torch.testing.assert_close(found.mean, outputs.sigmoid().mean(0))
    torch.testing.assert_close(
        found.log_prob(Y),
        torch.stack([-cross_entropy(o, Y, reduction="none").sum(1) for o in outputs]).exp().mean(0).log(),
    )
    assert found.scores(Y).keys() == {"accuracy", "brier", "ece", "nll"}


@pytest.mark.parametrize(
    ("options", "output", "y", "message"),
    [
        ({}, LOGITS[:, 0], None, r"output must be logits of shape \(rows, labels\), got \(6,\)"),
        ({"weight": (1.0, 2.0)}, LOGITS, None, r"output must be logits of shape \(rows, 2\), got \(6, 3\)"),
        ({}, LOGITS / 0, None, "output must be finite"),
        ({}, LOGITS, Y[:, 0], r"y must have shape \(6, 3\), as the outputs, and a row, got \(6,\)"),
        ({}, LOGITS, 2 * Y, "y must hold labels 0 and 1, got values from 0.0 to 2.0"),
        ({}, LOGITS, Y * math.nan, "y must be finite"),
        ({"missing": True}, LOGITS, Y * math.nan, "at least one target that is there"),
    ],
)
def test_bad_input(options: dict[str, Any], output: Any, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Bernoulli(**options).check(output, y)


def test_predictions_are_scored_without_weights() -> None:
    weighted = Bernoulli(weight=(1.0, 2.0, 5.0)).predict(LOGITS.unsqueeze(0))
    assert weighted.scores(Y) == Bernoulli().predict(LOGITS.unsqueeze(0)).scores(Y)
    with pytest.raises(ValueError, match="weight must hold one number for each label, got 2.0"):
        Bernoulli(2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("weight", [(0.0, 1.0), (math.nan,), (-1.0,)])
def test_weights_are_positive(weight: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="weight must be positive and finite"):
        Bernoulli(weight=weight)
