"""ParameterVector: parameters as views of one vector, so that an optimiser has one tensor to move."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from bnn_pyro.pruning.positions import Positions, select


class ParameterVector:
    """Parameters as views of one vector.

    A step on ``values`` moves them all. On small networks, where the number of operations is what takes time, that
    makes a step several times as fast.

    Args:
        named: Parameter name -> parameter, all of one dtype and on one device; at least one.

    Attributes:
        named: The parameters by name.
        values: All of their entries, shape ``(n,)``.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self.named = dict(named)
        self.values = self.joined({name: parameter.detach() for name, parameter in self.named.items()})
        for parameter, view in zip(self.named.values(), self.views(self.values).values(), strict=True):
            parameter.data = view

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters in the order in which they lie in the vector."""
        return list(self.named.values())

    def views(self, vector: Tensor) -> dict[str, Tensor]:
        """Return the part of a vector that belongs to each parameter, as a view of the parameter's shape.

        Args:
            vector: Shape ``(n,)``.
        """
        parts = vector.split([parameter.numel() for parameter in self.named.values()])
        return {name: part.view(p.shape) for part, (name, p) in zip(parts, self.named.items(), strict=True)}

    def joined(self, values: Mapping[str, Tensor]) -> Tensor:
        """Return values of the parameters as one new vector, shape ``(n,)``.

        Args:
            values: Parameter name -> value, of a shape that broadcasts with the parameter's.
        """
        return torch.cat([values[name].expand(p.shape).reshape(-1) for name, p in self.named.items()])

    def gradient(self, gradients: Sequence[Tensor | None]) -> Tensor | None:
        """Return the parameters' gradients as one vector, shape ``(n,)``; None where none of them has one.

        Args:
            gradients: The gradient of each parameter, in order; None counts as zeros.
        """
        if all(gradient is None for gradient in gradients):
            return None
        if len(gradients) == 1 and gradients[0] is not None:
            return gradients[0].flatten()
        pairs = zip(self.named.values(), gradients, strict=True)
        return torch.cat([torch.zeros_like(p).flatten() if g is None else g.flatten() for p, g in pairs])

    def positions(self, dims: Positions) -> Tensor:
        """Return which positions of the vector are left when parameters are cut.

        Args:
            dims: Parameter name -> dimension -> the positions that are left, in order; only where something goes.
        """
        numbers = self.views(torch.arange(self.values.numel(), device=self.values.device))
        return torch.cat([select(part, dims.get(name, {})).flatten() for name, part in numbers.items()])

    def release(self) -> None:
        """Give each parameter memory of its own again."""
        for parameter in self.named.values():
            parameter.data = parameter.data.clone()


def gradients_of(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the gradient of each parameter; None where the loss does not depend on it, or it is held fixed.

    Args:
        loss: A scalar.
        parameters: Leaves of the loss.
    """
    moving = [p for p in parameters if p.requires_grad] if loss.requires_grad else []
    found = torch.autograd.grad(loss, moving, allow_unused=True) if moving else ()
    by_id = {id(p): gradient for p, gradient in zip(moving, found, strict=True)}
    return [by_id.get(id(p)) for p in parameters]
