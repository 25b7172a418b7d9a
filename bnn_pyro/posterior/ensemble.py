"""Ensemble: the posterior that snapshots of a sampler hold, each network as small as it was when it was taken."""

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bnn_pyro.arguments import check_type
from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.network_draws import NetworkDraws, parts_like
from bnn_pyro.posterior.tempering import Temperature
from bnn_pyro.posterior.threads import HANDLERS
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.positions import put_back


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One draw of a network's weights, without the nodes that were removed before it was taken.

    Args:
        model: The smaller network, with the draw as its parameters.
        keep: Group -> which nodes of the whole network it has, bool, shape ``(size,)``.
        latent: The likelihood's own latent, of its own shape; None if it has none.
    """

    model: SparseNetwork
    keep: Mapping[str, Tensor]
    latent: Tensor | None = None


class Ensemble(Posterior):
    """The posterior that snapshots of a sampler hold, which removes nodes for good.

    Predictions are averaged over the snapshots. Its median model, which is pruned and shipped, is the last snapshot:
    the smallest network, and taken where the step size has fallen to 0.

    Args:
        model: The whole network; it is copied, and the copy gets the weights of the last snapshot, and zeros elsewhere.
        snapshots: The draws, in the order they were taken; one at least.
        history: One record per epoch.
        temperature: Temperature of the draws relative to the posterior's; ``"cooled"``; or ``"adapted"`` where a prior
            or a preconditioner followed the draws.

    Raises:
        ValueError: If there is no snapshot.
    """

    def __init__(
        self,
        model: SparseNetwork,
        snapshots: Sequence[Snapshot],
        *,
        history: Sequence[Mapping[str, object]] = (),
        temperature: Temperature = "cooled",
    ) -> None:
        check_type("model", model, SparseNetwork)
        if not all(isinstance(snapshot, Snapshot) for snapshot in snapshots):
            raise TypeError("snapshots must be a sequence of Snapshots")
        if not snapshots:
            raise ValueError("snapshots must hold at least one, got none")
        super().__init__(_with_weights(model, snapshots[-1]), history=history)
        self.snapshots, self.temperature = list(snapshots), temperature

    @property
    def num_draws(self) -> int:
        """How many snapshots there are."""
        return len(self.snapshots)

    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return the share of the snapshots that have each node: group -> shape ``(size,)``.

        Args:
            num_samples: How many of the snapshots, the last ones; None for all.

        Returns:
            Group -> shares; 0 or 1 unless nodes were removed between two snapshots.
        """
        drawn = self.gate_draws(num_samples=num_samples)
        return {name: is_open.to(self._like).mean(0) for name, is_open in drawn.items()}

    def keep(self) -> dict[str, Tensor]:
        """Return which nodes the last snapshot has.

        Returns:
            Group -> bool, shape ``(size,)``.
        """
        return {name: mask.clone() for name, mask in self.snapshots[-1].keep.items()}

    def gate_draws(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Return which nodes each of some snapshots has.

        Args:
            num_samples: How many of the snapshots, the last ones; None, or more than there are, for all.

        Returns:
            Group -> bool, shape ``(draws, size)``.
        """
        chosen = self.snapshots[-(num_samples or 0) :]
        return {name: torch.stack([snapshot.keep[name] for snapshot in chosen]) for name in self.model.groups}

    def network_draws(self, *, num_samples: int | None = None) -> list[NetworkDraws]:
        """Return the snapshots that `predict` averages over, as tensors to call a network with.

        Args:
            num_samples: How many of the snapshots, the last ones; None, or more than there are, for all.

        Returns:
            The snapshots in their order; a part holds neighbours that are of one size and read the same inputs.
        """
        chosen = self.snapshots[-self._wanted(num_samples) :]
        return [_stacked(list(alike)) for _, alike in itertools.groupby(chosen, _architecture)]

    @torch.no_grad()
    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        chosen = self.snapshots[-num_samples:]
        outputs = torch.stack([_output(snapshot, x, batch_size) for snapshot in chosen])
        latents = [snapshot.latent for snapshot in chosen if snapshot.latent is not None]
        return outputs, torch.stack(latents) if latents else None

    def _medians(self) -> dict[str, Tensor]:
        latent = self.snapshots[-1].latent
        values: dict[str, Tensor] = {p.name: self.model.net.get_parameter(p.name) for p in self.model.bayesian}
        with HANDLERS:
            site = latent_site(self.model.likelihood)
        return values if latent is None or site is None else {**values, site: latent}


@torch.no_grad()
def _output(snapshot: Snapshot, x: Tensor, batch_size: int) -> Tensor:
    parts = parts_like(next(snapshot.model.net.parameters()), x, batch_size)
    with HANDLERS, snapshot.model.evaluating():
        return torch.cat([snapshot.model.call_net({}, rows) for rows in parts])


def _tensors(snapshot: Snapshot) -> dict[str, Tensor]:
    """Return the parameters and buffers of a snapshot's network."""
    net = snapshot.model.net
    return {name: tensor.detach() for name, tensor in (*net.named_parameters(), *net.named_buffers())}


def _architecture(snapshot: Snapshot) -> tuple[object, ...]:
    """Return what snapshots must share to be stacked: the shapes of all tensors, and the inputs that are read."""
    selection = snapshot.model.selection
    shapes = tuple((name, tuple(tensor.shape)) for name, tensor in _tensors(snapshot).items())
    return (shapes, None if selection is None else tuple(selection.tolist()))


def _stacked(alike: Sequence[Snapshot]) -> NetworkDraws:
    """Return snapshots of one architecture as one set of draws."""
    each = [_tensors(snapshot) for snapshot in alike]
    latents = [snapshot.latent for snapshot in alike if snapshot.latent is not None]
    tensors = {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}
    return NetworkDraws(alike[0].model, tensors, torch.stack(latents) if latents else None)


@torch.no_grad()
def _with_weights(model: SparseNetwork, snapshot: Snapshot) -> SparseNetwork:
    """Return a copy of the whole network with a snapshot's weights, and zeros where nodes were removed."""
    whole = copy.deepcopy(model)
    positions = kept_positions(whole.net, whole.nodes.groups, snapshot.keep)
    small = dict(snapshot.model.net.named_parameters())
    for name, parameter in whole.net.named_parameters():
        put_back(parameter.data.zero_(), small[name].data, positions.get(name, {}))
    buffers = dict(snapshot.model.net.named_buffers())
    for name, buffer in whole.net.named_buffers():
        put_back(buffer, buffers[name], positions.get(name, {}))
    whole.net.eval()
    return whole
