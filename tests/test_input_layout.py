"""Inputs of any form lie in one tensor, come back as they were, and are refused where they do not fit."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.input_layout import InputLayout, call_with, output_of

ROWS = 3
REAL, IDS = torch.randn(ROWS, 2, 2), torch.randint(0, 50, (ROWS, 4))
MASK = torch.tensor([[True, False]]).repeat(ROWS, 1)
FORMS: dict[str, Any] = {
    "one tensor": REAL,
    "token ids": IDS,
    "two": (REAL, torch.randn(ROWS)),
    "one in a tuple": (IDS,),
    "by name": {"ids": IDS, "mask": MASK, "features": REAL.double()},
    "one by name": {"x": REAL},
}
every_form = pytest.mark.parametrize("inputs", FORMS.values(), ids=FORMS.keys())


def leaves(inputs: Any) -> list[Tensor]:
    return (
        list(inputs.values()) if isinstance(inputs, dict) else [inputs] if isinstance(inputs, Tensor) else list(inputs)
    )


@every_form
def test_inputs_come_back_as_they_were(inputs: Any) -> None:
    layout = InputLayout.of("x", inputs)
    packed = layout.pack("x", inputs)
    back = layout.native(packed)
    assert packed.is_floating_point() and packed.shape == (ROWS, *layout.shape)
    assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(leaves(inputs), leaves(back), strict=True))
    assert not isinstance(inputs, dict) or list(back) == list(inputs)
    assert layout.pack("x", packed) is packed


def test_one_tensor_of_real_numbers_is_not_copied() -> None:
    layout = InputLayout.of("x", REAL)
    assert layout.is_plain and layout.pack("x", REAL) is REAL and layout.native(REAL) is REAL


def test_what_a_net_gets_and_returns() -> None:
    def net(ids: Tensor, *, features: Tensor) -> dict[str, Tensor]:
        assert ids.dtype == torch.int64
        return {"logits": ids.sum(1, keepdim=True) + features}

    inputs = {"ids": IDS, "features": torch.randn(ROWS, 2)}
    layout = InputLayout.of("x", inputs)
    expected = IDS.sum(1, keepdim=True) + inputs["features"]
    assert torch.equal(layout.call(net, layout.pack("x", inputs)), expected)
    assert torch.equal(call_with(net, inputs), expected)


def test_whole_numbers_take_the_dtype_of_the_net() -> None:
    assert InputLayout.of("x", IDS, nn.Embedding(50, 2).double()).pack("x", IDS).dtype == torch.float64
    assert InputLayout.of("x", IDS).pack("x", IDS).dtype == torch.get_default_dtype()


def test_real_numbers_alone_are_disturbed() -> None:
    inputs = {"ids": IDS, "features": torch.randn(ROWS, 2), "mask": MASK}
    layout = InputLayout.of("x", inputs)
    x = layout.pack("x", inputs)
    moved = layout.native(layout.perturbed(x, torch.ones_like(x)))
    assert isinstance(moved, dict)
    assert torch.equal(moved["ids"], IDS) and torch.equal(moved["mask"], MASK)
    torch.testing.assert_close(moved["features"], inputs["features"] + 1)
    assert torch.equal(layout.real_numbers(x), inputs["features"])


def test_an_augmentation_sees_the_inputs_in_their_form() -> None:
    inputs = (torch.ones(ROWS, 2), IDS)
    layout = InputLayout.of("x", inputs)
    change = layout.changing(lambda pair: (2 * pair[0], pair[1]))
    assert change is not None
    doubled, ids = leaves(layout.native(change(layout.pack("x", inputs))))
    assert torch.equal(doubled, 2 * inputs[0]) and torch.equal(ids, IDS)
    assert layout.changing(None) is None


@dataclass
class Output:
    logits: Tensor


def test_the_output_is_found() -> None:
    for output in (REAL, {"logits": REAL}, {"aux": IDS, "out": REAL}, Output(REAL)):
        assert output_of(output) is REAL
    with pytest.raises(
        TypeError, match=r"net must return one tensor, .*'logits' or 'out', got tuple of float32 \(3, 2"
    ):
        output_of((REAL, REAL))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((IDS, REAL), r"x must be a tuple of real \(rows, 2, 2\), int64 \(rows, 4\), got tuple of int64 \(3, 4\)"),
        ((REAL,), r"x must be a tuple of .*, got tuple of float32 \(3, 2, 2\)"),
        ({"ids": IDS}, r"x must be a tuple of .*, got dict of 'ids': int64 \(3, 4\)"),
        ((REAL, IDS + 0.5), r"x must have whole numbers in the input number 1 \(torch.int64\), got fractions"),
        ((REAL, IDS + 2**25), r"x must have whole numbers that torch.float32 holds, got larger ones"),
        ((REAL, IDS[:2]), r"x must be a tuple of .*, got tuple of float32 \(3, 2, 2\), int64 \(2, 4\)"),
    ],
)
def test_inputs_of_another_form_are_refused(inputs: Any, message: str) -> None:
    layout = InputLayout.of("x", (REAL, IDS))
    with pytest.raises(ValueError, match=message):
        layout.pack("x", inputs)


@pytest.mark.parametrize(
    ("example", "error", "message"),
    [
        ("text", TypeError, "x must be a tensor, or a tuple or dictionary of tensors, got str"),
        ((REAL, 3), TypeError, "x must be a tensor, or a tuple or dictionary of tensors, got one of int"),
        ((REAL, IDS[:2]), ValueError, r"x must have one row per observation in every input, got \(3, 2, 2\), \(2, 4\)"),
        ((), ValueError, "x must have one row per observation in every input, got no tensor"),
        (torch.tensor(1.0), ValueError, r"x must have one row per observation in every input, got \(\)"),
    ],
)
def test_examples_that_are_none(example: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        InputLayout.of("x", example)
