"""The interfaces of guides: what any AutoGuide offers, and what guides that know about gates offer besides."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Literal, Protocol

from torch import Tensor, nn

GateMode = Literal["free", "open", "frozen"]
GateGradient = Literal["reinmax", "straight-through", "disarm"]


class Guide(Protocol):
    """What any guide offers, an AutoGuide of Pyro too: draws and medians of the latent sites, and its parameters."""

    def __call__(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Return a draw: latent site -> value."""

    def median(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Return the posterior median: latent site -> value."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """Return an iterator over the parameters, as of any module."""

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Return an iterator over (name, parameter), as of any module."""

    def named_buffers(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, Tensor]]:
        """Return an iterator over (name, buffer), as of any module."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters and buffers by name, as of any module."""

    def load_state_dict(self, state_dict: Mapping[str, object]) -> object:
        """Copy parameters and buffers from those of a guide made alike, as of any module."""


class GatedGuide(Guide, Protocol):
    """What a guide offers that draws gates, so that they can be held, frozen and left out.

    Attributes:
        gate_mode: What gates do: drawn and learning, held open, or frozen.
        temperature: Temperature of straight-through or of relaxed gates, shape ``()``.
    """

    gate_mode: GateMode
    temperature: Tensor

    @property
    def gate_gradient(self) -> GateGradient:
        """The estimator of the gates' gradient."""

    def inclusion(self) -> dict[str, Tensor]:
        """Return the inclusion probabilities: gate site -> shape ``(*batch, gates)``."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by role, for separate learning rates."""

    def named_site_parameters(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Yield (role, site, parameter) for each parameter."""

    def switched(self, free: Tensor, frozen: Tensor) -> AbstractContextManager[None]:
        """Read what gates do from tensors of shape ``()``, bool, instead of ``gate_mode``."""
