"""What chains leave behind: the summary of each site, and the draws of all chains side by side."""

import torch

from bnn_pyro.inference.diagnostics import ess_bulk, ess_tail, r_hat
from bnn_pyro.inference.draws import Draws


def draws() -> Draws:
    """Draws of a scalar and a matrix by 2 chains of 6."""
    values = {"a": torch.randn(2, 6), "b": torch.randn(2, 6, 3, 4)}
    vectors = torch.cat([value.flatten(2) if value.dim() > 2 else value.unsqueeze(-1) for value in values.values()], -1)
    a_chain = torch.ones(2)
    return Draws(values, vectors, vectors.sum(-1), a_chain, a_chain, a_chain, vectors[:, 0], a_chain, seconds=1.0)


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
