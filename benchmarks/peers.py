"""Mean-field Gaussian networks of the same widths by other packages, as their own documentation uses them.

All of them sample weights, and are given the fused Adam that our own steps have.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Step = Callable[[Tensor, Tensor], object]
Loss = Callable[[Tensor, Tensor], Tensor]


def bayesian_torch(widths: Sequence[int], num_data: int, device: torch.device) -> Step:
    """Return the training step of bayesian-torch: a dense net converted, cross-entropy and KL.

    Args:
        widths: Inputs, hidden widths, outputs.
        num_data: Number of training rows.
        device: Where to train.
    """
    from bayesian_torch.models.dnn_to_bnn import dnn_to_bnn, get_kl_loss

    net = _perceptron(widths, nn.Linear)
    settings = {"prior_mu": 0.0, "prior_sigma": 1.0, "posterior_mu_init": 0.0, "posterior_rho_init": -3.0}
    dnn_to_bnn(net, {**settings, "type": "Reparameterization", "moped_enable": False, "moped_delta": 0.5})
    net.to(device)
    return stepping(net, lambda x, y: cross_entropy(net(x), y) + get_kl_loss(net) / num_data)


def torchbnn(widths: Sequence[int], num_data: int, device: torch.device) -> Step:
    """Return the training step of torchbnn: its layers and its KL loss.

    Args:
        widths: Inputs, hidden widths, outputs.
        num_data: Number of training rows.
        device: Where to train.
    """
    import torchbnn as bnn

    net = _perceptron(widths, lambda i, o: bnn.BayesLinear(prior_mu=0, prior_sigma=0.1, in_features=i, out_features=o))
    divergence = bnn.BKLLoss(reduction="sum", last_layer_only=False)
    net.to(device)
    return stepping(net, lambda x, y: (cross_entropy(net(x), y) + divergence(net) / num_data).sum())


def blitz(widths: Sequence[int], num_data: int, device: torch.device) -> Step:
    """Return the training step of blitz: its layers and its sampled ELBO, with one draw.

    Args:
        widths: Inputs, hidden widths, outputs.
        num_data: Number of training rows.
        device: Where to train.
    """
    from blitz.modules import BayesianLinear
    from blitz.utils import variational_estimator

    @variational_estimator
    class Perceptron(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = _perceptron(widths, BayesianLinear)

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.layers(x)
            return output

    net = Perceptron().to(device)
    criterion = nn.CrossEntropyLoss()

    def loss(x: Tensor, y: Tensor) -> Tensor:
        value: Tensor = net.sample_elbo(
            inputs=x, labels=y, criterion=criterion, sample_nbr=1, complexity_cost_weight=1 / num_data
        )
        return value

    return stepping(net, loss)


PEERS = {"bayesian-torch": bayesian_torch, "torchbnn": torchbnn, "blitz": blitz}
"""The peers by name."""


def stepping(net: nn.Module, loss: Loss) -> Step:
    """Return a plain training step: loss, gradients, fused Adam.

    Args:
        net: What to train.
        loss: (x, y) -> loss.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=True)

    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        value = loss(x, y)
        value.backward()
        optimizer.step()
        return value

    return step


def _perceptron(widths: Sequence[int], linear: Callable[[int, int], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in zip(widths[:-1], widths[1:], strict=True):
        layers += [linear(fan_in, fan_out), nn.SiLU()]
    return nn.Sequential(*layers[:-1])
