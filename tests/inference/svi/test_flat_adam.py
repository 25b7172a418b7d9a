"""Adam on vectors: the vectors of each role, and its steps in torch's kernel and in separate operations."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.svi import flat_adam as flats_module
from bnn_pyro.inference.svi.flat_adam import ADAM, FlatAdam, adam_in_kernel, adam_in_operations, flatten
from bnn_pyro.inference.svi.roles import Role

DOUBLE = torch.float64


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = DOUBLE) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def role(name: str, rate: float, params: Sequence[nn.Parameter]) -> Role:
    """A role of parameters with names."""
    return Role(name, rate, {f"{name}{i}": p for i, p in enumerate(params)})


def test_state_has_the_parameters_shapes() -> None:
    shapes = ((2, 3), (), (4,), (0, 2), (1, 2, 2))
    flat = FlatAdam.of(role("slab_locs", 0.1, parameters(*shapes)))
    assert flat.parameters.values.shape == flat.mean.shape == flat.square.shape == (6 + 1 + 4 + 0 + 4,)
    assert flat.steps == 0 and not flat.mean.any() and not flat.square.any()
    flat.mean.add_(1)
    assert [tuple(mean.shape) for mean, _ in flat.state().values()] == list(shapes)
    assert all((mean == 1).all() and (square == 0).all() for mean, square in flat.state().values())


def test_groups_and_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One vector a role, dtype and device; a large parameter alone."""
    monkeypatch.setattr(flats_module, "LARGE", 10)
    small, large, single = parameters((3,), (2,)), parameters((2, 5)), parameters((4,), dtype=torch.float32)
    flats = flatten([role("a", 0.1, [*small, *large, *single]), role("b", 0.2, parameters((2,)))])
    assert [(f.role, f.rate, len(f.parameters.values), f.mean.dtype) for f in flats] == [
        ("a", 0.1, 5, DOUBLE),
        ("a", 0.1, 10, DOUBLE),
        ("a", 0.1, 4, torch.float32),
        ("b", 0.2, 2, DOUBLE),
    ]
    assert {id(p) for f in flats[:3] for p in f.parameters.parameters} == {id(p) for p in [*small, *large, *single]}


Update = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int], Tensor]
UPDATES: list[Update] = [adam_in_kernel, adam_in_operations, ADAM]
NAMES = ["kernel", "operations", "node"]


def step(update: Update, flat: FlatAdam, gradient: Tensor, factor: float, *, is_held: bool = False) -> None:
    """One step of the second of two vectors."""
    settings = torch.tensor([(9.0, 9.0, 0.0), flat.settings(factor, is_held=is_held)], dtype=DOUBLE)
    corrections = torch.tensor([9.0, 9.0, *flat.corrections(factor, is_held=is_held)], dtype=DOUBLE)
    values = flat.parameters.values
    assert update(values, flat.mean, flat.square, gradient, settings, corrections, 1) is values
    flat.steps += not is_held


@pytest.mark.parametrize("update", UPDATES, ids=NAMES)
def test_steps_are_those_of_adam(update: Update) -> None:
    """Over 25 steps at changing rates, with gradients of very different sizes."""
    flat = FlatAdam.of(role("a", 0.03, parameters((3, 2), (4,))))
    twins = parameters((3, 2), (4,))
    adam = torch.optim.Adam(twins, lr=0.03, fused=False, foreach=False)
    for i in range(25):
        rate = 0.5 + 0.5 * ((i * 7) % 5) / 4
        gradients = [torch.randn_like(p) * 10.0 ** (i % 7 - 5) for p in twins]
        adam.param_groups[0]["lr"] = 0.03 * rate
        for twin, gradient in zip(twins, gradients, strict=True):
            twin.grad = gradient.clone()
        adam.step()
        step(update, flat, torch.cat([g.flatten() for g in gradients]), rate)
        for parameter, twin in zip(flat.parameters.parameters, twins, strict=True):
            torch.testing.assert_close(parameter, twin, rtol=1e-12, atol=1e-14)
    assert flat.steps == 25
    for (mean, square), twin in zip(flat.state().values(), twins, strict=True):
        torch.testing.assert_close(mean, adam.state[twin]["exp_avg"], rtol=1e-12, atol=0)
        torch.testing.assert_close(square, adam.state[twin]["exp_avg_sq"], rtol=1e-12, atol=0)


@pytest.mark.parametrize("update", UPDATES, ids=NAMES)
def test_a_held_vector_does_not_move(update: Update) -> None:
    flat = FlatAdam.of(role("gates", 0.1, parameters((3,))))
    before = flat.parameters.values.clone()
    step(update, flat, torch.zeros(3, dtype=DOUBLE), 1.0, is_held=True)
    assert torch.equal(flat.parameters.values, before) and not flat.mean.any() and not flat.square.any()


def test_a_held_vector_keeps_its_state_in_the_kernel() -> None:
    flat = FlatAdam.of(role("gates", 0.1, parameters((3,))))
    step(adam_in_kernel, flat, torch.ones(3, dtype=DOUBLE), 1.0)
    before = [tensor.clone() for tensor in (flat.parameters.values, flat.mean, flat.square)]
    step(adam_in_kernel, flat, torch.ones(3, dtype=DOUBLE), 1.0, is_held=True)
    for tensor, value in zip((flat.parameters.values, flat.mean, flat.square), before, strict=True):
        assert torch.equal(tensor, value)
