"""Gates: one relaxed-Bernoulli variable a node, which puts the whole node to sleep."""

import math
from collections.abc import Sequence

import pyro
import torch
from pyro.distributions import RelaxedBernoulli
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Size, Tensor
from torch.distributions import Distribution
from torch.nn.functional import logsigmoid, softplus

from bnn_pyro.priors.checks import check_positive, check_real, check_size
from bnn_pyro.priors.numbers import as_tensor


class AtomicRelaxedBernoulli(RelaxedBernoulli):  # type: ignore[misc]
    r"""A relaxed Bernoulli that counts an exact 0 or 1 as an atom.

    Inside (0, 1) the density is the relaxed one, with :math:`x = \mathrm{logit}(z)` and logits :math:`\ell`

    .. math:: \log p(z) = \log T + \ell - Tx - 2\,\mathrm{softplus}(\ell - Tx) - \log z(1-z);

    at exactly 0 and 1 it is the Bernoulli mass :math:`\log\sigma(\mp\ell)`. HMC and relaxed gates never hit the atoms;
    hard gates always do, so that the same model is the relaxed one for the former and the true spike-and-slab model for
    the latter.

    Args:
        temperature: Positive temperature, a scalar tensor.
        probs: Probability of an open gate.
        logits: Its log-odds; give one of the two.
        validate_args: As in every distribution.

    Source: Maddison, Mnih, Teh (2017), *The Concrete Distribution*.
    """

    def expand(self, batch_shape: Sequence[int], _instance: Distribution | None = None) -> "AtomicRelaxedBernoulli":
        new = self._get_checked_instance(AtomicRelaxedBernoulli, _instance)
        expanded: AtomicRelaxedBernoulli = super().expand(Size(batch_shape), _instance=new)
        return expanded

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        inside = (value > 0) & (value < 1)
        safe = torch.where(inside, value, torch.full_like(value, 0.5))
        log_value, log_rest = safe.log(), torch.log1p(-safe)
        difference = self.logits - self.temperature * (log_value - log_rest)
        relaxed = self.temperature.log() + difference - 2 * softplus(difference) - log_value - log_rest
        atom = value * logsigmoid(self.logits) + (1 - value) * logsigmoid(-self.logits)
        return torch.where(inside, relaxed, atom)


def gate(
    name: str,
    inclusion: float | Tensor,
    *,
    size: int | None = None,
    temperature: float | Tensor = 0.5,
    like: Tensor | None = None,
) -> Tensor:
    r"""Samples gates :math:`z \sim \mathrm{RelaxedBernoulli}(T, \lambda)`, an exact 0 or 1 counting as an atom.

    Args:
        name: Name of the site.
        inclusion: Prior inclusion probability :math:`\lambda` in (0, 1): a number, or a tensor of shape ``()``,
            ``(*batch, size)`` or ``(*batch, 1)``; its dtype and device are the gates'.
        size: Number of gates; None for one gate for each entry of ``inclusion``.
        temperature: Temperature T > 0 of the relaxation.
        like: A tensor, such as the inputs, whose dtype and device numbers take; torch's defaults if None.

    Returns:
        The gates, shape ``(*batch, size)``, or that of ``inclusion``.

    Raises:
        ValueError: If ``inclusion`` is a number outside (0, 1) or a tensor that does not fit ``size``, ``size`` is
            below 1 or ``temperature`` is a number that is not positive.

    Source: Jantre, Bhattacharya, Maiti (2021), *Layer adaptive node selection in Bayesian neural networks*.
    """
    if not isinstance(inclusion, Tensor):
        check_inclusion(inclusion)
    elif not inclusion.is_floating_point():
        raise ValueError(f"inclusion must be a floating-point tensor, got {inclusion.dtype}")
    check_positive("temperature", temperature)
    if size is not None:
        check_size("size", size)
    probability = as_tensor(inclusion, like)
    temperature = as_tensor(temperature, probability).to(probability)
    gates = AtomicRelaxedBernoulli(temperature, logits=torch.logit(probability))
    if size is None:
        return _sampled(name, gates)
    if probability.dim() and probability.shape[-1] not in (1, size):
        raise ValueError(f"inclusion must have one entry a gate ({size}), got shape {tuple(probability.shape)}")
    return _sampled(name, gates.expand((*probability.shape[:-1], size)).to_event(1))


def check_inclusion(value: float, *, name: str = "inclusion") -> None:
    """Checks an inclusion probability: in (0, 1), and not so near an end that float32 rounds it there.

    Args:
        value: The probability.
        name: What it is called, for the message.

    Raises:
        ValueError: If it is out of range.
    """
    check_real(name, value)
    if not 0 < float(torch.tensor(value, dtype=torch.float32, device="cpu")) < 1:
        raise ValueError(f"{name} must lie in (0, 1), got {value}; float32 must tell it from 0 and 1")


def _sampled(name: str, distribution: TorchDistributionMixin) -> Tensor:
    value: Tensor = pyro.sample(name, distribution)
    return value


def inclusion_probability(widths: Sequence[int], num_data: int, *, constant: float = 1e-9) -> tuple[float, ...]:
    r"""Returns the theory's prior inclusion probability of each hidden layer.

    For widths :math:`k_0, \dots, k_{L+1}`, n data rows and constant C,

    .. math::
        -\log\lambda_l &= \log k_{l+1} + C (k_l + 1)\vartheta_l, \\
        \vartheta_l &= (k_l+1)^2 + \sum_{m \ne l} \log(k_m+1) + L + \log k_{l+1} + \log(k_l+1) + \log n + \log U, \\
        U &= \sum_{l=0}^{L} (L+1)^2 [\log n + \log(L+1) + \log(k_l+1) + \log k_{l+1}].

    Args:
        widths: Inputs, hidden widths, outputs: :math:`k_0, \dots, k_{L+1}`, at least three.
        num_data: Number of training rows n.
        constant: C, a small positive constant.

    Returns:
        :math:`\lambda_0, \dots, \lambda_{L-1}`, one a hidden layer.

    Raises:
        ValueError: If there are fewer than three widths, a width or ``num_data`` is below 1, ``constant`` is negative
            or so large that a probability is 0 in single precision.

    Source: Jantre, Bhattacharya, Maiti (2021), *Layer adaptive node selection in Bayesian neural networks*.
    """
    if len(widths) < 3 or not all(width >= 1 for width in widths):
        raise ValueError(f"widths must be at least three positive numbers (in, hidden, out), got {tuple(widths)}")
    if not 1 <= num_data < math.inf:
        raise ValueError(f"num_data must be at least 1, got {num_data}")
    if not 0 <= constant < math.inf:
        raise ValueError(f"constant must be finite and not negative, got {constant}")
    depth = len(widths) - 2
    incoming = [math.log(k + 1) for k in widths[:-1]]
    outgoing = [math.log(k) for k in widths[1:]]
    common = math.log(num_data) + math.log(depth + 1)
    total = (depth + 1) ** 2 * (sum(incoming) + sum(outgoing) + (depth + 1) * common)

    def inclusion(layer: int) -> float:
        size = widths[layer] + 1
        complexity = size**2 + sum(incoming) + depth + outgoing[layer] + math.log(num_data) + math.log(total)
        return math.exp(-outgoing[layer] - constant * size * complexity)

    found = tuple(inclusion(layer) for layer in range(depth))
    if min(found) < torch.finfo(torch.float32).tiny:
        raise ValueError(
            f"constant must be smaller for these widths: {constant} gives the inclusion probabilities {found}; "
            "a network is given one of your own by SpikeSlab(inclusion=...)"
        )
    return found
