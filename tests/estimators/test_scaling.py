"""From the units of a table to those of a network and back."""

import numpy as np
import pytest
import torch

from bnn_pyro.estimators.scaling import Scaling


def test_inputs_and_targets_are_standardised() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(5.0, [1.0, 300.0], (50, 2)), rng.normal(-40.0, 7.0, 50)
    scaling = Scaling.of(x, y)
    scaled, target = scaling.inputs(x), scaling.targets(y)
    assert scaled.dtype == target.dtype == torch.float64
    assert torch.allclose(scaled.mean(0), torch.zeros(2, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(2, dtype=torch.float64))
    np.testing.assert_allclose(target.numpy() * scaling.y_std + scaling.y_mean, y)


def test_what_is_constant_becomes_zero_and_keeps_its_unit() -> None:
    x, y = np.full((4, 1), 0.1), np.full(4, 1e6)
    scaling = Scaling.of(x, y)
    assert scaling.inputs(x).abs().max() < 1e-12
    assert scaling.y_std == 1 and scaling.y_mean == 1e6
    assert not scaling.targets(y).any()


def test_weights_are_repeated_rows() -> None:
    rng = np.random.default_rng(0)
    x, y, weight = rng.normal(5.0, 3.0, (20, 2)), rng.normal(size=20), rng.integers(1, 4, 20)
    twice = np.arange(20).repeat(weight)
    found, expected = Scaling.of(x, y, weight=weight.astype(float)), Scaling.of(x[twice], y[twice])
    np.testing.assert_allclose(found.x_mean, expected.x_mean)
    np.testing.assert_allclose(found.x_std, expected.x_std)
    assert [found.y_mean, found.y_std] == pytest.approx([expected.y_mean, expected.y_std])
    rows = found.dataset(x, found.targets(y), weight=weight.astype(float))
    assert rows.is_weighted and rows.train.weight is not None and rows.train.weight.tolist() == weight.tolist()
    assert not found.dataset(x, found.targets(y)).is_weighted


def test_a_dataset_has_all_rows_for_training_and_none_for_tests() -> None:
    x = np.arange(6.0).reshape(3, 2)
    regression = Scaling.of(x, x[:, 0]).dataset(x, torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64))
    assert (len(regression.train), len(regression.test), regression.validation) == (3, 0, None)
    assert regression.train.x.dtype == regression.train.y.dtype == torch.float32
    assert (regression.task, regression.outputs) == ("regression", 1)
    labels = Scaling.of(x).dataset(x, torch.tensor([0, 1, 0]), ("no", "yes"))
    assert (labels.task, labels.outputs, labels.classes, labels.y_std) == ("classification", 2, ("no", "yes"), 1.0)
