"""What networks predict: as their likelihoods say, in batches."""

import torch

from bnn_pyro.evaluation.metrics import coverage_curve
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise, Normals
from bnn_pyro.networks import mlp
from bnn_pyro.reports.predictions import calibration_curves, output_of, predict_draws, predict_net
from tests.reports.finished import classification


def test_batches_are_put_together() -> None:
    net, x = mlp(3, (4,), 2), torch.randn(7, 3)
    torch.testing.assert_close(output_of(net, x, batch_size=3), net(x).detach())
    assert not output_of(net, x).requires_grad


def test_a_net_is_a_prediction_of_one_draw() -> None:
    net, x = mlp(3, (4,), 2), torch.randn(7, 3)
    classes = predict_net(net, Categorical(), x, None)
    assert isinstance(classes, Classes)
    torch.testing.assert_close(classes.probabilities, net(x).detach().softmax(1))
    normals = predict_net(mlp(3, (4,), 1), GaussianNoise(), x, torch.tensor(0.5))
    assert isinstance(normals, Normals) and normals.mean.shape == (1, 7) and bool((normals.sd == 0.5).all())


def test_curves_of_calibration_have_the_names_of_the_picture() -> None:
    y = torch.randn(7)
    found = {
        name: predict_net(mlp(3, (4,), 1), GaussianNoise(), torch.randn(7, 3), torch.tensor(0.5))
        for name in ("posterior", "refined", "dense", "reference", "pruned")
    }
    curves = calibration_curves(found, y, num_samples=8)
    assert list(curves) == ["dense net", "median model", "8 draws", "refined net", "whole net, sampled"]
    wanted = coverage_curve(found["refined"].mean, found["refined"].sd, y)  # type: ignore[union-attr]
    assert torch.equal(curves["refined net"].observed, wanted.observed)  # type: ignore[union-attr]


def test_draws_are_the_same_at_each_call_and_for_all_rows() -> None:
    posterior, x, state = classification().posterior, torch.randn(7, 4), torch.get_rng_state()
    first, second, some = (predict_draws(posterior, rows, 5) for rows in (x, x, x[2:4]))
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(first, Classes) and isinstance(second, Classes) and isinstance(some, Classes)
    assert torch.equal(first.draws, second.draws) and first.draws.shape == (5, 7, 3)
    torch.testing.assert_close(first.draws[:, 2:4], some.draws)
