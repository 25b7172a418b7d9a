"""What networks and posteriors predict on the rows that they are measured on."""

import torch
from torch import Tensor, nn

from bnn_pyro.likelihoods import Classes, Likelihood, Normals

Prediction = Classes | Normals
"""A predictive distribution, with what each draw predicts."""


def predict_net(net: nn.Module, likelihood: Likelihood, x: Tensor, noise: Tensor | None) -> Prediction:
    """Return what a single network predicts.

    Args:
        net: The network.
        likelihood: What its outputs mean.
        x: Inputs, shape ``(rows, *input_shape)``.
        noise: The likelihood's own latent, of one element; None if it has none.
    """
    return likelihood.predict(output_of(net, x).unsqueeze(0), None if noise is None else noise.reshape(1))


@torch.no_grad()
def output_of(net: nn.Module, x: Tensor, *, batch_size: int = 1024) -> Tensor:
    """Return a network's outputs, computed without gradients and in batches.

    Args:
        net: The network.
        x: Inputs, shape ``(rows, *input_shape)``.
        batch_size: Rows at a time.
    """
    return torch.cat([net(rows) for rows in x.split(batch_size)])
