"""A loss that is not finite: in which step, what is at fault, and the last good posterior."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro import Categorical, Gaussian, LearningRates, Schedule, SparseNetwork, SpikeSlab, fit
from bnn_pyro.inference.svi.divergence import Diverged, StepMade, fault_of_rows, first_fault
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior

X = torch.randn(61, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
OPTIONS: dict[str, Any] = {"epochs": 6, "batch_size": 20, "seed": 0, "progress": False}


def network(net: nn.Module | None = None) -> SparseNetwork:
    torch.manual_seed(0)
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(net or mlp(4, (6,), 2), X[:2], prior=prior, likelihood=Categorical(), num_data=len(X))


class Spoiling:
    """An augmentation that spoils two rows of the n-th batch that it is given."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = at, 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return torch.cat([x[:-2], x[-2:] / 0]) if self.calls == self.at else x


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_a_batch_that_is_not_finite_is_told_and_the_posterior_before_it_kept(engine: Any) -> None:
    """Batches are of 20, 20, 20 and 1 rows: a copy of the state is made every third epoch."""
    augmentation = Spoiling(4 * 3 + 2)
    with pytest.raises(Diverged) as caught:
        fit(network(), (X, Y), augmentation=augmentation, compute=Compute(engine=engine), **OPTIONS)
    assert str(caught.value).startswith(
        "the loss must stay finite, got nan in epoch 4, step 2: the inputs of 2 of the 20"
    )
    kept = caught.value.posterior
    assert isinstance(kept, GuidePosterior) and len(kept.history) == 3
    options: dict[str, Any] = {**OPTIONS, "augmentation": Spoiling(99), "compute": Compute(engine=engine)}
    expected = fit(network(), (X, Y), callback=lambda record, _: record["epoch"] == 3, **options)
    for name, value in expected.guide.state_dict().items():
        torch.testing.assert_close(kept.guide.state_dict()[name], value)
    assert kept.predict(X).isfinite().all()


def test_rates_that_are_too_large_are_told_by_what_they_made_of_the_parameters() -> None:
    with pytest.raises(
        Diverged, match=r"in epoch 1, step \d: .*(the largest parameters are those of|it left the)"
    ) as error:
        fit(network(), (X, Y), rates=LearningRates(slab_locs=1e30), schedule=Schedule(), **OPTIONS)
    assert error.value.posterior is None


def made(parameter: nn.Parameter, *values: float) -> Any:
    """Steps that set a parameter, with losses that are not finite once it is not."""
    for number, value in enumerate(values, start=1):
        loss = torch.tensor(0.0) if parameter.isfinite().all() else torch.tensor(float("nan"))
        with torch.no_grad():
            parameter[0] = value
        yield StepMade(0, number, X[:3], Y[:3], loss)


def test_the_first_step_at_fault_is_found() -> None:
    module = nn.Linear(2, 1)
    nan = float("nan")
    step, fault = first_fault(made(module.bias, 1.0, 2.0), [module])
    assert step is None and fault == "the same steps went well when they were made again"
    step, fault = first_fault(made(module.bias, 1.0, nan, 2.0), [module])
    assert step is not None and step.number == 2 and fault == "it left the parameters of 'bias' not finite"


def test_rows_that_are_not_finite_are_counted() -> None:
    assert fault_of_rows(X, Y) == ""
    assert fault_of_rows(X, X[:, 0] * float("nan")) == ""  # missing
    assert fault_of_rows(X / 0, Y) == "the inputs of 61 of the 61 rows of its batch are not finite"
    assert fault_of_rows(X, X / 0) == "the observations of 61 of the 61 rows of its batch are not finite"


def test_one_row_that_is_left_over_is_joined_where_there_is_a_batch_norm() -> None:
    net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
    assert len(fit(network(net), (X, Y), **OPTIONS).history) == 6


def test_classes_can_be_fitted_in_bfloat16() -> None:
    x = X.bfloat16()
    posterior = fit(network(), (x, Y), **{**OPTIONS, "epochs": 2})
    scores = posterior.evaluate(x, Y)
    assert all(torch.isfinite(torch.tensor(value)) for value in scores.values())
    probabilities = posterior.predict(x)
    assert probabilities.dtype == torch.float32 and torch.allclose(probabilities.sum(1), torch.ones(len(x)))
