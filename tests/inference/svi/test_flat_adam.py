"""Parameters side by side: views, Adam's steps, and memory of their own afterwards."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.svi import flat_adam as flats_module
from bnn_pyro.inference.svi.flat_adam import Flat, corrections, flatten, update, update_in_graph

DOUBLE = torch.float64


def parameters(*shapes: tuple[int, ...], dtype: torch.dtype = DOUBLE) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator, dtype=dtype)) for shape in shapes]


def group(role: str, rate: float, params: list[nn.Parameter]) -> dict[str, Any]:
    return {"role": role, "lr": rate, "params": params}


SHAPES = ((2, 3), (), (4,), (0, 2), (1, 2, 2))


def test_parameters_become_views() -> None:
    params = parameters(*SHAPES)
    before = [p.detach().clone() for p in params]
    flat = Flat.of("slab_locs", 0.1, params)
    assert flat.values.shape == (6 + 1 + 4 + 0 + 4,) and not flat.values.requires_grad
    assert all(torch.equal(p, value) and p.requires_grad for p, value in zip(params, before, strict=True))
    flat.values.mul_(2)
    assert all(torch.equal(p, 2 * value) for p, value in zip(params, before, strict=True))
    assert [tuple(mean.shape) for mean, _ in flat.state().values()] == list(SHAPES)


def test_release_gives_parameters_memory_of_their_own() -> None:
    params = parameters(*SHAPES)
    flat = Flat.of("slab_locs", 0.1, params)
    flat.release()
    before = [p.detach().clone() for p in params]
    flat.values.zero_()
    assert all(torch.equal(p, value) for p, value in zip(params, before, strict=True))
    assert all(p.untyped_storage().nbytes() == p.numel() * p.element_size() for p in params)


def test_groups_and_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One vector a role, dtype and device; a large parameter alone."""
    monkeypatch.setattr(flats_module, "LARGE", 10)
    small, large, single = parameters((3,), (2,)), parameters((2, 5)), parameters((4,), dtype=torch.float32)
    flats = flatten([group("a", 0.1, [*small, *large, *single]), group("b", 0.2, parameters((2,)))])
    assert [(f.role, f.rate, len(f.values), f.values.dtype) for f in flats] == [
        ("a", 0.1, 5, DOUBLE),
        ("a", 0.1, 10, DOUBLE),
        ("a", 0.1, 4, torch.float32),
        ("b", 0.2, 2, DOUBLE),
    ]
    assert {id(p) for f in flats[:3] for p in f.parameters} == {id(p) for p in [*small, *large, *single]}


def test_gradients_side_by_side() -> None:
    params = parameters((2, 2), (3,))
    flat = Flat.of("a", 0.1, params)
    ours, theirs = torch.arange(4.0, dtype=DOUBLE).view(2, 2).t(), torch.ones(3, dtype=DOUBLE)
    both = flat.gradient([ours, theirs])
    assert both is not None and both.tolist() == [0, 2, 1, 3, 1, 1, 1]
    one = flat.gradient([None, theirs])
    assert one is not None and one.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert flat.gradient([None, None]) is None
    alone = Flat.of("a", 0.1, parameters((2, 2))).gradient([ours])
    assert alone is not None and alone.tolist() == [0, 2, 1, 3] and alone.is_contiguous()


def in_graph(flat: Flat, gradient: Tensor, rate: float) -> None:
    """The step that is compiled."""
    numbers = [torch.tensor(number, dtype=flat.values.dtype) for number in corrections(flat, rate)]
    update_in_graph((flat.values, flat.mean, flat.square), gradient, *numbers)
    flat.steps += 1


@pytest.mark.parametrize("step", [update, in_graph], ids=["fused", "in the graph"])
def test_steps_are_those_of_adam(step: Any) -> None:
    """Over 25 steps at changing rates, with gradients of very different sizes."""
    flat = Flat.of("a", 0.03, parameters((3, 2), (4,)))
    twins = parameters((3, 2), (4,))
    adam = torch.optim.Adam(twins, lr=0.03, fused=False, foreach=False)
    for i in range(25):
        rate = 0.5 + 0.5 * ((i * 7) % 5) / 4
        gradients = [torch.randn_like(p) * 10.0 ** (i % 7 - 5) for p in twins]
        adam.param_groups[0]["lr"] = 0.03 * rate
        for twin, gradient in zip(twins, gradients, strict=True):
            twin.grad = gradient.clone()
        adam.step()
        step(flat, torch.cat([g.flatten() for g in gradients]), rate)
        for parameter, twin in zip(flat.parameters, twins, strict=True):
            torch.testing.assert_close(parameter, twin, rtol=1e-12, atol=1e-14)
    assert flat.steps == 25
    for (mean, square), twin in zip(flat.state().values(), twins, strict=True):
        torch.testing.assert_close(mean, adam.state[twin]["exp_avg"], rtol=1e-12, atol=0)
        torch.testing.assert_close(square, adam.state[twin]["exp_avg_sq"], rtol=1e-12, atol=0)


def test_a_held_vector_does_not_move() -> None:
    flat = Flat.of("gates", 0.1, parameters((3,)))
    before = flat.values.clone()
    numbers = torch.tensor([0.0, 1.0], dtype=DOUBLE).unbind()
    update_in_graph((flat.values, flat.mean, flat.square), torch.zeros(3, dtype=DOUBLE), *numbers)
    assert torch.equal(flat.values, before) and not flat.mean.any() and not flat.square.any()
