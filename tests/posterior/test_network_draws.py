"""Draws of a network's tensors: it is called with all of them, together where that can be done."""

import logging
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.network_draws import call_all, latent_of, parts_like
from tests.posterior.test_guide import posterior_of
from tests.test_network import inputs

X, DRAWS = torch.randn(5, 3), {"w": torch.randn(4, 2, 3)}
EXPECTED = torch.stack([X @ w.T for w in DRAWS["w"]])


def product(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return x @ tensors["w"].T


def looking(tensors: Mapping[str, Tensor], x: Tensor) -> Tensor:
    return product(tensors, x) if tensors["w"].sum() > -1e9 else x


@pytest.mark.parametrize("at_once", [1, 3, 4])
def test_draws_are_called_together(at_once: int) -> None:
    torch.testing.assert_close(call_all(product, DRAWS, X, at_once=at_once), EXPECTED)


def test_a_net_that_looks_at_values_is_called_with_one_draw_after_the_other(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        torch.testing.assert_close(call_all(looking, DRAWS, X, at_once=4), EXPECTED)
    assert "one after the other" in caplog.text


def test_faults_of_a_net_are_its_own() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        call_all(product, DRAWS, torch.randn(5, 7), at_once=4)


def test_outputs_are_those_of_each_draw() -> None:
    (drawn,) = posterior_of().network_draws(num_samples=5)
    each = [{name: tensor[i] for name, tensor in drawn.tensors.items()} for i in range(5)]
    expected = torch.stack([drawn.model.call_net(tensors, inputs()) for tensors in each])
    for batch_size in (1024, 5):
        torch.testing.assert_close(drawn.outputs(inputs(), batch_size), expected, rtol=1e-12, atol=1e-14)


def test_the_first_draws_and_their_latents() -> None:
    posterior = posterior_of(mlp(6, (4,), 1).double(), likelihood=GaussianNoise())
    (drawn,) = posterior.network_draws(num_samples=5)
    assert len(drawn) == 5 and drawn.latent is not None
    for count in (2, 99):
        first = drawn.first(count)
        assert len(first) == min(count, 5) and first.latent is not None
        assert torch.equal(first.latent, drawn.latent[:count])
        assert torch.equal(first.outputs(inputs(), 1024), drawn.outputs(inputs(), 1024)[:count])


def test_the_likelihoods_latent_is_found_among_the_sites() -> None:
    posterior = posterior_of(mlp(6, (4,), 1).double(), likelihood=GaussianNoise())
    values = posterior.draw_values(3)
    assert latent_of(posterior.model, values) is values["noise_scale"]
    assert latent_of(posterior_of().model, {}) is None


def test_inputs_are_moved_some_at_a_time() -> None:
    x = torch.arange(10).view(5, 2)
    parts = list(parts_like(torch.zeros((), dtype=torch.float64), x, 2))
    assert [len(part) for part in parts] == [2, 2, 1] and {part.dtype for part in parts} == {torch.float64}
    assert torch.equal(torch.cat(parts), x.double())
