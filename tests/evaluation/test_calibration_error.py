"""The calibration error: repeated rows, bins."""

import pytest
import torch

from bnn_pyro.evaluation.calibration_error import BINS, calibration_error
from bnn_pyro.weighted_means import bins_of


def test_weights_are_repeated_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    p = (2 * torch.randn(200, 4, generator=generator, dtype=torch.float64)).softmax(1)
    y = torch.randint(4, (200,), generator=generator)
    weight = torch.randint(4, (200,), generator=generator)
    twice = torch.arange(200).repeat_interleave(weight)
    assert calibration_error(p, y, weight.double()) == pytest.approx(calibration_error(p[twice], y[twice]), abs=1e-6)
    assert calibration_error(p, y, torch.ones(200)) == pytest.approx(calibration_error(p, y), abs=1e-6)
    assert calibration_error(p, y, weight.double()) != pytest.approx(calibration_error(p, y), abs=1e-4)


def test_the_last_bin_is_closed() -> None:
    edges = torch.tensor([0.0, 1 / 15 - 1e-6, 1 / 15 + 1e-6, 0.5, 1.0])
    assert bins_of(edges, BINS).tolist() == [0, 0, 1, 7, 14]
