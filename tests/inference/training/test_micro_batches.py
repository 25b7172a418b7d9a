"""A batch in parts: every row is counted once, and the parts' loss and gradients are those of the batch."""

from typing import Any

import pytest
import torch
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor, nn

from bnn_pyro import fit
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.micro_batches import Shares, divide
from bnn_pyro.inference.training.processes import Processes
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from tests.inference.svi.test_fit import FAST, STILL, X, Y, spy, state
from tests.recorded import assert_same
from tests.test_network import convolutions, network


@pytest.mark.parametrize("rows", [*range(1, 20), 96, 97])
@pytest.mark.parametrize(("accumulate", "count"), [(1, 2), (2, 1), (3, 2), (1, 5)])
def test_every_row_is_counted_once(rows: int, accumulate: int, count: int) -> None:
    all_parts = [divide(rows, accumulate, Processes(rank, count)) for rank in range(count)]
    weights = torch.zeros(rows, dtype=torch.float64)
    for parts in all_parts:
        for part in parts:
            weights[part.start : part.end] += part.weight / (part.end - part.start)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / rows), rtol=1e-12, atol=0)
    sizes = [[part.end - part.start for part in parts] for parts in all_parts]
    assert all(found == sizes[0] for found in sizes)  # the same programs in all processes
    assert min(sizes[0]) > 1 or rows == 1
    if rows % (accumulate * count) == 0 and rows > accumulate * count:
        assert sizes[0] == [rows // accumulate // count] * accumulate


def test_parts_are_the_same_in_any_number_of_processes() -> None:
    alone = {part.number: (part.start, part.end) for part in divide(103, 6, Processes())}
    for rank in range(3):
        for part in divide(103, 2, Processes(rank, 3)):
            assert alone[part.number] == (part.start, part.end)


@pytest.mark.parametrize("own_noise", [False, True])
def test_the_noise_of_parts(own_noise: bool) -> None:
    drawn: list[float] = []

    def function(x: Tensor, y: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        drawn.append(float(torch.rand(())))
        return x.mean(), [x.sum(0), None]

    torch.manual_seed(0)
    loss, (gradient, none) = Shares(3, own_noise=own_noise).compute(function, X, Y)
    after = float(torch.rand(()))
    assert len(set(drawn)) == (3 if own_noise else 1) and after not in drawn
    torch.testing.assert_close((loss, gradient), (X.mean(), X.sum(0) / 3))
    assert none is None
    torch.manual_seed(0)
    Shares(3, own_noise=own_noise).compute(function, X, Y)
    assert drawn[3:] == drawn[:3] and float(torch.rand(())) == after


# ---- in a run --------------------------------------------------------------------------------------------------------


DRAWN = SparseELBO(local_reparameterization=False)  # weights are drawn, not outputs


def step(**options: Any) -> list[Tensor | None]:
    """The loss and gradients of the first step."""
    seen, factory = spy()
    given = {"epochs": 1, "batch_size": 12, "rates": STILL, "optimizer": factory, "seed": 0, "elbo": DRAWN, **options}
    compute = Compute(engine=given.pop("engine", "auto"), accumulate=given.pop("accumulate", 1))
    slab = Gaussian() if "engine" in options else GroupHorseshoe()  # the less to trace
    model = network(given.pop("net", "mlp"), prior=SpikeSlab(slab, inclusion=0.3))
    run = fit(model, (X, Y), compute=compute, **given)
    return [torch.tensor(run.history[0]["loss"]), *seen[0]["gradients"]]


TRACED = {"engine": "traced", "net": mlp(6, (3,), 3).double()}


TWICE = SparseELBO(num_particles=2, local_reparameterization=False)


@pytest.mark.parametrize("options", [{}, {"elbo": TWICE}, TRACED, {"net": "residual", "seed": 1}])
def test_a_step_in_parts_is_that_of_the_batch(options: Any) -> None:
    assert_same(step(accumulate=3, **options), step(**options), 1e-12)


def test_parts_that_are_not_alike() -> None:
    assert_same(step(accumulate=5), step(), 1e-12)  # of 2, and 2 left over


def test_a_run_in_parts_is_that_of_batches() -> None:
    model = network()
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "rates": FAST, "seed": 0}
    runs = [fit(model, (X, Y), elbo=DRAWN, compute=Compute(accumulate=k), **options) for k in (1, 2, 4)]
    for run in runs[1:]:
        assert_same(state(run), state(runs[0]), 1e-8)


def test_a_batch_norm_sees_one_part_at_a_time() -> None:
    net = convolutions().double()
    options: dict[str, Any] = {"epochs": 1, "batch_size": 12, "rates": STILL, "seed": 0}
    seen: list[int] = []
    norm: Any = nn.BatchNorm2d
    forward = norm.forward

    def noting(self: Any, x: Tensor) -> Tensor:
        if self.training:
            seen.append(len(x))
        result: Tensor = forward(self, x)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(norm, "forward", noting)
        run = fit(
            network(net),
            (X, Y),
            compute=Compute(accumulate=2, engine="eager"),
            elbo=DRAWN,
            **options,
        )
    assert seen[:2] == [6, 6] and run.model.net.training is False


def test_a_number_of_parts_that_makes_no_sense() -> None:
    message = r"batch_size must leave every part at least 2 rows, got 12 in 7 parts \(accumulate=7"
    with pytest.raises(ValueError, match=message):
        fit(network(), (X, Y), epochs=1, batch_size=12, compute=Compute(accumulate=7))


def test_a_pyro_optimiser_cannot_wait_for_all_parts() -> None:
    for name, compute, checkpoint in (("accumulate", Compute(accumulate=2), None), ("checkpoint", Compute(), "run.pt")):
        with pytest.raises(ValueError, match=f"{name} needs a torch optimiser, got a Pyro optimiser"):
            fit(
                network(),
                (X, Y),
                epochs=1,
                optimizer=Adam({"lr": 0.1}),
                compute=compute,
                checkpoint=checkpoint,
            )
