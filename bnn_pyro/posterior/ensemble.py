"""Ensemble: snapshots of a sampler as a posterior, each network as small as it was when it was taken."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor

from bnn_pyro.likelihoods import NOISE_SITE, Classes, Normals
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.guide import Posterior
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.positions import put_back


@dataclass(frozen=True, eq=False)
class Snapshot:
    """One draw of a network's weights, without the nodes that were removed before it was taken.

    Args:
        model: The smaller network, with the draw as its parameters.
        keep: Group -> which nodes of the whole network it has, bool, shape ``(size,)``.
        latent: The likelihood's own latent, shape ``()``; None if it has none.
    """

    model: SparseNetwork
    keep: Mapping[str, Tensor]
    latent: Tensor | None = None


class Ensemble(Posterior):
    """Snapshots of a sampler that removes nodes for good, with the face of a posterior.

    Predictions are averaged over the snapshots. Its median model, which is pruned and shipped, is the last snapshot:
    the smallest network, and taken where the step size has fallen to 0.

    Args:
        model: The whole network; it is copied, and the copy gets the weights of the last snapshot, and zeros elsewhere.
        snapshots: The draws, in the order they were taken; one at least.
        history: One record an epoch.
        temperature: Temperature of the draws relative to the posterior's, or ``"cooled"``.

    Raises:
        ValueError: If there is no snapshot.
    """

    def __init__(
        self,
        model: SparseNetwork,
        snapshots: Sequence[Snapshot],
        *,
        history: Sequence[Mapping[str, Any]] = (),
        temperature: float | Literal["cooled"] = "cooled",
    ) -> None:
        if not snapshots:
            raise ValueError("snapshots must hold at least one, got none")
        super().__init__(_with_weights(model, snapshots[-1]), None, history=history)
        self.snapshots, self.temperature = list(snapshots), temperature

    @property
    def tempered(self) -> bool:
        """Whether the draws vary less than the posterior: taken by a cooled sampler or at a temperature below 1."""
        return self.temperature == "cooled" or self.temperature < 1

    def predict(
        self, x: Tensor, *, num_samples: int | None = None, batch_size: int = 1024, return_draws: bool = False
    ) -> Tensor | Classes | Normals:
        """Predicts by averaging over the snapshots.

        Args:
            x: Inputs, shape ``(rows, *input_shape)``.
            num_samples: How many of the snapshots, the last ones; None, or more than there are, for all.
            batch_size: Rows at a time.
            return_draws: Whether to return what each snapshot predicts too.

        Returns:
            Class probabilities averaged over snapshots, shape ``(rows, classes)``, or the predictive mean, shape
            ``(rows,)``; with ``return_draws`` a :class:`~bnn_pyro.likelihoods.Classes` or
            :class:`~bnn_pyro.likelihoods.Normals`.

        Raises:
            ValueError: If x has the wrong shape or is not finite, or a number is below 1.
        """
        wanted = len(self.snapshots) if num_samples is None else num_samples
        return super().predict(x, num_samples=wanted, batch_size=batch_size, return_draws=return_draws)

    @torch.no_grad()
    def _outputs(self, x: Tensor, num_samples: int, batch_size: int) -> tuple[Tensor, Tensor | None]:
        chosen = self.snapshots[-num_samples:]
        outputs = torch.stack([_output(snapshot, x.to(self._like), batch_size) for snapshot in chosen])
        latents = [snapshot.latent for snapshot in chosen if snapshot.latent is not None]
        return outputs, torch.stack(latents) if latents else None

    def inclusion(self, *, num_samples: int | None = None) -> dict[str, Tensor]:
        """Returns the share of the snapshots that have each node: group -> shape ``(size,)``.

        Args:
            num_samples: How many of the snapshots, the last ones; None for all.

        Returns:
            Group -> shares; 0 or 1 unless nodes were removed between two snapshots.
        """
        chosen = self.snapshots[-(num_samples or 0) :]
        return {
            name: torch.stack([snapshot.keep[name].to(self._like) for snapshot in chosen]).mean(0)
            for name in self.model.groups
        }

    def keep(self) -> dict[str, Tensor]:
        """Returns which nodes the last snapshot has.

        Returns:
            Group -> bool, shape ``(size,)``.
        """
        return {name: mask.clone() for name, mask in self.snapshots[-1].keep.items()}

    def _medians(self) -> dict[str, Tensor]:
        latent = self.snapshots[-1].latent
        values: dict[str, Tensor] = {p.name: self.model.net.get_parameter(p.name) for p in self.model.bayesian}
        return values if latent is None else {**values, NOISE_SITE: latent}

    def shrink(self, *, keep: Mapping[str, Tensor] | None = None) -> NoReturn:
        """Refuses: an ensemble has no guide to train on.

        Args:
            keep: Not used.

        Raises:
            ValueError: Always.
        """
        raise ValueError(
            "an Ensemble cannot be shrunk, its snapshots are small already: prune(posterior) gives the last one as a "
            "plain module, posterior.snapshots all of them"
        )


@torch.no_grad()
def _output(snapshot: Snapshot, x: Tensor, batch_size: int) -> Tensor:
    with snapshot.model.evaluating():
        return torch.cat([snapshot.model.call_net({}, rows) for rows in x.split(batch_size)])


@torch.no_grad()
def _with_weights(model: SparseNetwork, snapshot: Snapshot) -> SparseNetwork:
    """Returns a copy of the whole network with a snapshot's weights, and zeros where nodes were removed."""
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
