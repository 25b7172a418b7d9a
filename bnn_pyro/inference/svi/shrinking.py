"""Shrinking while training: leave out nodes that have settled closed, and keep the whole posterior up to date."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from bnn_pyro.devices import with_double
from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.pruning.positions import Positions, compose, put_back
from bnn_pyro.pruning.shrink import CLOSED_LOGIT, Shrunk
from guides import AutoProgram
from guides.protocols import Guide

WORTH_IT = 0.5  # rebuild when no more than this fraction of the weights is left: each rebuild makes a new program


def settled_open(inclusion: Mapping[str, Tensor], below: float) -> dict[str, Tensor]:
    """Returns which nodes to go on with: the most probable one of each group, and all that have not settled closed.

    Args:
        inclusion: Group -> inclusion probabilities, shape ``(size,)``.
        below: Nodes below this have settled closed.

    Returns:
        Group -> mask, bool, shape ``(size,)``.
    """
    keep = {}
    for name, gamma in inclusion.items():
        keep[name] = gamma >= below
        keep[name][gamma.argmax()] = True
    return keep


def weights_kept(model: SparseNetwork, keep: Mapping[str, Tensor]) -> float:
    """Returns the fraction of a network's Bayesian parameters that is left without some nodes.

    Args:
        model: The network.
        keep: Group -> mask, bool, shape ``(size,)``.
    """
    kept = total = 0.0
    for parameter in model.bayesian:
        size = torch.Size(parameter.shape).numel()
        masks: dict[int, Tensor] = {}  # of the positions along a dimension, which several groups may share
        for reading in (*parameter.readers, *parameter.writers):
            mask, dim = reading.axis.spread(keep[reading.group]), reading.axis.dim
            masks[dim] = masks[dim] & mask if dim in masks else mask
        fraction = math.prod(float(with_double(mask).double().mean()) for mask in masks.values())
        kept, total = kept + fraction * size, total + size
    return kept / total


class Whole:
    """The whole network's model and guide, while a shrunk one is trained.

    Args:
        model: The whole network.
        guide: Its guide.
    """

    def __init__(self, model: SparseNetwork, guide: Guide) -> None:
        self.model, self.guide = model, guide
        self.guide_positions: Positions = {}
        self.net_positions: Positions = {}

    def shrunk_by(self, shrunk: Shrunk) -> None:
        """Notes a shrinking: what was removed is closed for good.

        Args:
            shrunk: The smaller model and guide, and what of the model and guide so far they kept.
        """
        self.guide_positions = compose(self.guide_positions, shrunk.guide_positions)
        self.net_positions = compose(self.net_positions, shrunk.net_positions)
        parameters = dict(self.guide.named_parameters())
        with torch.no_grad():
            for group in self.model.groups:
                name = f"logits.{gate_site(group)}_unconstrained"
                if name in self.guide_positions:
                    closed = torch.ones_like(parameters[name], dtype=torch.bool)
                    closed[self.guide_positions[name][0]] = False
                    parameters[name][closed] = CLOSED_LOGIT

    def kept(self) -> dict[str, Tensor]:
        """Returns which nodes are still trained: group -> mask, bool, shape ``(size,)``; whole groups have none."""
        masks = {}
        for name, group in self.model.groups.items():
            positions = self.guide_positions.get(f"logits.{gate_site(name)}_unconstrained")
            if positions is not None:
                masks[name] = torch.zeros(group.size, dtype=torch.bool, device="cpu")
                masks[name][positions[0].cpu()] = True
        return masks

    def update(self, model: SparseNetwork, guide: Guide) -> None:
        """Writes the trained values back to where they stood.

        Args:
            model: The model that is trained: the whole one or a shrunk one.
            guide: Its guide.
        """
        if guide is not self.guide:
            _write_back(self.guide, guide, self.guide_positions)
            _write_back(self.model.net, model.net, self.net_positions)
            if isinstance(self.guide, AutoProgram) and isinstance(guide, AutoProgram):
                self.guide.gate_mode = guide.gate_mode


def _write_back(whole: torch.nn.Module | Guide, part: torch.nn.Module | Guide, positions: Positions) -> None:
    smaller = {**dict(part.named_parameters()), **dict(part.named_buffers())}
    for name, tensor in [*whole.named_parameters(), *whole.named_buffers()]:
        put_back(tensor.data, smaller[name].data, positions.get(name, {}))
