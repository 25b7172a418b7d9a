"""The closed forms K1-K7 as the specification has them, for tests to compare with: no code in common with the guides.

H is the entropy of a standard normal, ``log(2 pi e) / 2``; a Gamma has a shape and a rate, an inverse Gamma a shape and
a scale.
"""

import math

import torch
from torch import Tensor

H = 0.5 * math.log(2 * math.pi * math.e)


def k1(gamma: Tensor, inclusion: Tensor) -> Tensor:
    """KL(Bern(gamma) | Bern(inclusion))."""
    closed = (1 - gamma) * ((1 - gamma) / (1 - inclusion)).log()
    return gamma * (gamma / inclusion).log() + closed


def k2(mu: Tensor, sigma: Tensor, prior_sigma: Tensor) -> Tensor:
    """KL(N(mu, sigma^2) | N(0, prior_sigma^2))."""
    return (prior_sigma / sigma).log() - 0.5 + (sigma**2 + mu**2) / (2 * prior_sigma**2)


def k3(mu: Tensor, sigma: Tensor, k: Tensor) -> Tensor:
    """KL(LogN(mu, sigma^2) | Gamma(1/2, scale k^2))."""
    return k.log() + (mu + sigma**2 / 2).exp() / k**2 - 0.5 * (mu + 2 * sigma.log() + 1 + math.log(2))


def k4(mu: Tensor, sigma: Tensor) -> Tensor:
    """KL(LogN(mu, sigma^2) | InvGamma(1/2, 1))."""
    return (sigma**2 / 2 - mu).exp() - 0.5 * (2 * sigma.log() - mu + 1 + math.log(2))


def k5(mu_tau: Tensor, sigma_tau: Tensor, mu_rate: Tensor, sigma_rate: Tensor, size: int) -> Tensor:
    """The mean of KL(LogN(mu_tau, sigma_tau^2) | Gamma((size + 1) / 2, rate / 2)) over the rate's LogN posterior."""
    a = torch.as_tensor((size + 1) / 2, dtype=mu_tau.dtype)
    mean = 0.5 * (mu_rate + sigma_rate**2 / 2 + mu_tau + sigma_tau**2 / 2).exp()
    return a * (math.log(2) - mu_rate - mu_tau) + torch.lgamma(a) + mean - sigma_tau.log() - H


def k6(mu: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """KL(LogN(mu, sigma^2) | Gamma(a, b))."""
    return -a * b.log() + torch.lgamma(a) - a * mu + b * (mu + sigma**2 / 2).exp() - sigma.log() - H


def k7(mu: Tensor, sigma: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """KL(LogN(mu, sigma^2) | InvGamma(a, b))."""
    return -a * b.log() + torch.lgamma(a) + a * mu + b * (sigma**2 / 2 - mu).exp() - sigma.log() - H
