"""ClassMap: a class per pixel goes the whole way, and what does not fit is refused."""

import pytest
import torch
from torch import nn

from bnn_pyro import fit, prune, train_dense
from bnn_pyro.likelihoods import ClassMap, Mixture
from bnn_pyro.likelihoods.class_targets import GAP
from bnn_pyro.network import SparseNetwork
from bnn_pyro.priors import Gaussian, SpikeSlab

X = torch.randn(24, 1, 4, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def segmenter() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 2, 1))


def test_a_class_per_pixel_is_learned() -> None:
    likelihood = ClassMap(weight=(1.0, 2.0), missing=True)
    y = Y.masked_fill(torch.arange(4) == 0, GAP)
    dense = train_dense(segmenter(), (X, y), likelihood=likelihood, epochs=60, batch_size=8, learning_rate=0.03, seed=0)
    model = SparseNetwork(
        dense, X[:2], prior=SpikeSlab(Gaussian(), inclusion=0.5), likelihood=likelihood, num_data=len(X)
    )
    posterior = fit(model, (X, y), epochs=2, batch_size=8, seed=0)
    scores = posterior.evaluate(X, y)
    assert scores["accuracy"] > 0.9 and scores["iou"] > 0.8
    assert posterior.predict(X).shape == (24, 2, 4, 4)
    predicted = posterior.predictive(X)
    assert isinstance(predicted, Mixture)
    torch.testing.assert_close(predicted.mean.sum(1), torch.ones(24, 4, 4))
    assert prune(posterior)(X).shape == (24, 2, 4, 4)


def test_log_score_is_that_of_all_pixels() -> None:
    output = torch.randn(2, 24, 2, 4, 4)
    found = ClassMap(weight=(1.0, 5.0)).predict(output).log_prob(Y)
    each = output.log_softmax(2).gather(2, Y.expand(2, -1, -1, -1).unsqueeze(2)).sum((2, 3, 4))
    torch.testing.assert_close(found, each.logsumexp(0) - torch.tensor(2.0).log())


@pytest.mark.parametrize(
    ("likelihood", "output", "y", "message"),
    [
        (ClassMap(), torch.zeros(24, 2), Y, r"output must be logits of shape \(rows, classes, \*positions\) with 2"),
        (ClassMap(), torch.zeros(24, 2, 4, 4), Y[:, 0], r"y must have shape \(24, 4, 4\), one label for each position"),
        (ClassMap(), torch.zeros(24, 2, 4, 4), Y + 1, "y must hold labels in 0"),
        (ClassMap(), torch.zeros(24, 2, 4, 4), 0 * Y + GAP, "y must hold labels in 0"),
        (ClassMap(missing=True), torch.zeros(24, 2, 4, 4), 0 * Y + GAP, "at least one label that is there, got -100"),
        (ClassMap(weight=(1.0,)), torch.zeros(24, 2, 4, 4), Y, "weight must hold one number for each of the 2 classes"),
    ],
)
def test_what_does_not_fit(likelihood: ClassMap, output: torch.Tensor, y: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        likelihood.check(output, y)


def test_hyper_parameters_are_checked() -> None:
    with pytest.raises(ValueError, match="dims must be at least 1, got 0"):
        ClassMap(0)
    with pytest.raises(ValueError, match=r"weight must be positive and finite, got \(1.0, -1.0\)"):
        ClassMap(weight=(1.0, -1.0))
    with pytest.raises(ValueError, match="weight must hold one number for each class, got 2.0"):
        ClassMap(weight=2.0)  # type: ignore[arg-type]
