"""Noise that comes from outside: what is lifted out of a program, and how it is drawn."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from bnn_pyro.tracing.noise import Noise, Part, lift_noise
from bnn_pyro.tracing.trace import trace
from tests.recorded import recorded

CPU = torch.device("cpu")


def part(law: str, *shape: int, dtype: torch.dtype = torch.float32, stride: tuple[int, ...] | None = None) -> Part:
    stride = torch.empty(shape).stride() if stride is None else stride
    return Part(law, torch.Size(shape), stride, dtype, CPU)


# ---- drawing ---------------------------------------------------------------------------------------------------------


def test_laws() -> None:
    """Means and variances of 40,000 draws within 5 standard errors: fails by chance once in 400,000 runs."""
    noise = Noise((part("normal", 200, 200), part("uniform", 200, 200), part("normal", 40_000, dtype=torch.float64)))
    normal, uniform, double = noise.draw()
    for values in (normal, double):
        assert abs(float(values.mean())) < 5 / 200 and abs(float(values.var()) - 1) < 5 * 2**0.5 / 200
    assert abs(float(uniform.mean()) - 0.5) < 5 * (1 / 12) ** 0.5 / 200 and abs(float(uniform.var()) - 1 / 12) < 0.002
    assert uniform.min() >= 0 and uniform.max() < 1
    assert double.dtype == torch.float64 and normal.dtype == uniform.dtype == torch.float32


def test_parts_are_apart() -> None:
    """No number is a part of two, whatever their sizes, and none is left out."""
    shapes: list[tuple[int, ...]] = [(), (1,), (3,), (16,), (17,), (2, 3), (0,), (5, 0, 2), (4, 4)]
    noise = Noise(tuple(part(law, *shape) for shape in shapes for law in ("normal", "uniform")))
    views = noise.fill()
    for i, view in enumerate(views):
        view.fill_(i)
    assert [view.shape for view in views] == [torch.Size(shape) for shape in shapes for _ in range(2)]
    assert all((view == i).all() for i, view in enumerate(views))
    drawn = noise.draw()
    everything = torch.cat([view.flatten() for view in drawn])
    assert len(everything.unique()) == len(everything)


def test_correlations_of_parts() -> None:
    """Two parts of 10,000 are correlated by more than 5 / 100 once in 1.7 million runs."""
    one, two = Noise((part("normal", 10_000), part("normal", 10_000))).draw()
    assert abs(float((one * two).mean())) < 0.05


def test_the_seed_decides_and_every_draw_is_fresh() -> None:
    noise = Noise((part("normal", 5), part("uniform", 5)))

    def draw() -> list[Tensor]:
        return [view.clone() for view in noise.draw()]

    torch.manual_seed(1)
    one, two = draw(), draw()
    torch.manual_seed(1)
    again = draw()
    for first, second, repeated in zip(one, two, again, strict=True):
        assert torch.equal(first, repeated) and not torch.equal(first, second)


def test_no_parts() -> None:
    noise = Noise(())
    state = torch.get_rng_state()
    assert list(noise.draw()) == list(noise.fill()) == [] and torch.equal(torch.get_rng_state(), state)


def test_strides() -> None:
    view = Noise((part("normal", 3), part("normal", 2, 3, stride=(1, 2)))).draw()[1]
    assert view.shape == (2, 3) and view.stride() == (1, 2)


# ---- lifting ---------------------------------------------------------------------------------------------------------


LIFTED: dict[str, tuple[Callable[[Tensor], Any], list[str]]] = {
    "randn": (lambda x: x + torch.randn(2, 3), ["normal"]),
    "randn_like": (lambda x: x + torch.randn_like(x), ["normal"]),
    "normal_": (lambda x: x + torch.empty(2, 3).normal_(), ["normal"]),
    "normal_ with its defaults": (lambda x: x + torch.empty_like(x).normal_(0, 1), ["normal"]),
    "rand": (lambda x: x + torch.rand(2, 3, dtype=torch.float64), ["uniform"]),
    "rand_like": (lambda x: x + torch.rand_like(x), ["uniform"]),
    "uniform_": (lambda x: x + x.new_empty(2, 3).uniform_(), ["uniform"]),
    "both, in their order": (
        lambda x: x + torch.rand(()) * torch.randn(3) - torch.rand(3),
        ["uniform", "normal", "uniform"],
    ),
    "written to afterwards": (lambda x: torch.randn(2, 3).mul_(2).add_(x), ["normal"]),
    "transposed": (lambda x: x + torch.randn_like(torch.ones(3, 2).t()).t().view(-1).sum(), ["normal"]),
}


@pytest.mark.parametrize("name", LIFTED)
def test_standard_draws_are_lifted(name: str) -> None:
    function, laws = LIFTED[name]
    x = torch.ones(2, 3)
    program = trace(function, x)
    assert [part.law for part in program.noise.parts] == laws
    expected, noise = recorded(function, x)
    assert torch.equal(program.run([x], noise), expected)


LEFT: dict[str, Callable[[Tensor], Tensor]] = {
    "normal_ with a mean": lambda x: x + torch.empty(2, 3).normal_(100.0),
    "normal_ with a deviation": lambda x: x + torch.empty(2, 3).normal_(0.0, 100.0),
    "uniform_ with bounds": lambda x: x + torch.empty(2, 3).uniform_(5, 6),
    "bernoulli": lambda x: torch.bernoulli(x / 2),
    "torch.normal": lambda x: torch.normal(x, x),
    "exponential": lambda x: torch.empty(2, 3).exponential_() + x,
    "dropout": lambda x: torch.nn.functional.dropout(x, 0.5),
    "into memory that is a part": lambda x: x.clone()[0].normal_() + x,
}


@pytest.mark.parametrize("name", LEFT)
def test_other_draws_stay_in_the_program(name: str) -> None:
    """They are made there, afresh at every call, by the seed."""
    program = trace(LEFT[name], torch.ones(2, 3))
    assert program.noise.parts == ()
    torch.manual_seed(3)
    expected = LEFT[name](torch.ones(2, 3))
    torch.manual_seed(3)
    assert torch.equal(program(torch.ones(2, 3)), expected)
    draws = [program(torch.ones(2, 3)) for _ in range(8)]
    assert not all(torch.equal(draw, expected) for draw in draws)


def test_the_arguments_come_last() -> None:
    graph: fx.GraphModule = make_fx(lambda x, y: x + torch.randn(3) * y + torch.rand(3))(torch.ones(3), torch.ones(3))
    noise = lift_noise(graph)
    graph.recompile()
    names = [node.name for node in graph.graph.nodes if node.op == "placeholder"]
    assert names[2:] == ["noise0", "noise1"] and len(noise.parts) == 2
    found = graph(torch.ones(3), 2 * torch.ones(3), torch.full((3,), 10.0), torch.full((3,), 0.5))
    assert found.tolist() == [21.5] * 3
