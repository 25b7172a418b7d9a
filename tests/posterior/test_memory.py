"""How much is computed at once: all of what is small, parts of what is large, and the same numbers."""

import weakref
from typing import Any

import pytest
import torch
from torch import nn

from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior import memory
from bnn_pyro.priors import Gaussian, SpikeSlab

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 3


def model_of(net: nn.Module, example: torch.Tensor = X[:2]) -> SparseNetwork:
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(net, example, prior=prior, likelihood=Categorical(), num_data=40)


def test_a_small_network_is_called_once() -> None:
    model = model_of(mlp(6, (8,), 3))
    assert memory.at_once(model, X[:1], draws=64, rows=1024) == (64, 1024)
    assert memory.draws_at_once(model, 1000) == 1000


def test_large_outputs_are_computed_for_fewer_rows_and_then_for_fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
    model = model_of(net, images)
    monkeypatch.setattr(memory, "_ACTIVATION_BYTES", 256 * 4 * 64 * 100)  # the convolution has 256 outputs per image
    assert memory.at_once(model, images, draws=64, rows=1024) == (64, 100)
    monkeypatch.setattr(memory, "_ACTIVATION_BYTES", 256 * 4 * 64)
    assert memory.at_once(model, images, draws=64, rows=1024) == (4, 16)
    monkeypatch.setattr(memory, "_ACTIVATION_BYTES", 1)
    assert memory.at_once(model, images, draws=64, rows=1024) == (1, 1)
    assert not any(module._forward_hooks for module in model.net.modules())


def test_parts_predict_what_the_whole_does(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = fit(model_of(mlp(6, (8,), 3)), (X, Y), epochs=2, progress=False, seed=0)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        whole = posterior.predict(X, num_samples=10)
        monkeypatch.setattr(memory, "_ACTIVATION_BYTES", 8 * 4 * 20)
        monkeypatch.setattr(
            memory, "_PARAMETER_BYTES", 3 * 4 * sum(p.numel() for p in posterior.model.net.parameters())
        )
        assert memory.draws_at_once(posterior.model, 10) == 3
        torch.manual_seed(0)
        torch.testing.assert_close(posterior.predict(X, num_samples=10), whole)


def test_draws_of_one_part_are_gone_when_the_next_ones_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = fit(model_of(mlp(6, (8,), 3)), (X, Y), epochs=1, progress=False, seed=0)
    monkeypatch.setattr(memory, "_PARAMETER_BYTES", 1)  # each draw by itself
    make, seen = posterior.network_draws, list[weakref.ref[Any]]()

    def watched(*, num_samples: int | None = None) -> Any:
        assert all(reference() is None for reference in seen)
        found = make(num_samples=num_samples)
        seen.append(weakref.ref(found[0]))
        return found

    monkeypatch.setattr(posterior, "network_draws", watched)
    posterior.predict(X, num_samples=4)
    assert len(seen) == 4
