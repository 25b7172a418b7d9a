"""OriginalUnits: a network with its scaling, raw numbers in and original units out."""

import torch
from torch import Tensor, nn

from bnn_pyro.estimators.scaling import Scaling


class OriginalUnits(nn.Module):
    """A network of standardised inputs as one plain module that takes them in their own units.

    The scaling is in float64, as numbers far from 0 would lose digits otherwise: a mean comes in float64 too. After
    ``module.float()`` all of it is in float32.

    Args:
        network: The network, from ``(rows, features)`` to ``(rows, outputs)``.
        scaling: The scaling of its inputs and of the targets that it learnt.
        is_regression: Whether its first output is the mean of a real target; if not, its outputs are logits.
    """

    x_mean: Tensor
    x_std: Tensor
    y_mean: Tensor
    y_std: Tensor

    def __init__(self, network: nn.Module, scaling: Scaling, *, is_regression: bool) -> None:
        super().__init__()
        self.network = network
        self.is_regression = is_regression
        device = next(network.parameters()).device
        for name in ("x_mean", "x_std", "y_mean", "y_std"):
            value = torch.as_tensor(getattr(scaling, name), dtype=torch.float64, device=device)
            self.register_buffer(name, value.clone())
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Return the predicted mean in original units, shape ``(rows,)``, or logits, shape ``(rows, classes)``.

        Args:
            x: Inputs in their own units, shape ``(rows, features)``, of any floating-point type.
        """
        scaled = (x - self.x_mean) / self.x_std
        output: Tensor = self.network(scaled.to(next(self.network.parameters()).dtype))
        return output[:, 0].to(scaled.dtype) * self.y_std + self.y_mean if self.is_regression else output
