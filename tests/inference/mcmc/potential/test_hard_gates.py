"""Hard gates: the model's density is that of the true spike and slab, closed entries having none."""

from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor
from torch.nn.functional import logsigmoid

from bnn_pyro.inference.mcmc.potential.hard_gates import HardGates, Sign
from bnn_pyro.priors import gate, slab
from tests.models import DOUBLE, hints, traced

LOGITS = torch.tensor([-1.0, 0.0, 2.0], dtype=DOUBLE)
SCALE = torch.tensor([0.5, 2.0], dtype=DOUBLE)


def matrix() -> Tensor:
    """A matrix with gates on its rows and on its columns, and scales of its rows."""
    rows = gate("rows", torch.tensor(0.2, dtype=DOUBLE), size=2)
    columns = gate("columns", torch.sigmoid(LOGITS), size=3)
    w = slab("w", (2, 3), scale=SCALE, gates={"rows": -2, "columns": -1})
    return rows.unsqueeze(-1) * w * columns


def test_sign_is_a_gate() -> None:
    sign = Sign(LOGITS)
    torch.testing.assert_close(sign.log_prob(torch.tensor(3.0)), logsigmoid(LOGITS))
    torch.testing.assert_close(sign.log_prob(torch.tensor(-3.0)), logsigmoid(-LOGITS))
    draws = sign.expand((4000, 3)).sample()
    assert set(draws.unique().tolist()) == {-1.0, 1.0}
    error = (torch.sigmoid(LOGITS) * torch.sigmoid(-LOGITS) / 4000).sqrt()
    assert (((draws > 0).double().mean(0) - torch.sigmoid(LOGITS)).abs() < 5 * error).all()


def test_density_is_that_of_open_entries() -> None:
    """Two closed gates of the columns, and one of the rows, leave one entry."""
    signs = {"rows_logit": torch.tensor([1.0, -1.0]), "columns_logit": torch.tensor([-1.0, 1.0, -1.0])}
    u = torch.randn(2, 3, dtype=DOUBLE)
    given: dict[str, Any] = {name: sign.to(DOUBLE) for name, sign in signs.items()} | {"w_decentered": u}
    program = HardGates(matrix)
    found = traced(poutine.condition(program, given))()
    expected = torch.tensor([0.2, 0.8], dtype=DOUBLE).log().sum()
    expected = expected + logsigmoid(LOGITS * torch.tensor([-1, 1, -1])).sum() + dist.Normal(0, 1).log_prob(u[0, 1])
    torch.testing.assert_close(found.log_prob_sum(), expected)
    torch.testing.assert_close(found.nodes["w"]["value"], SCALE.unsqueeze(-1) * u)
    used = torch.zeros(2, 3, dtype=DOUBLE)
    used[0, 1] = SCALE[0] * u[0, 1]
    torch.testing.assert_close(found.nodes["_RETURN"]["value"], used)
    assert program.slabs == {"w": {"rows": -2, "columns": -1}}


def test_what_is_given_stays() -> None:
    def model() -> None:
        s = pyro.sample("s", dist.Gamma(torch.tensor(2.0), torch.tensor(3.0)))
        gate("z", 0.3)
        pyro.sample("b", dist.Normal(1.0, s))

    given = {"s": torch.tensor(0.7), "z": torch.tensor(1.0), "b": torch.tensor(1.5)}
    found = traced(HardGates(poutine.condition(model, given)))()
    assert set(found.nodes) == {"_INPUT", "s", "z", "b", "_RETURN"}
    parts = [
        dist.Gamma(2.0, 3.0).log_prob(given["s"]),
        torch.tensor(0.3).log(),
        dist.Normal(1.0, 0.7).log_prob(given["b"]),
    ]
    torch.testing.assert_close(found.log_prob_sum(), torch.stack(parts).sum())


def test_slabs_with_gates_must_be_normal() -> None:
    def model() -> None:
        gate("z", 0.3)
        pyro.sample("w", dist.Laplace(torch.zeros(()), 1.0), infer=hints(gates={"z": -1}))

    with pytest.raises(ValueError, match="a slab with gates must be Normal, got Laplace at 'w'"):
        HardGates(model)()
