"""Draws of a network's tensors, called together."""

import torch

from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.network_draws import latent_of
from tests.posterior.test_guide import posterior_of
from tests.test_network import inputs


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
