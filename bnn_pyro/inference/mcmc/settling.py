"""Settling: whether a warm-up has come to rest, by what its last two windows have drawn."""

import math

import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import Move
from bnn_pyro.inference.mcmc.running_moments import Moments

_LEAST = 20  # transitions of the last window; a shorter one is not judged
_STRETCH, _DRIFT = math.log(2), 0.5  # of the logarithm of a standard deviation, and of a mean in units of it
_NOISE = 4.0  # standard errors that a difference may have by chance, of one draw per chain
_DIVERGED = 0.02  # share of the last window's transitions


class Settling:
    r"""Tells whether the draws of all chains together look the same in the last two windows of a warm-up.

    For each coordinate the logarithms of the standard deviations in the two windows may differ by
    :math:`\max(\log 2, 4 / \sqrt m)`, and the means by :math:`\max(1/2, 4 \sqrt{2 / m})` standard deviations, m being
    the number of chains: what chance allows if each chain has one independent draw in a window. Chains that stay in
    different places do not count against it, as long as each stays: that is what R-hat tells. Nor may more than 2 % of
    the last window's transitions diverge.

    Args:
        like: A tensor with an entry for each coordinate.

    """

    def __init__(self, like: Tensor) -> None:
        self._mean, self._sd = torch.zeros_like(like), torch.zeros_like(like)
        self._diverged, self._transitions = torch.zeros((), dtype=torch.int64, device=like.device), 0
        self._found = [0.0, 0.0, 0.0]  # what is judged, each in units of what it may be

    @property
    def shortfall(self) -> str:
        """What says that it has not settled; empty before it is judged, and where nothing does."""
        stretch, drift, diverged = self._found
        if not stretch <= 1:
            return "a standard deviation has changed too much in its last window"
        if not drift <= 1:
            return "a mean has moved too far in its last window"
        return f"more than {_DIVERGED:.0%} of the transitions of its last window diverged" if diverged > 1 else ""

    def add(self, move: Move) -> None:
        """Take account of a transition.

        Args:
            move: How it went.
        """
        self._diverged, self._transitions = self._diverged + move.diverged.sum(), self._transitions + 1

    def end_window(self, moments: Moments) -> None:
        """Keep what a window has drawn, to compare it with the next one.

        Args:
            moments: Of its draws.
        """
        self._mean, self._sd = moments.mean, _sd(moments)
        self._diverged, self._transitions = torch.zeros_like(self._diverged), 0

    def judge(self, moments: Moments, chains: int) -> None:
        """Compare the last window with the one before it; the host waits for the device here.

        Args:
            moments: Of the draws of the last window.
            chains: How many chains have drawn them.
        """
        if self._transitions < _LEAST:
            return
        tiny = torch.finfo(self._sd.dtype).tiny
        before, now = self._sd.clamp(min=tiny), _sd(moments).clamp(min=tiny)
        stretch = float((now / before).log().abs().max())
        drift = float(((moments.mean - self._mean).abs() / before).max())
        diverged = float(self._diverged) / (self._transitions * chains)
        self._found = [
            stretch / max(_STRETCH, _NOISE / math.sqrt(chains)),
            drift / max(_DRIFT, _NOISE * math.sqrt(2 / chains)),
            diverged / _DIVERGED,
        ]


def _sd(moments: Moments) -> Tensor:
    found: Tensor = (moments.squares / moments.count.clamp(min=1)).sqrt()
    return found
