"""Spike and slab: the composed model functions, and what a network is given."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.priors import (
    Gaussian,
    GroupHorseshoe,
    SpikeSlab,
    spike_slab_gaussian,
    spike_slab_group_horseshoe,
    spike_slab_group_lasso,
)
from tests.models import traced

COMPOSED: tuple[Callable[..., Tensor], ...] = (
    spike_slab_gaussian,
    lambda name, shape, **options: spike_slab_group_lasso(name, shape, rate=torch.tensor(2.0).double(), **options),
    lambda name, shape, **options: spike_slab_group_horseshoe(
        name, shape, global_scale=torch.tensor(1.0).double(), **options
    ),
)


def trace(prior: Callable[..., Tensor], *args: Any, **options: Any) -> Any:
    return traced(prior)(*args, **options)


@pytest.mark.parametrize("prior", COMPOSED)
def test_further_gates_and_shapes(prior: Callable[..., Tensor]) -> None:
    for shape in ((4,), (4, 3), (4, 3, 2, 2)):
        found = trace(prior, "w", shape, inclusion=0.3, gates={"x": -1}).nodes
        assert found["w.weight"]["infer"]["gates"] == {"w.gate": -len(shape), "x": -1}
        assert found["_RETURN"]["value"].shape == shape
        gates = found["w.gate"]["value"].reshape(4, *[1] * (len(shape) - 1))
        torch.testing.assert_close(found["_RETURN"]["value"], gates * found["w.weight"]["value"])


@pytest.mark.parametrize("prior", COMPOSED)
def test_inclusion_temperature_and_sigma_reach_their_sites(prior: Callable[..., Tensor]) -> None:
    each = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    one, two = (trace(prior, "w", (3, 2), inclusion=each, sigma=s, temperature=0.25) for s in (1.0, 2.0))
    torch.testing.assert_close(one.nodes["w.gate"]["fn"].base_dist.probs, each)
    assert one.nodes["w.gate"]["fn"].base_dist.temperature == 0.25
    torch.manual_seed(0)
    one = trace(prior, "w", (3, 2), inclusion=each, sigma=1.0)
    torch.manual_seed(0)
    two = trace(prior, "w", (3, 2), inclusion=each, sigma=2.0)
    torch.testing.assert_close(2 * one.nodes["w.weight"]["value"], two.nodes["w.weight"]["value"])
    assert two.nodes["w.weight"]["value"].dtype == torch.float64


@pytest.mark.parametrize("prior", COMPOSED)
def test_batches_of_inclusions_and_sigmas(prior: Callable[..., Tensor]) -> None:
    """A latent inclusion probability or sigma may have batch dimensions, with one last dimension more for the nodes."""
    inclusion = torch.tensor([0.1, 0.9], dtype=torch.float64).unsqueeze(-1)
    found = trace(prior, "w", (3, 4), inclusion=inclusion, sigma=torch.ones(2, 1, dtype=torch.float64)).nodes
    assert found["w.gate"]["fn"].batch_shape == (2,)
    assert found["_RETURN"]["value"].shape == (2, 3, 4)


def test_group_size_is_the_number_of_weights_a_node() -> None:
    for shape, size in (((4,), 1), ((4, 3), 3), ((4, 3, 2, 2), 12)):
        found = trace(spike_slab_group_lasso, "w", shape, rate=2.0, inclusion=0.5).nodes["w.tau_squared"]
        assert (found["fn"].base_dist.concentration == (size + 1) / 2).all()


@pytest.mark.parametrize(
    ("sigma", "inclusion", "expected"),
    [
        (1, 0.5, torch.float32),
        (1.0, torch.tensor(0.5).double(), torch.float64),
        (torch.tensor(1.0).double(), 0.5, torch.float64),
        (torch.tensor(1.0), torch.tensor(0.5).double(), torch.float32),
    ],
)
def test_dtype_of_the_gaussian(sigma: float | Tensor, inclusion: float | Tensor, expected: torch.dtype) -> None:
    found = trace(spike_slab_gaussian, "w", (3, 2), inclusion=inclusion, sigma=sigma).nodes
    assert {found[name]["value"].dtype for name in ("w.gate", "w.weight", "_RETURN")} == {expected}


@pytest.mark.parametrize("prior", COMPOSED)
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((), {"inclusion": 0.5}, "shape must be"),
        ((3, 0), {"inclusion": 0.5}, r"with positive sizes, got \(3, 0\)"),
        ((3, 2), {"inclusion": 0.0}, r"inclusion must lie in \(0, 1\), got 0.0"),
        ((3, 2), {"inclusion": 1.5}, r"inclusion must lie in \(0, 1\), got 1.5"),
        ((3, 2), {"inclusion": 0.5, "temperature": -1.0}, "temperature must be positive, got -1.0"),
        ((3, 2), {"inclusion": 0.5, "sigma": 0.0}, "sigma must be positive, got 0.0"),
    ],
)
def test_functions_say_what_is_wrong(
    prior: Callable[..., Tensor], shape: tuple[int, ...], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        prior("w", shape, **options)


def test_defaults_of_spike_slab() -> None:
    prior = SpikeSlab()
    assert (prior.slab, prior.inclusion, prior.temperature) == (GroupHorseshoe(), None, 0.5)
    assert SpikeSlab(inclusion={"hidden": 0.2}).inclusion == {"hidden": 0.2}


@pytest.mark.parametrize("slab", [Gaussian, 3, "gaussian", None])
def test_a_slab_that_is_none(slab: Any) -> None:
    """A class has what is asked of a slab, as functions."""
    with pytest.raises(TypeError, match="slab must be a slab"):
        SpikeSlab(slab)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inclusion": 0.0}, r"inclusion must lie in \(0, 1\), got 0.0"),
        ({"inclusion": 1}, r"inclusion must lie in \(0, 1\), got 1"),
        ({"inclusion": {"a": 0.5, "b": 2.0}}, r"inclusion\['b'\] must lie in \(0, 1\), got 2.0"),
        ({"temperature": 0}, "temperature must be positive, got 0"),
    ],
)
def test_spike_slab_says_what_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpikeSlab(**options)
