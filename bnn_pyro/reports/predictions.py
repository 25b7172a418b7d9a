"""What networks and posteriors predict on the rows that they are measured on."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.metrics import coverage_curve, reliability_curve
from bnn_pyro.inference.generators import seeded
from bnn_pyro.input_layout import InputLayout
from bnn_pyro.likelihoods import Classes, Likelihood, Mixture, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.scores import of_one_form
from bnn_pyro.reports.plots import Curve

Prediction = Classes | Normals | Mixture
"""A predictive distribution, with what each draw predicts."""


_SHOWN = {  # in the order of the picture
    "dense": "dense net",
    "pruned": "median model",
    "posterior": "{draws} draws",
    "refined": "refined net",
    "reference": "whole net, sampled",
}


def calibration_curves(predictions: Mapping[str, Prediction], y: Tensor, *, num_samples: int = 32) -> dict[str, Curve]:
    """Return how well predictions of classes or normals are calibrated, by the names that a picture shows.

    Args:
        predictions: Predictions by their names in ``metrics.json``.
        y: Observations, shape ``(rows,)``.
        num_samples: Draws that the posterior's predictions were averaged over.
    """
    found = {name.format(draws=num_samples): predictions[key] for key, name in _SHOWN.items() if key in predictions}
    return {name: _calibration_curve(each, y) for name, each in found.items() if not isinstance(each, Mixture)}


def _calibration_curve(prediction: Classes | Normals, y: Tensor) -> Curve:
    if isinstance(prediction, Classes):
        return reliability_curve(prediction.probabilities, y)
    return coverage_curve(prediction.mean, prediction.sd, y)


_SEED = 0  # of draws that a guide makes afresh


def predict_draws(posterior: Posterior, x: Tensor, num_samples: int) -> Prediction:
    """Return what draws of a posterior predict: the same draws at each call, so that new rows meet those of the scores.

    Args:
        posterior: The posterior.
        x: Inputs, shape ``(rows, *input_shape)``.
        num_samples: How many draws, as for `bnn_pyro.posterior.base.Posterior.predict`.
    """
    with seeded(_SEED, next(posterior.model.net.parameters()).device):
        return of_one_form(posterior.predict(x, num_samples=num_samples, return_draws=True))


def predict_net(net: nn.Module, likelihood: Likelihood, x: Tensor, noise: Tensor | None) -> Prediction:
    """Return what a single network predicts.

    Args:
        net: The network.
        likelihood: What its outputs mean.
        x: Inputs, shape ``(rows, *input_shape)``.
        noise: The likelihood's own latent, in its own shape; None if it has none.
    """
    latent = None if noise is None else noise.unsqueeze(0)
    return of_one_form(likelihood.predict(output_of(net, x).unsqueeze(0), latent))


@torch.no_grad()
def output_of(net: nn.Module, x: Tensor, *, batch_size: int = 1024) -> Tensor:
    """Return a network's outputs, computed without gradients and in batches.

    Args:
        net: The network.
        x: Inputs, shape ``(rows, *input_shape)``.
        batch_size: Rows at a time.
    """
    layout = InputLayout.of("x", x, net)
    return torch.cat([layout.call(net, rows) for rows in layout.pack("x", x).split(batch_size)])
