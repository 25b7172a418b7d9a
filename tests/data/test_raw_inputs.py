"""Raw numbers become inputs, in a program that needs torch alone."""

import math
from pathlib import Path

import pytest
import torch

from bnn_pyro.data.raw_inputs import Feature, RawInputs
from bnn_pyro.export import export_net

NAN = math.nan


def mixed() -> RawInputs:
    """A number that may be missing, levels that may be missing, and two levels that may not."""
    features = [
        Feature(0, "value", fill=2.0),
        Feature(0, "missing"),
        *(Feature(1, "level", code=code, levels=3, has_missing=True) for code in range(3)),
        Feature(1, "missing"),
        Feature(2, "level", code=1, levels=2),
    ]
    return RawInputs(features, 3, [1.0, 0.5, 0.1, 0.2, 0.3, 0.4, 0.25], [4.0, *[0.5] * 6])


@pytest.mark.parametrize(
    ("row", "features"),
    [
        ([5.0, 0.0, 1.0], [5, 0, 1, 0, 0, 0, 1]),
        ([NAN, 2.0, 0.0], [2, 1, 0, 0, 1, 0, 0]),
        ([5.0, NAN, 1.0], [5, 0, 0, 0, 0, 1, 1]),
        ([5.0, 1.0, NAN], [5, 0, 0, 1, 0, 0, 0.25]),  # no such cell was missing: the mean
        ([5.0, 3.0, 2.0], [5, 0, 0.1, 0.2, 0.3, 0, 0.25]),  # no such level was there: their means
        ([5.0, -1.0, 0.5], [5, 0, 0.1, 0.2, 0.3, 0, 0.25]),
    ],
)
def test_features_of_a_row(row: list[float], features: list[float]) -> None:
    module = mixed()
    raw = torch.tensor([row, row], dtype=torch.float64)
    expected = torch.tensor([features, features], dtype=torch.float64)
    assert torch.equal(module.features(raw), expected)
    scaled = (expected - module.mean) / module.std
    assert torch.equal(module(raw), scaled.float()) and torch.equal(module(raw.float()), scaled.float())


def test_numbers_alone_are_filled_and_scaled() -> None:
    module = RawInputs([Feature(0, "value", fill=3.0), Feature(1, "value", fill=4.0)], 2, [1.0, 2.0], [2.0, 4.0])
    assert module(torch.tensor([[5.0, NAN]])).tolist() == [[2.0, 0.5]]
    assert "columns=2, features=2" in repr(module)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_can_be_exported(tmp_path: Path, dtype: torch.dtype) -> None:
    module = mixed()
    export_net(module, torch.zeros(1, 3), tmp_path / "inputs.pt2")
    program = torch.export.load(tmp_path / "inputs.pt2").module()
    raw = torch.tensor([[5.0, 0, 1], [NAN, NAN, NAN], [1, 7, 0]], dtype=dtype)
    for rows in (raw, raw[:1]):
        assert torch.equal(program(rows), module(rows))
