r"""The yardstick: a perceptron with the SS-GHS prior by hand in plain PyTorch, without Pyro and without our packages.

The same algorithm as `fit` with the guide of the recipes, an `AutoSpikeSlab`: mean-field posterior, hard gates with the
straight-through gradient that multiply at the readers, LogNormal factors of the half-Cauchy scales, non-centred slabs
whose divergence is weighted by the inclusion probabilities at both ends, closed-form divergences, one draw of the
weights a batch, or local reparameterisation.

Source: Jantre, Bhattacharya, Maiti (2023), *A comprehensive study of spike and slab shrinkage priors for structurally
sparse Bayesian neural networks*.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

START = 0.95  # inclusion probability
SPREAD = 0.1  # posterior standard deviation at the start, of a slab as a fraction of its root mean square
START_SCALE = 0.5**0.5  # a node's scale at the start, where s = tau = c = 1


class HalfCauchy(nn.Module):
    r"""Scales :math:`x^2 = \alpha\beta` with a LogNormal posterior of each factor.

    Args:
        size: Number of scales.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(2, size))  # of alpha and beta
        self.rho = nn.Parameter(torch.full((2, size), math.log(SPREAD)))

    def draw(self) -> Tensor:
        """Return a draw of x, shape ``(size,)``: sqrt(alpha beta) is LogNormal too, so one normal a scale will do."""
        sd = self.rho.exp().square().sum(0).sqrt() / 2
        return torch.exp(self.loc.mean(0) + sd * torch.randn_like(sd))

    def kl(self) -> Tensor:
        """Return the divergence from Gamma(1/2, 1) and InverseGamma(1/2, 1)."""
        scale = self.rho.exp()
        half = 0.5 * scale.square()
        alpha = torch.exp(self.loc[0] + half[0]) - 0.5 * self.loc[0]
        beta = torch.exp(half[1] - self.loc[1]) + 0.5 * self.loc[1]
        return (alpha + beta - self.rho.sum(0) - 1 - math.log(2)).sum()


class SparseLinear(nn.Module):
    """A linear layer with a slab on every weight, a horseshoe scale a node and, in a hidden layer, a gate a node.

    Args:
        dense: The layer to start from.
        has_gates: Whether its nodes can be pruned.
        inclusion: Prior inclusion probability of a node.
        local: Whether it draws its outputs instead of its weights.
    """

    def __init__(self, dense: nn.Linear, *, has_gates: bool, inclusion: float, local: bool) -> None:
        super().__init__()
        self.local, self.prior_logit = local, math.log(inclusion / (1 - inclusion))
        self.weight_loc, self.weight_rho = _slab(dense.weight)
        self.bias_loc, self.bias_rho = _slab(dense.bias)
        self.tau = HalfCauchy(dense.out_features)
        logits = torch.full((dense.out_features,), math.log(START / (1 - START)))
        self.logits = nn.Parameter(logits) if has_gates else None

    def forward(self, x: Tensor, global_scale: Tensor) -> Tensor:
        """Return the layer's outputs; `gated` closes nodes where they are read."""
        scale = global_scale * self.tau.draw()
        scale = scale / torch.sqrt(1 + scale.square())
        sd = self.bias_rho.exp()
        bias = scale * (self.bias_loc + sd * torch.randn_like(sd))
        sd = self.weight_rho.exp()
        if self.local:
            mean, variance = functional.linear(x, self.weight_loc), functional.linear(x.square(), sd.square())
            return scale * (mean + (variance + 1e-16).sqrt() * torch.randn_like(mean)) + bias
        weight = scale.unsqueeze(-1) * (self.weight_loc + sd * torch.randn_like(sd))
        return functional.linear(x, weight, bias)

    def gated(self, h: Tensor, temperature: float) -> Tensor:
        """Return activations times a draw of the gates, hard forward and soft backward."""
        if self.logits is None:
            return h
        noisy = self.logits + torch.logit(torch.rand_like(self.logits), eps=1e-7)
        soft = torch.sigmoid(noisy / temperature)
        return h * ((noisy > 0).to(h.dtype) + soft - soft.detach())

    def kl(self, gamma_in: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the divergence, given the inclusion probabilities of the nodes read, and those of its own nodes."""
        weight, bias = _slab_kl(self.weight_loc, self.weight_rho), _slab_kl(self.bias_loc, self.bias_rho)
        weight = weight if gamma_in is None else weight * gamma_in
        rows = weight.sum(-1) + bias
        if self.logits is None:
            return rows.sum() + self.tau.kl(), None
        gamma = torch.sigmoid(self.logits)
        opened = gamma * (functional.logsigmoid(self.logits) - _log_sigmoid(self.prior_logit))
        closed = (1 - gamma) * (functional.logsigmoid(-self.logits) - _log_sigmoid(-self.prior_logit))
        return (gamma * rows + opened + closed).sum() + self.tau.kl(), gamma


class SparsePerceptron(nn.Module):
    """A perceptron of such layers, with SiLU between them.

    Args:
        net: The dense perceptron to start from.
        inclusion: Prior inclusion probability of each hidden layer's nodes.
        num_data: Number of training rows N.
        local: Whether layers draw their outputs instead of their weights.
        temperature: Temperature of the gates' gradient.
    """

    def __init__(
        self, net: nn.Module, *, inclusion: Sequence[float], num_data: int, local: bool, temperature: float = 0.5
    ) -> None:
        super().__init__()
        dense = [layer for layer in net.modules() if isinstance(layer, nn.Linear)]
        self.layers = nn.ModuleList(
            SparseLinear(layer, has_gates=layer is not dense[-1], inclusion=probability, local=local)
            for layer, probability in zip(dense, [*inclusion, 0.5], strict=True)
        )
        self.global_scale = HalfCauchy(1)
        self.num_data, self.temperature = num_data, temperature

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of one draw."""
        *hidden, output = self.layers
        global_scale = self.global_scale.draw()
        for layer in hidden:
            x = layer.gated(functional.silu(layer(x, global_scale)), self.temperature)
        logits: Tensor = output(x, global_scale)
        return logits

    def kl(self) -> Tensor:
        """Return the divergence of the whole posterior."""
        total, gamma = self.global_scale.kl(), None
        for layer in self.layers:
            divergence, gamma = layer.kl(gamma)
            total = total + divergence
        return total

    def loss(self, x: Tensor, y: Tensor, *, kl_weight: float = 1.0, draws: int = 1) -> Tensor:
        """Return the negative bound per datum."""
        nll = sum(functional.cross_entropy(self(x), y) for _ in range(draws)) / draws
        loss: Tensor = nll + kl_weight / self.num_data * self.kl()
        return loss


def _slab(start: Tensor) -> tuple[nn.Parameter, nn.Parameter]:
    loc = start.detach() / START_SCALE
    rho = torch.full_like(loc, math.log(SPREAD * float(loc.square().mean().sqrt())))
    return nn.Parameter(loc), nn.Parameter(rho)


def _slab_kl(loc: Tensor, rho: Tensor) -> Tensor:
    scale = rho.exp()
    return 0.5 * (scale.square() + loc.square() - 1) - rho


def _log_sigmoid(value: float) -> float:
    return -math.log1p(math.exp(-value))
