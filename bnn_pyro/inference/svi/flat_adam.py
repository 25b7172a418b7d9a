"""Adam on parameters that lie side by side in one vector per role."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bnn_pyro.inference.svi.roles import Role
from bnn_pyro.inference.training.flat_parameters import ParameterVector

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # those of torch.optim.Adam
LARGE = 10_000  # entries; so large a parameter stays alone, as laying its gradient beside others costs a pass over it


@dataclass
class FlatAdam:
    """Adam's state of the parameters of one role.

    Attributes:
        role: What the parameters are.
        rate: Their learning rate.
        parameters: The parameters, as one vector.
        mean: Adam's moving mean of the gradient, shape ``(n,)``.
        square: Adam's moving mean of its square, shape ``(n,)``.
        steps: Updates so far.
    """

    role: str
    rate: float
    parameters: ParameterVector
    mean: Tensor
    square: Tensor
    steps: int = 0

    @staticmethod
    def of(role: Role) -> "FlatAdam":
        """Return the state before the first step; the parameters, of one dtype and device, are laid side by side."""
        vector = ParameterVector(role.named)
        zeros = torch.zeros_like(vector.values)
        return FlatAdam(role.name, role.rate, vector, zeros, zeros.clone())

    def state(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Return Adam's (mean, square) of each parameter by its name, views of its shape."""
        means, squares = self.parameters.views(self.mean), self.parameters.views(self.square)
        return {name: (means[name], squares[name]) for name in means}

    def settings(self, factor: float, *, is_held: bool) -> tuple[float, float, float]:
        """Return what the kernel needs for the next step: learning rate, steps so far, and 1 if nothing is to happen.

        Args:
            factor: Factor on the learning rate.
            is_held: Whether the parameters are to stay as they are.
        """
        return self.rate * factor, float(self.steps), float(is_held)

    def corrections(self, factor: float, *, is_held: bool) -> tuple[float, float]:
        r"""Return what a compiled step needs: :math:`\eta/(1-\beta_1^t)` and :math:`1/\sqrt{1-\beta_2^t}`.

        They are made here, as a compiler would put them into the loop over the parameters.

        Args:
            factor: Factor on the learning rate.
            is_held: Whether the parameters are to stay as they are.
        """
        if is_held:
            return 0.0, 1.0
        step = self.steps + 1
        return self.rate * factor / (1 - BETA1**step), (1 - BETA2**step) ** -0.5


def flatten(roles: Sequence[Role]) -> list[FlatAdam]:
    """Lay the small parameters of each role side by side, those of one dtype and device together.

    Args:
        roles: The parameters.

    Returns:
        Adam's state of each vector.
    """
    flats = []
    for role in roles:
        kinds: dict[tuple[torch.dtype, torch.device, int | None], dict[str, nn.Parameter]] = {}
        for name, parameter in role.named.items():
            alone = id(parameter) if parameter.numel() >= LARGE else None
            kinds.setdefault((parameter.dtype, parameter.device, alone), {})[name] = parameter
        flats += [FlatAdam.of(Role(role.name, role.rate, named)) for named in kinds.values()]
    return flats


def adam_in_kernel(
    values: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, settings: Tensor, corrections: Tensor, row: int
) -> Tensor:
    """Make a step of Adam in torch's fused kernel.

    Args:
        values: The parameters, shape ``(n,)``, updated in place.
        mean: Adam's moving mean, likewise.
        square: Adam's moving mean of squares, likewise.
        gradient: Shape ``(n,)``.
        settings: The :meth:`FlatAdam.settings` of each vector, shape ``(vectors, 3)``, in double precision on the CPU.
        corrections: Not used.
        row: Which of the vectors it is.

    Returns:
        ``values``.
    """
    rate, steps, is_held = settings[row].tolist()
    if not is_held:
        torch._fused_adam_(
            [values],
            [gradient],
            [mean],
            [square],
            [],
            [torch.full((), steps + 1, device=values.device)],  # filled in: copied there, the host would wait
            lr=rate,
            beta1=BETA1,
            beta2=BETA2,
            weight_decay=0.0,
            eps=EPSILON,
            amsgrad=False,
            maximize=False,
        )
    return values


# The step is an operation of its own, so that a traced program has it as one node: a program that is run as it stands
# takes torch's kernel, a compiler gets `adam_in_operations` in its place. It returns what it moves, as TorchScript
# leaves out what returns nothing.
torch.library.define(
    "bnn_pyro::adam_",
    "(Tensor(a!) values, Tensor(b!) mean, Tensor(c!) square, Tensor gradient, Tensor settings, Tensor corrections, "
    "int row) -> Tensor(a!)",
)
torch.library.impl("bnn_pyro::adam_", "CompositeExplicitAutograd", adam_in_kernel)
ADAM = torch.ops.bnn_pyro.adam_.default


def adam_in_operations(
    values: Tensor, mean: Tensor, square: Tensor, gradient: Tensor, settings: Tensor, corrections: Tensor, row: int
) -> Tensor:
    r"""Make the same step in separate operations, for a compiler to fuse with what gives the gradient.

    .. math::
        m \leftarrow \beta_1 m + (1-\beta_1) g, \quad v \leftarrow \beta_2 v + (1-\beta_2) g^2, \quad
        \theta \leftarrow \theta - \eta \frac{m/(1-\beta_1^t)}{\sqrt{v/(1-\beta_2^t)} + \epsilon}

    Args:
        values: The parameters, shape ``(n,)``, updated in place.
        mean: Adam's moving mean, likewise.
        square: Adam's moving mean of squares, likewise.
        gradient: Shape ``(n,)``.
        settings: Not used.
        corrections: The :meth:`FlatAdam.corrections` of each vector, one after the other.
        row: Which of the vectors it is.

    Returns:
        ``values``.

    Source: Kingma, Ba (2015), *Adam: A method for stochastic optimization*.
    """
    rate, root = corrections[2 * row], corrections[2 * row + 1]
    mean.lerp_(gradient, 1 - BETA1)
    square.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
    values.sub_(rate * mean / (square.sqrt() * root + EPSILON))
    return values
