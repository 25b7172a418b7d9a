"""Poisson: its density and its counts."""

import pytest
import torch
from torch import Tensor

from bnn_pyro.likelihoods import Poisson

F = torch.linspace(-2, 2, 5, dtype=torch.float64).unsqueeze(1)
Y = torch.tensor([0, 1, 0, 3, 9])


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64])
def test_density(dtype: torch.dtype) -> None:
    f = F[:, 0]
    wanted = Y * f - f.exp() - torch.lgamma(Y.double() + 1)
    torch.testing.assert_close(Poisson().distribution(F).log_prob(Y.to(dtype)), wanted)


def test_draws_are_averaged_as_rates() -> None:
    outputs = torch.stack([F, F + 1])
    found = Poisson().predict(outputs)
    torch.testing.assert_close(found.mean, outputs.exp().mean(0)[:, 0])
    torch.testing.assert_close(found.std, (outputs.exp().mean(0) + outputs.exp().var(0, correction=0)).sqrt()[:, 0])
    assert found.scores(Y).keys() == {"rmse", "deviance", "nll"}


@pytest.mark.parametrize(
    ("output", "y", "message"),
    [
        (F.expand(-1, 2), None, r"output must have shape \(rows, 1\), got \(5, 2\): .* the log rate"),
        (F / 0, None, "output must be finite"),
        (F, Y[:3], r"y must have shape \(5,\)"),
        (F, Y - 1, "y must hold counts, whole numbers from 0, got values from -1.0 to 8.0"),
        (F, Y + 0.5, "y must hold counts"),
    ],
)
def test_bad_input(output: Tensor, y: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Poisson().check(output, y)
