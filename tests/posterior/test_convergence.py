"""Whether chains have converged: every quantity is judged, and the worst is named."""

import pytest
import torch
from torch import Size, Tensor

from bnn_pyro.posterior import convergence
from bnn_pyro.posterior.convergence import convergence_problems, entry_names, of_sites


def independent(chains: int = 4, draws: int = 500, *shape: int) -> Tensor:
    return torch.randn(chains, draws, *shape, generator=torch.Generator().manual_seed(2))


def said(**quantities: Tensor) -> list[str]:
    return convergence_problems(quantities.items(), chains=len(next(iter(quantities.values()))))


def test_nothing_is_said_of_independent_draws() -> None:
    """Of 40 quantities, at an effective size of about 2000 each."""
    assert said(a=independent(), b=independent(4, 500, 3, 13)) == []


@pytest.mark.parametrize("entries", [1, 512], ids=["in parts", "at once"])
def test_the_worst_of_several_is_named(monkeypatch: pytest.MonkeyPatch, entries: int) -> None:
    monkeypatch.setattr(convergence, "_ENTRIES", entries)
    b = independent(4, 500, 2, 3)
    b[:, :, 0, 1] += torch.arange(4.0).unsqueeze(-1)
    b[:, :, 1, 2] += 3 * torch.arange(4.0).unsqueeze(-1)
    ratio, bulk, tail = said(a=independent(), b=b)
    assert ratio.startswith("R-hat of b[1,2] is ") and ratio.endswith(
        ", the worst of 2 in 7, above 1.01: the chains have not mixed"
    )
    assert bulk.startswith("bulk ESS of b[1,2] is ") and tail.startswith("tail ESS of b[")


def test_chains_of_another_width_are_seen() -> None:
    """Their means agree: folded draws tell."""
    wide = independent()
    wide[0] *= 8
    assert said(a=wide)[0].startswith("R-hat of a is ")


def test_slow_tails_are_seen() -> None:
    """A chain that is in the upper tail for a long time at once."""
    sticky = independent()
    sticky[0, 100:150] = 2.5 + 0.01 * sticky[0, 100:150]
    assert any(problem.startswith("tail ESS of a is ") for problem in said(a=sticky))


def test_few_draws_are_asked_for_more() -> None:
    assert said(a=independent(4, 60)) == [] or all("ESS" in problem for problem in said(a=independent(4, 60)))
    (few,) = [problem for problem in said(a=independent(1, 60)) if problem.startswith("bulk")]
    assert few.endswith("below 100: draw more")


def test_what_never_changes_is_not_judged_and_what_is_not_finite_is_named() -> None:
    broken = independent(4, 500, 2)
    broken[1, 3, 1] = torch.nan
    assert said(a=torch.ones(4, 500), b=independent()) == []
    assert said(a=independent(), b=broken) == ["draws of b[1] are not finite"]


def test_names_of_entries() -> None:
    assert entry_names("w", Size([])) == ["w"]
    assert entry_names("w", Size([2])) == ["w[0]", "w[1]"]
    assert entry_names("w", Size([2, 2])) == ["w[0,0]", "w[0,1]", "w[1,0]", "w[1,1]"]
    assert entry_names("w", Size([0])) == []


def test_the_energy_comes_first_and_whole_numbers_are_left_out() -> None:
    energy, values = torch.zeros(2, 4), {"k": torch.zeros(2, 4, dtype=torch.long), "w": torch.ones(2, 4)}
    assert [name for name, _ in of_sites(energy, values)] == ["the energy", "w"]
