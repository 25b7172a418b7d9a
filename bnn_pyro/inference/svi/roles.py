"""The trained parameters of a network and its guide by their roles, each role with its learning rate."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning.positions import Positions
from bnn_pyro.pruning.shrink import Shrunk
from guides import AutoProgram


@dataclass(frozen=True)
class Role:
    """The parameters of one role.

    Args:
        name: The role, one of the fields of `LearningRates`.
        rate: Their learning rate.
        named: Parameter name -> parameter.
    """

    name: str
    rate: float
    named: dict[str, nn.Parameter]


def roles(model: SparseNetwork, guide: nn.Module, rates: LearningRates) -> list[Role]:
    """Return the parameters that are trained, by role; names say whether they are the guide's or the model's.

    Args:
        model: The network; its parameters that require grad are points.
        guide: Its guide; parameters of one that is not ours are points, too.
        rates: Learning rates.

    Raises:
        ValueError: If there is no parameter.
    """
    names = {id(p): f"guide.{name}" for name, p in guide.named_parameters()}
    names |= {id(p): f"model.{name}" for name, p in model.named_parameters()}
    points = [p for p in model.parameters() if p.requires_grad]
    groups: dict[str, Iterable[nn.Parameter]]
    if isinstance(guide, AutoProgram):
        groups = {**guide.parameter_groups(), "points": points}
    else:
        groups = {"points": [*points, *guide.parameters()]}
    named = {role: {names[id(p)]: p for p in parameters} for role, parameters in groups.items()}
    found = [Role(role, getattr(rates, role), parameters) for role, parameters in named.items() if parameters]
    if not found:
        raise ValueError("guide must have parameters to train, got none")
    return found


def positions_left(shrunk: Shrunk) -> Positions:
    """Return which positions of each parameter are left in a shrunk model and guide, by the names of `roles`.

    Args:
        shrunk: The smaller model and guide.
    """
    of_guide = {f"guide.{name}": dims for name, dims in shrunk.guide_positions.items()}
    return {**of_guide, **{f"model.net.{name}": dims for name, dims in shrunk.net_positions.items()}}
