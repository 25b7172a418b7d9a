"""What chains leave behind: the summary of each site as numbers and as text, and what is wrong with the chains."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bnn_pyro.posterior.diagnostics import e_bfmi, ess_bulk, ess_tail, r_hat
from bnn_pyro.posterior.draws import Draws


def draws(chains: int = 2, size: int = 6, **changes: Any) -> Draws:
    """Draws of a scalar and a matrix by independent chains."""
    values = {"a": torch.randn(chains, size), "b": torch.randn(chains, size, 3, 4)}
    vectors = torch.cat([value.flatten(2) if value.dim() > 2 else value.unsqueeze(-1) for value in values.values()], -1)
    found = Draws(
        values=values,
        vectors=vectors,
        energy=torch.randn(chains, size),
        total_energy=torch.randn(chains, size),
        acceptance=torch.rand(chains, size),
        diverged=torch.zeros(chains, size, dtype=torch.int64),
        leapfrogs=torch.full((chains, size), 6),
        step_size=torch.ones(chains),
        inverse_mass=vectors[:, 0],
        kernel="nuts",
        thinning=2,
        seconds=1.5,
    )
    return replace(found, **changes)


def test_summary_is_of_chains_and_draws_together() -> None:
    found = draws()
    for name, summary in found.summary().items():
        value = found.values[name]
        rows = value.flatten(0, 1)
        expected = {"mean": rows.mean(0), "sd": rows.std(0), "r_hat": r_hat(value)}
        expected |= {"ess_bulk": ess_bulk(value), "ess_tail": ess_tail(value)}
        torch.testing.assert_close(summary, expected)
        assert all(part.shape == value.shape[2:] for part in summary.values())


def test_stacked_goes_chain_by_chain() -> None:
    found = draws()
    stacked = found.stacked()
    assert {name: value.shape for name, value in stacked.items()} == {"a": (12,), "b": (12, 3, 4)}
    assert torch.equal(stacked["b"][6], found.values["b"][1, 0])


def test_numbers_of_each_chain() -> None:
    found = draws(diverged=torch.tensor([[0, 2, 0, 1, 0, 0], [0] * 6]))
    line = next(line for line in str(found).splitlines() if line.startswith("nuts: "))
    assert f"acceptance {found.acceptance.mean():.2f}" in line and "3.0 leapfrogs a transition, 3 divergences" in line
    assert torch.equal(found.e_bfmi, e_bfmi(found.total_energy))


def test_chain_is_one_of_them() -> None:
    found = draws()
    second = found.chain(1)
    assert torch.equal(second.values["b"][0], found.values["b"][1])
    for each in fields(Draws):
        part, whole = getattr(second, each.name), getattr(found, each.name)
        assert torch.equal(part[0], whole[1]) if isinstance(whole, Tensor) else each.name == "values" or part == whole
    with pytest.raises(ValueError, match="number must be that of one of 2 chains, from 0, got -1"):
        found.chain(-1)


# ---- as text ---------------------------------------------------------------------------------------------------------


def test_table_has_each_entry_and_how_the_chains_went() -> None:
    found = draws()
    lines = str(found).splitlines()
    assert lines[0].split() == ["mean", "sd", "5", "%", "95", "%", "R-hat", "ESS", "bulk", "ESS", "tail"]
    labels = ["a", *(f"b[{i},{j}]" for i in range(3) for j in range(4))]
    assert [line.split()[0] for line in lines[1:14]] == labels
    summary, numbers = found.summary()["b"], [float(part) for part in lines[1 + labels.index("b[2,1]")].split()[1:]]
    rows = found.stacked()["b"][:, 2, 1]
    expected = [
        float(part) for part in (summary["mean"][2, 1], summary["sd"][2, 1], *rows.quantile(torch.tensor([0.05, 0.95])))
    ]
    assert numbers[:4] == pytest.approx(expected, rel=0.01)
    assert numbers[4:] == pytest.approx(
        [float(summary[name][2, 1]) for name in ("r_hat", "ess_bulk", "ess_tail")], rel=0.01, abs=0.5
    )
    assert lines[15].startswith("nuts: 2 chains of 6 draws in 1.5 s; acceptance 0.")
    assert "3.0 leapfrogs a transition, 0 divergences, E-BFMI" in lines[15]


def test_table_of_many_entries_has_the_worst() -> None:
    found = draws(size=50)
    found.values["b"][1, :, 1, 2] += 5
    lines = found.table(rows=3).splitlines()
    assert len(lines[1:4]) == 3 and any(line.startswith("b[1,2] ") for line in lines[1:4])
    assert lines[4] == "... and 10 entries with a smaller R-hat"
    assert found.table(["a"]).splitlines()[1].startswith("a ") and "b[" not in found.table(["a"]).split("!")[0]


def test_few_draws_are_told_by_name_alone() -> None:
    found = draws(size=3)
    assert str(found) == repr(found) == "Draws(of a, b by 2 chains of 3)"


def test_table_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="sites must be of a, b, got 'c'"):
        draws().table(["c"])
    with pytest.raises(ValueError, match="rows must be at least 1, got 0"):
        draws().table(rows=0)


# ---- what is wrong ---------------------------------------------------------------------------------------------------


def test_good_chains_have_no_problem() -> None:
    found = draws(4, 500)
    assert found.problems() == [] and "!" not in str(found)


def test_problems_are_told() -> None:
    found = draws(4, 500, diverged=torch.ones(4, 500, dtype=torch.int64))
    assert found.problems()[0].startswith("2000 of 4000 transitions diverged: ") and "! 2000 of" in str(found)
    slow = replace(found, diverged=0 * found.diverged, total_energy=torch.randn(4, 500).cumsum(1))
    assert [problem[:9] for problem in slow.problems()] == ["E-BFMI is"]
    apart = replace(draws(4, 500), energy=torch.randn(4, 500) + torch.arange(4.0).unsqueeze(-1))
    assert [problem.split(" is")[0] for problem in apart.problems()] == [
        "R-hat of the energy",
        "bulk ESS of the energy",
        "tail ESS of the energy",
    ]
    assert apart.problems(convergence=False) == []
    stuck = replace(found, energy=torch.full((4, 500), torch.nan), diverged=0 * found.diverged)
    assert stuck.problems() == ["draws of the energy are not finite"]


def test_a_single_entry_that_has_not_converged_is_named() -> None:
    """Where the energy says nothing of it; or nothing at all is said where the site is not judged."""
    found = draws(4, 500)
    found.values["b"][:, :, 1, 2] += 3 * torch.arange(4.0).unsqueeze(-1)
    assert found.problems()[0].startswith("R-hat of b[1,2] is ")
    assert replace(found, judged=("a",)).problems() == replace(found, judged=()).problems() == []
