"""Whether a warm-up has come to rest: by standard deviations, means and divergences of its last two windows."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.kernel import Move
from bnn_pyro.inference.mcmc.running_moments import Moments
from bnn_pyro.inference.mcmc.settling import Settling

CHAINS, TRANSITIONS, N = 64, 50, 3
NONE = torch.zeros(CHAINS, dtype=torch.bool)


def drawn(loc: Tensor | float = 0.0, scale: Tensor | float = 1.0) -> Moments:
    """Moments of a window's independent draws."""
    moments = Moments(torch.zeros(N))
    for _ in range(TRANSITIONS):
        moments.add(loc + scale * torch.randn(CHAINS, N), torch.ones(CHAINS, N, dtype=torch.bool))
    return moments


def shortfall(
    before: Moments, now: Moments, *, diverged: Tensor = NONE, transitions: int = TRANSITIONS, chains: int = CHAINS
) -> str:
    settling = Settling(torch.zeros(N))
    for window in (before, now):
        for _ in range(transitions):
            zero = torch.zeros(CHAINS)
            settling.add(Move(zero, diverged, zero, zero))
        if window is before:
            settling.end_window(window)
    settling.judge(now, chains)
    return settling.shortfall


def test_windows_that_are_alike_have_settled() -> None:
    assert shortfall(drawn(), drawn()) == ""
    assert shortfall(drawn(7.0, 0.1), drawn(7.01, 0.12)) == ""


def test_chains_that_stay_apart_have_settled() -> None:
    """In places of their own: it is for R-hat to tell."""
    places = torch.arange(CHAINS).unsqueeze(-1) * 3.0
    assert shortfall(drawn(places), drawn(places)) == ""


CHANGES: dict[str, tuple[Callable[[], Moments], str]] = {
    "wider": (lambda: drawn(scale=torch.tensor([1.0, 1.0, 3.3])), "a standard deviation has changed too much"),
    "narrower": (lambda: drawn(scale=torch.tensor([1.0, 0.3, 1.0])), "a standard deviation has changed too much"),
    "elsewhere": (lambda: drawn(loc=torch.tensor([0.0, -1.5, 0.0])), "a mean has moved too far"),
    "nowhere": (lambda: drawn(loc=torch.tensor([0.0, torch.nan, 0.0])), "a standard deviation has changed too much"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_windows_that_differ_have_not(change: str) -> None:
    made, reason = CHANGES[change]
    assert shortfall(drawn(), made()) == f"{reason} in its last window"


def test_few_chains_may_differ_by_chance() -> None:
    """As much as one draw of each would: four of them by more than dozens."""
    moments = drawn(), drawn(scale=2.5)
    assert shortfall(*moments) != "" and shortfall(*moments, chains=4) == ""


def test_more_than_a_few_divergences_have_not() -> None:
    found = shortfall(drawn(), drawn(), diverged=torch.arange(CHAINS) < 2)
    assert found == "more than 2% of the transitions of its last window diverged"
    assert shortfall(drawn(), drawn(), diverged=torch.arange(CHAINS) < 1) == ""


def test_a_short_window_is_not_judged() -> None:
    assert shortfall(drawn(), drawn(loc=9.0), transitions=19) == ""
