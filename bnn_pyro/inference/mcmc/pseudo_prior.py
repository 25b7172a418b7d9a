"""PseudoPrior: what the weights of closed gates are drawn from, so that a gate has good weights to open with."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor
from torch.distributions import Normal

from bnn_pyro.inference.mcmc.running_moments import STRENGTH, Moments

Draw = Callable[[], Mapping[str, Tensor]]
ALL = slice(None)


@dataclass(frozen=True, eq=False)
class PseudoPrior:
    r"""Independent Normals :math:`\psi(w_i) = N(m_i, s_i^2)` for the entries of all slabs that have gates.

    They change no posterior, only how often gates open: best near the slab's posterior given an open gate.

    Attributes:
        loc: :math:`m`, shape ``(entries,)``.
        scale: :math:`s`, shape ``(entries,)``.

    Source: Carlin, Chib (1995), *Bayesian model choice via Markov chain Monte Carlo methods*.
    """

    loc: Tensor
    scale: Tensor

    @staticmethod
    @torch.no_grad()
    def of(draw: Draw, shapes: Mapping[str, Size], like: Tensor, *, draws: int = 200) -> "PseudoPrior":
        """Returns the Normals of the median and the quartiles of draws: of a guide, or of the prior.

        Args:
            draw: Returns a draw, site -> value.
            shapes: The slabs, in the order of the entries, and their shapes.
            like: A tensor whose dtype and device the result takes.
            draws: How many to make.

        Raises:
            ValueError: If a draw lacks one of the slabs, or has it in another shape.
        """
        rows = torch.stack([_entries(draw(), shapes, like) for _ in range(draws)])
        low, loc, high = rows.quantile(rows.new_tensor([0.25, 0.5, 0.75]), 0)
        scale = (high - low) / (float(torch.erfinv(torch.tensor(0.5, device="cpu")) * math.sqrt(2)) * 2)
        return PseudoPrior(loc, scale.clamp(min=torch.finfo(like.dtype).eps))

    def sample(self, shape: Sequence[int], entries: Tensor | slice = ALL) -> Tensor:
        """Draws entries.

        Args:
            shape: How many of each.
            entries: Which ones.

        Returns:
            Shape ``(*shape, entries)``.
        """
        loc, scale = self.loc[entries], self.scale[entries]
        return torch.addcmul(loc, scale, torch.randn(*shape, len(loc), dtype=loc.dtype, device=loc.device))

    def log_prob(self, values: Tensor, entries: Tensor | slice = ALL) -> Tensor:
        """Returns the log-density of each entry.

        Args:
            values: Shape ``(*batch, entries)``.
            entries: Which ones.
        """
        found: Tensor = Normal(self.loc[entries], self.scale[entries], validate_args=False).log_prob(values)
        return found

    def followed(self, moments: Moments) -> "PseudoPrior":
        """Returns the Normals moved to the moments of what was drawn while gates were open.

        Args:
            moments: Of the entries; those that were hardly seen stay as they are.
        """
        total = moments.count + STRENGTH
        loc = (moments.count * moments.mean + STRENGTH * self.loc) / total
        spread = moments.squares + moments.count * (moments.mean - loc).square()
        variance = (spread + STRENGTH * (self.scale.square() + (self.loc - loc).square())) / total
        return PseudoPrior(loc, variance.sqrt())


def _entries(draw: Mapping[str, Tensor], shapes: Mapping[str, Size], like: Tensor) -> Tensor:
    for site, shape in shapes.items():
        found = tuple(draw[site].shape) if site in draw else "none"
        if found != tuple(shape):
            raise ValueError(f"pseudo_prior must draw the slab {site!r} of shape {tuple(shape)}, got {found}")
    return torch.cat([like, *[draw[site].detach().flatten().to(like) for site in shapes]])
