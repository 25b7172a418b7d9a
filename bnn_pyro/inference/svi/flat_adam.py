"""Parameters side by side in one vector a role, and Adam on these vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # those of torch.optim.Adam
LARGE = 10_000  # entries; so large a parameter stays alone, as laying its gradient beside others costs a pass over it


@dataclass
class Flat:
    r"""Parameters of one role, and Adam's state of them.

    The parameters become views of ``values``, so that an optimiser has one long vector to update instead of many short
    ones.

    Attributes:
        role: What the parameters are.
        rate: Their learning rate.
        parameters: The parameters.
        values: All of their entries, shape ``(n,)``.
        mean: Adam's moving mean of the gradient, shape ``(n,)``.
        square: Adam's moving mean of its square, shape ``(n,)``.
        steps: Updates so far.
    """

    role: str
    rate: float
    parameters: list[torch.nn.Parameter]
    values: Tensor
    mean: Tensor
    square: Tensor
    steps: int = 0

    @staticmethod
    def of(role: str, rate: float, parameters: Sequence[torch.nn.Parameter]) -> "Flat":
        """Lays parameters of one dtype and device side by side."""
        values = torch.cat([p.detach().flatten() for p in parameters])
        for parameter, view in zip(parameters, _views(values, parameters), strict=True):
            parameter.data = view
        return Flat(role, rate, list(parameters), values, torch.zeros_like(values), torch.zeros_like(values))

    def release(self) -> None:
        """Gives each parameter memory of its own again."""
        for parameter in self.parameters:
            parameter.data = parameter.data.clone()

    def state(self) -> Mapping[torch.nn.Parameter, tuple[Tensor, Tensor]]:
        """Returns Adam's (mean, square) of each parameter, in its shape."""
        means, squares = _views(self.mean, self.parameters), _views(self.square, self.parameters)
        return dict(zip(self.parameters, zip(means, squares, strict=True), strict=True))

    def gradient(self, gradients: Sequence[Tensor | None]) -> Tensor | None:
        """Lays the parameters' gradients side by side; None where none of them has one."""
        if all(gradient is None for gradient in gradients):
            return None
        if len(gradients) == 1 and gradients[0] is not None:
            return gradients[0].flatten()
        pairs = zip(self.parameters, gradients, strict=True)
        return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])


def _views(values: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    parts = values.split([p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


def flatten(groups: Sequence[Mapping[str, Any]]) -> list[Flat]:
    """Lays the small parameters of each group side by side, those of one dtype and device together.

    Args:
        groups: With ``role``, ``lr`` and ``params``.

    Returns:
        The vectors.
    """
    flats: list[Flat] = []
    for group in groups:
        kinds: dict[Any, list[torch.nn.Parameter]] = {}
        for parameter in group["params"]:
            alone = id(parameter) if parameter.numel() >= LARGE else None
            kinds.setdefault((parameter.dtype, parameter.device, alone), []).append(parameter)
        flats.extend(Flat.of(group["role"], group["lr"], parameters) for parameters in kinds.values())
    return flats


def update(flat: Flat, gradient: Tensor, rate: float) -> None:
    """Makes a step of Adam in torch's fused kernel.

    Args:
        flat: The parameters and their state, updated in place.
        gradient: Shape ``(n,)``.
        rate: Factor on the learning rate.
    """
    adam(
        [flat.values],
        [gradient],
        [flat.mean],
        [flat.square],
        [],
        [torch.tensor(float(flat.steps), device=flat.values.device)],
        fused=True,
        amsgrad=False,
        beta1=BETA1,
        beta2=BETA2,
        lr=flat.rate * rate,
        weight_decay=0.0,
        eps=EPSILON,
        maximize=False,
    )
    flat.steps += 1


def corrections(flat: Flat, rate: float) -> tuple[float, float]:
    r"""Returns the numbers that the next step depends on: :math:`\eta/(1-\beta_1^t)` and :math:`1/\sqrt{1-\beta_2^t}`.

    They are made here, as a compiler would put them into the loop over the parameters.

    Args:
        flat: The parameters and their state.
        rate: Factor on the learning rate.
    """
    step = flat.steps + 1
    return flat.rate * rate / (1 - BETA1**step), (1 - BETA2**step) ** -0.5


def update_in_graph(state: Sequence[Tensor], gradient: Tensor, rate: Tensor, root: Tensor) -> None:
    r"""Makes the same step in separate operations, for a compiler to fuse with what gives the gradient.

    .. math::
        m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
        \theta \leftarrow \theta - \eta \frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon}

    Args:
        state: (values, mean, square) of a :class:`Flat`, updated in place.
        gradient: Shape ``(n,)``.
        rate: The first of the :func:`corrections`, a scalar tensor.
        root: The second.

    Source: Kingma, Ba (2015), *Adam: A method for stochastic optimization*.
    """
    values, mean, square = state
    mean.lerp_(gradient, 1 - BETA1)
    square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    values.sub_(rate * mean / (square.sqrt() * root + EPSILON))
