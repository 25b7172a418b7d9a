"""SpikeSlabSGHMC: adaptive mean-field inference held in weight space, as an optimiser that samples."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from bnn_pyro.arguments import check_reals, check_type, check_whole, check_wholes
from bnn_pyro.pruning.positions import select

Temperature = float | Literal["cooled"]
Number = float | Tensor

START_MOMENTUM = 0.001  # standard deviation of the momentum at the start


class SpikeSlabSGHMC(Optimizer):
    r"""Samples weights by preconditioned stochastic-gradient Hamiltonian Monte Carlo.

    One step on the mean loss of a batch with gradient :math:`g`, element-wise, where :math:`C^2` is the learning rate,
    :math:`d` the weight decay and :math:`\varepsilon` the noise of the previous step:

    .. math::
        \rho &\leftarrow \rho - \eta p\, [A \tau^{p-1} \varepsilon g + A^2 \tau^{2p-1} d - 1 / (N \tau)], \quad
            \tau = \mathrm{sigmoid}(\rho) \\
        m &\leftarrow \beta_1 m - C^2 \beta_2 (g + d w) + \sqrt{2 + 2 \beta_1^2}\, A \tau^{p-1} \varepsilon, \quad
            \varepsilon \sim N(0, 1) \\
        w &\leftarrow w + \tau m

    It is mean-field variational inference :math:`q(w) = N(\mu, \sigma^2)` with :math:`\sigma = A \tau^p`, of which
    neither :math:`\mu` nor :math:`\sigma` is stored: the draw :math:`w` is moved instead. The first line is the
    gradient of the negative bound in :math:`\tau`, taken in the dual coordinate :math:`\rho` (mirror descent under the
    binary entropy), so that the preconditioner stays in (0, 1).

    *The exponent.* At rest the first line has :math:`\tau^{2p} \propto 1 / (h + d)` for a curvature :math:`h` of the
    loss: :math:`\tau \propto (h + d)^{-\alpha}` with :math:`p = 1 / (2 \alpha)`. So ``alpha`` = 1/2 preconditions as
    Adam does (:math:`p = 1`, the method as its authors give it) and ``alpha`` = 1 as a second-order method does.

    *The temperature.* On a quadratic loss :math:`a w^2 / 2` with :math:`k = C^2 \beta_2 a \tau` the draws have the
    variance

    .. math::
        \frac{A^2 \tau^{2p-1} (1 + \beta_1^2)}{(1 - \beta_1) \beta_2 C^2 a} \cdot \frac{1}{1 - k / (2 (1 + \beta_1))}.

    ``"cooled"`` is the method's own :math:`A = T C^{3/2}` with a fixed :math:`T`. Its temperature falls with the step
    size and is far below 1: such draws vary less than the posterior. A number :math:`\theta` instead makes the first
    factor :math:`\theta / (N a)` at any step size and preconditioner, and 1 is the posterior's own. That needs
    :math:`A^2 \tau^{2p - 1} = \theta \beta_2 (1 - \beta_1) C^2 / ((1 + \beta_1^2) N)` for every :math:`\tau`, hence
    :math:`p = 1/2`, whatever ``alpha``. The second factor is the error of a finite step, at any temperature.

    Without groups (a plain ``weight_decay``) it is the adaptive sampler alone; ``weight_decays`` gives the entries of a
    parameter weight decays of their own, by which the spike and the slab of a group act.

    Source: Ke and Fan (2022), "On the optimization and pruning for Bayesian deep learning".

    Args:
        params: Parameters, or parameter groups as for any torch optimiser.
        lr: :math:`C^2`.
        num_data: Number of training rows N; losses are means over rows.
        betas: :math:`(\beta_1, \beta_2)`: how much momentum stays, and the weight of the gradient.
        eta: Step size :math:`\eta` of the preconditioner in its dual coordinate; 0 holds it at 1/2.
        temperature: ``"cooled"``, or the temperature relative to the posterior's, which is 1.
        noise_scale: T of the cooled sampler; None for :math:`N^{-1/2}`.
        alpha: 1/2 or 1, for the cooled sampler.
        weight_decay: d: the precision of the prior, divided by N.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.01,
        *,
        num_data: int,
        betas: tuple[float, float] = (0.1, 1.0),
        eta: float = 0.1,
        temperature: Temperature = "cooled",
        noise_scale: float | None = None,
        alpha: float = 0.5,
        weight_decay: float = 0.0,
    ) -> None:
        _check_options(lr, num_data, betas, eta, temperature, noise_scale, alpha, weight_decay)
        defaults = {
            "lr": lr,
            "num_data": num_data,
            "betas": betas,
            "eta": eta,
            "temperature": temperature,
            "noise_scale": num_data**-0.5 if noise_scale is None else noise_scale,
            "alpha": alpha,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Makes a step with the gradients that are there.

        Args:
            closure: Computes the loss and its gradients anew; optional.

        Returns:
            What the closure returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._move([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _move(self, parameters: Sequence[Tensor], group: Mapping[str, Any]) -> None:
        """Moves the parameters of a group by their gradients."""
        for parameter in parameters:
            self.started(parameter)
        lr, scale = group["lr"], amplitude(group)[0]
        for parameter in parameters:
            decay = self.state[parameter].get("weight_decay", group["weight_decay"])
            gradient, noise = cast(Tensor, parameter.grad), torch.randn_like(parameter)
            self.advance(parameter, group, gradient, decay=decay, noise=noise, lr=lr, scale=scale)

    def advance(
        self,
        parameter: Tensor,
        group: Mapping[str, Any],
        gradient: Tensor,
        *,
        decay: Number,
        noise: Tensor,
        lr: Number,
        scale: Number,
    ) -> None:
        r"""Make the step of one parameter, in operations on tensors that can be traced.

        What changes from step to step is an argument, so that it can enter a traced program as a tensor.

        Args:
            parameter: One of the optimiser's parameters, whose state was `started`; both are moved.
            group: Its parameter group, for what does not change.
            gradient: Gradient of the mean loss, of the parameter's shape.
            decay: Weight decay, of a shape that broadcasts.
            noise: Standard normal noise, of the parameter's shape.
            lr: :math:`C^2`.
            scale: :math:`A`, the first result of `amplitude`.
        """
        rho, momentum, state_noise = self.started(parameter)
        beta1, beta2 = group["betas"]
        exponent = amplitude(group)[1]
        if group["eta"]:
            tau = rho.sigmoid()
            slope = state_noise.mul_(scale).mul_(gradient)  # in place, as the noise has done its work then
            if exponent == 1:
                slope.add_((tau * scale**2).mul_(decay))
            else:
                slope.mul_(tau.rsqrt()).add_(scale**2 * decay)
            entropy = 1.0 if group["temperature"] == "cooled" else group["temperature"]
            slope.sub_(tau.reciprocal_().mul_(entropy / group["num_data"]))
            rho.sub_(slope.mul_(group["eta"] * exponent))
        tau = rho.sigmoid()
        state_noise.copy_(noise)
        kick = noise if exponent == 1 else noise * tau.rsqrt()
        force = (decay * parameter).add_(gradient)
        momentum.mul_(beta1).sub_(force.mul_(beta2 * lr)).add_(kick * (math.sqrt(2 + 2 * beta1**2) * scale))
        parameter.addcmul_(tau, momentum)

    def started(self, parameter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r"""Return a parameter's state :math:`(\rho, m, \varepsilon)`, made if it has none yet.

        Args:
            parameter: One of the optimiser's parameters.
        """
        state: dict[str, Tensor] = self.state[parameter]
        if "rho" not in state:
            like = parameter.detach()
            state["rho"] = torch.zeros_like(like)
            state["momentum"] = START_MOMENTUM * torch.randn_like(like)
            state["noise"] = torch.randn_like(like)
        return state["rho"], state["momentum"], state["noise"]

    def weight_decays(self, parameter: Tensor, decays: Tensor) -> None:
        """Gives the entries of a parameter weight decays of their own, in place of the group's one.

        Args:
            parameter: One of the optimiser's parameters.
            decays: Weight decays, of a shape that broadcasts with the parameter's.
        """
        self.state[parameter]["weight_decay"] = decays

    def replace(self, parameter: Tensor, smaller: Tensor, dims: Mapping[int, Tensor]) -> None:
        """Goes on with a smaller parameter in place of one, with the same part of its state.

        Args:
            parameter: One of the optimiser's parameters.
            smaller: What is left of it.
            dims: Dimension -> positions that are left, in order.
        """
        for group in self.param_groups:
            group["params"] = [smaller if p is parameter else p for p in group["params"]]
        state = self.state.pop(parameter, {})
        self.state[smaller] = {
            name: select(value, dims) if value.shape == parameter.shape else value for name, value in state.items()
        }

    @torch.no_grad()
    def preconditioner(self, parameter: Tensor) -> Tensor:
        r"""Returns :math:`\tau` of a parameter, of its shape; 1/2 before the first step.

        Args:
            parameter: One of the optimiser's parameters.
        """
        rho = self.state[parameter].get("rho")
        return torch.full_like(parameter, 0.5) if rho is None else torch.sigmoid(rho)


def amplitude(group: Mapping[str, Any]) -> tuple[float, float]:
    r"""Returns :math:`(A, p)` of the variational standard deviation :math:`\sigma = A \tau^p`.

    Args:
        group: A parameter group of a `SpikeSlabSGHMC`.
    """
    lr, temperature, (beta1, beta2) = group["lr"], group["temperature"], group["betas"]
    if temperature == "cooled":
        return group["noise_scale"] * lr**0.75, 1 / (2 * group["alpha"])
    variance = temperature * beta2 * (1 - beta1) * lr / ((1 + beta1**2) * group["num_data"])
    return math.sqrt(variance), 0.5


def effective_temperature(group: Mapping[str, Any], tau: float = 0.5) -> float:
    """Returns the temperature of the draws, relative to the posterior's, in the limit of small steps.

    Args:
        group: A parameter group of a `SpikeSlabSGHMC`, with its present learning rate.
        tau: The preconditioner.
    """
    lr, temperature, (beta1, beta2) = group["lr"], group["temperature"], group["betas"]
    if temperature != "cooled":
        return float(temperature)
    scale, exponent = amplitude(group)
    noise = (1 + beta1**2) / ((1 - beta1) * beta2) * scale**2 * tau ** (2 * exponent - 1)
    return float(group["num_data"] * noise / lr) if lr else 0.0


class CyclicalCosine(LRScheduler):
    r"""Lets the learning rate fall from its first value to 0 in each of several cycles.

    .. math:: C_t^2 = \tfrac12 C_0^2\, (1 + \cos(\pi (t \bmod K) / K)), \qquad K = \text{steps} / \text{cycles}

    Args:
        optimizer: The optimiser.
        steps: Number of steps of the run.
        cycles: Number of cycles.

    Raises:
        ValueError: If there is not at least one cycle, of at least one step.
    """

    def __init__(self, optimizer: Optimizer, *, steps: int, cycles: int = 1) -> None:
        check_type("optimizer", optimizer, Optimizer)
        check_wholes({"steps": steps, "cycles": cycles})
        if not 1 <= cycles <= steps:
            raise ValueError(f"cycles must be at least 1 and at most the {steps} steps, got {cycles}")
        self.length = steps / cycles
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Returns the learning rate of each parameter group."""
        return [cosine(self.last_epoch, self.length) * base for base in self.base_lrs]


def cosine(step: int, length: float) -> float:
    """Returns the learning rate of a step as a fraction of the first one of its cycle.

    Args:
        step: Number of the step, from 0.
        length: Steps a cycle.
    """
    return 0.5 * (1 + math.cos(math.pi * math.fmod(step, length) / length))


def _check_options(
    lr: float,
    num_data: int,
    betas: tuple[float, float],
    eta: float,
    temperature: Temperature,
    noise_scale: float | None,
    alpha: float,
    weight_decay: float,
) -> None:
    check_whole("num_data", num_data)
    numbers = {"lr": lr, "eta": eta, "weight_decay": weight_decay, "alpha": alpha}
    check_reals(numbers, optional={"noise_scale": noise_scale})
    if not isinstance(betas, Sequence) or len(betas) != 2:
        raise TypeError(f"betas must be two numbers, got {betas!r}")
    check_reals({"betas[0]": betas[0], "betas[1]": betas[1]})
    if not isinstance(temperature, str):
        check_reals({"temperature": temperature})
    scale = 0.0 if noise_scale is None else noise_scale
    for name, value in {"lr": lr, "eta": eta, "noise_scale": scale, "weight_decay": weight_decay}.items():
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    if not (0 <= betas[0] < 1 and 0 < betas[1] < math.inf):
        raise ValueError(f"betas must be a fraction below 1 of the momentum and a positive weight, got {betas}")
    if alpha not in (0.5, 1.0):
        raise ValueError(f"alpha must be 1/2 (as Adam) or 1 (as a second-order method), got {alpha}")
    if temperature != "cooled" and not (not isinstance(temperature, str) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be 'cooled' or a number that is not negative, got {temperature!r}")
    if temperature != "cooled" and noise_scale is not None:
        raise ValueError(f"noise_scale is of the 'cooled' temperature, got {noise_scale} with {temperature!r}")
