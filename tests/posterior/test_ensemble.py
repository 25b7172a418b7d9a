"""The posterior that snapshots of different sizes hold."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import Gaussian, SparseNetwork, SpikeSlab, prune
from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise, Likelihood, Normals
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.ensemble import Ensemble, Snapshot
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model

DOUBLE = torch.float64
KEEPS: list[dict[str, list[int]]] = [
    {"inputs": [0, 1, 2, 3, 4, 5], "hidden1": [0, 1, 2, 3], "hidden2": [0, 1, 2]},
    {"inputs": [0, 2, 3, 5], "hidden1": [0, 1, 3], "hidden2": [0, 1, 2]},
    {"inputs": [2, 5], "hidden1": [1, 3], "hidden2": [0, 2]},
]


def network(outputs: int = 3, likelihood: Likelihood | None = None) -> SparseNetwork:
    net = mlp(6, (4, 3), outputs, activation=nn.Sigmoid).double()  # not 0 at 0
    return SparseNetwork(
        net,
        torch.randn(2, 6, dtype=DOUBLE),
        prior=SpikeSlab(Gaussian(), inclusion=0.5),
        likelihood=likelihood or Categorical(),
        num_data=12,
        select_inputs=True,
    )


def masks(kept: dict[str, list[int]], model: SparseNetwork) -> dict[str, Tensor]:
    found = {name: torch.zeros(group.size, dtype=torch.bool) for name, group in model.groups.items()}
    for name, numbers in kept.items():
        found[name][numbers] = True
    return found


def snapshots(model: SparseNetwork, latent: Tensor | None = None) -> list[Snapshot]:
    """Three draws, each smaller than the one before, with weights at random."""
    taken = []
    for kept in KEEPS:
        keep = masks(kept, model)
        small = smaller_model(model, keep, kept_positions(model.net, model.nodes.groups, keep))
        for parameter in small.net.parameters():
            parameter.data = torch.randn_like(parameter)
        taken.append(Snapshot(small, keep, latent))
    return taken


def ensemble(**options: Any) -> Ensemble:
    model = network()
    return Ensemble(model, snapshots(model), **options)


def rows(size: int = 12) -> Tensor:
    return torch.randn(size, 6, dtype=DOUBLE)


def by_hand(posterior: Ensemble, x: Tensor) -> Tensor:
    """The outputs of all snapshots, from the plain nets and their own inputs."""
    inputs = [x[:, kept["inputs"]] for kept in KEEPS]
    return torch.stack([s.model.net(own) for s, own in zip(posterior.snapshots, inputs, strict=True)])


def test_predicts_the_mean_over_snapshots() -> None:
    posterior, x = ensemble(), rows()
    probabilities = by_hand(posterior, x).softmax(-1)
    torch.testing.assert_close(posterior.predict(x), probabilities.mean(0))
    torch.testing.assert_close(posterior.predict(x, batch_size=5), probabilities.mean(0))
    torch.testing.assert_close(posterior.predict(x, num_samples=2), probabilities[1:].mean(0))
    torch.testing.assert_close(posterior.predict(x, num_samples=99), probabilities.mean(0))
    drawn = posterior.predict(x, return_draws=True)
    assert isinstance(drawn, Classes)
    torch.testing.assert_close(drawn.draws, probabilities)


def test_predicts_with_the_noise_of_each_snapshot() -> None:
    model = network(1, GaussianNoise())
    taken = [
        Snapshot(s.model, s.keep, torch.tensor(float(i + 1), dtype=DOUBLE)) for i, s in enumerate(snapshots(model))
    ]
    posterior, x, y = Ensemble(model, taken), rows(), torch.randn(12, dtype=DOUBLE)
    drawn = posterior.predict(x, return_draws=True)
    assert isinstance(drawn, Normals)
    assert drawn.sd[:, 0].tolist() == [1, 2, 3]
    outputs = by_hand(posterior, x).squeeze(-1)
    torch.testing.assert_close(drawn.mean, outputs)
    assert posterior.evaluate(x, y, num_samples=3) == regression_metrics(outputs, drawn.sd, y)
    last = posterior.evaluate_median(x, y)
    assert last["rmse"] == pytest.approx(math.sqrt((outputs[-1] - y).square().mean()))
    assert last["nll"] == pytest.approx(float(-torch.distributions.Normal(outputs[-1], 3.0).log_prob(y).mean()))


def test_median_model_is_the_last_snapshot_in_the_whole_net() -> None:
    posterior, x = ensemble(), rows()
    whole = posterior.median_model()
    assert [tuple(p.shape) for p in whole.parameters()] == [(4, 6), (4,), (3, 4), (3,), (3, 3), (3,)]
    torch.testing.assert_close(whole(x), by_hand(posterior, x)[-1])
    assert int(torch.cat([p.flatten() for p in whole.parameters()]).count_nonzero()) == sum(
        p.numel() for p in posterior.snapshots[-1].model.net.parameters()
    )


def test_prune_is_the_last_snapshot() -> None:
    posterior, x = ensemble(), rows()
    small = prune(posterior)
    torch.testing.assert_close(small(x), posterior.median_model()(x))
    last = posterior.snapshots[-1].model.net
    own = [tuple(p.shape) for p in small.parameters()]
    assert own == [tuple(p.shape) for p in last.parameters()] == [(2, 2), (2,), (2, 2), (2,), (3, 2), (3,)]


def test_more_nodes_can_be_closed() -> None:
    posterior, x = ensemble(), rows()
    keep = {"hidden1": torch.tensor([False, True, False, False])}
    torch.testing.assert_close(prune(posterior, keep=keep)(x), posterior.median_model(keep=keep)(x))


def test_evaluate_is_that_of_the_median_model_or_of_snapshots() -> None:
    posterior, x, y = ensemble(), rows(), torch.randint(3, (12,))
    outputs = by_hand(posterior, x).softmax(-1)
    assert posterior.evaluate_median(x, y) == pytest.approx(classification_metrics(outputs[-1], y))
    assert posterior.evaluate(x, y, num_samples=2) == pytest.approx(classification_metrics(outputs[1:].mean(0), y))
    assert posterior.evaluate(x, y) == pytest.approx(classification_metrics(outputs.mean(0), y))


def test_inclusion_is_the_share_of_snapshots() -> None:
    posterior = ensemble()
    inclusion, keep = posterior.inclusion(), posterior.keep()
    for name, group in posterior.model.groups.items():
        shares = [sum(node in kept[name] for kept in KEEPS) / 3 for node in range(group.size)]
        assert inclusion[name].tolist() == pytest.approx(shares)
        assert keep[name].nonzero().flatten().tolist() == KEEPS[-1][name]
    assert posterior.inclusion(num_samples=1)["hidden1"].tolist() == [0, 1, 0, 1]
    drawn = posterior.gate_draws(num_samples=2)["hidden1"]
    assert drawn.dtype == torch.bool and drawn.tolist() == [[True, True, False, True], [False, True, False, True]]


def test_buffers_are_those_of_the_last_snapshot() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()
    model = SparseNetwork(
        net, rows(2), prior=SpikeSlab(Gaussian(), inclusion=0.5), likelihood=Categorical(), num_data=12
    )
    name = next(iter(model.groups))
    keep = {name: torch.tensor([True, False, True, True])}
    small = smaller_model(model, keep, kept_positions(model.net, model.nodes.groups, keep))
    small.net.train()
    small.net(5 * rows())  # moves the running statistics
    posterior, x = Ensemble(model, [Snapshot(small, keep)]), rows()
    torch.testing.assert_close(posterior.median_model()(x), small.net.eval()(x))


def test_tempered() -> None:
    assert ensemble().tempered and ensemble(temperature=0.5).tempered
    assert ensemble().tempering == "draws of a cooled sampler"
    assert ensemble(temperature=0.5).tempering == "draws at temperature 0.5"
    assert not ensemble(temperature=1.0).tempered


def test_what_was_handed_in_stays() -> None:
    model = network()
    before = copy.deepcopy(model.net.state_dict())
    Ensemble(model, snapshots(model))
    assert all(torch.equal(value, before[name]) for name, value in model.net.state_dict().items())


def test_refusals() -> None:
    with pytest.raises(ValueError, match="snapshots must hold at least one, got none"):
        Ensemble(network(), [])
    with pytest.raises(ValueError, match=r"x must have shape \(rows, 6\)"):
        ensemble().predict(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        ensemble().predict(rows(), num_samples=0)
