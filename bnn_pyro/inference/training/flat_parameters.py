"""ParameterVector: one vector in place of many parameters, so that an optimiser has one tensor to move."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bnn_pyro.pruning.positions import Positions, select


class ParameterVector:
    """The values of parameters in one vector.

    The parameters become views of it: a step on ``vector`` moves them all. On small networks, where the number of
    operations is what takes time, that makes a step several times as fast.

    Args:
        named: Parameter name -> parameter, all of one dtype and on one device; one at least.
    """

    def __init__(self, named: Mapping[str, nn.Parameter]) -> None:
        self.named = dict(named)
        self.vector = nn.Parameter(self.joined({name: p.detach() for name, p in self.named.items()}))
        sizes = [parameter.numel() for parameter in self.named.values()]
        for parameter, value in zip(self.named.values(), self.vector.data.split(sizes), strict=True):
            parameter.data = value.view(parameter.shape)

    def joined(self, values: Mapping[str, Tensor]) -> Tensor:
        """Returns values of the parameters as one vector.

        Args:
            values: Parameter name -> value, of a shape that broadcasts with the parameter's.
        """
        return torch.cat([values[name].expand(p.shape).reshape(-1) for name, p in self.named.items()])

    def positions(self, dims: Positions) -> Tensor:
        """Returns which positions of the vector are left when parameters are cut.

        Args:
            dims: Parameter name -> dimension -> the positions that are left, in order; only where something goes.
        """
        numbers = torch.arange(self.vector.numel(), device=self.vector.device)
        parts = numbers.split([parameter.numel() for parameter in self.named.values()])
        left = [
            select(part.view(parameter.shape), dims.get(name, {})).flatten()
            for part, (name, parameter) in zip(parts, self.named.items(), strict=True)
        ]
        return torch.cat(left)
