"""A device without double precision, as Apple's MPS: what needs it is computed on the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from bnn_pyro import GaussianNoise, SamplingPlan, Schedule, fit, sample
from bnn_pyro.devices import has_double, with_double
from tests.emulated_cuda.build import is_emulated
from tests.on_gpu.uses import FIT, Rows, perceptron

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not is_emulated(), reason="needs a device that can refuse float64: the emulated one"),
]


@pytest.fixture
def rows() -> Iterator[Rows]:
    from tests.emulated_cuda.device import refuse_double

    refuse_double(True)
    has_double.cache_clear()
    yield Rows("cuda")
    refuse_double(False)
    has_double.cache_clear()


def test_where_double_precision_is(rows: Rows) -> None:
    with pytest.raises(TypeError, match="doesn't support float64"):
        rows.x.double()
    assert with_double(rows.x).double().device == torch.device("cpu")
    assert with_double(rows.x.cpu()).device == torch.device("cpu")


def test_training_that_shrinks_and_is_saved(rows: Rows, tmp_path: Path) -> None:
    schedule = Schedule(hold=1, freeze=1, shrink_below=0.45)
    options: dict[str, Any] = {**FIT, "epochs": 6, "schedule": schedule, "checkpoint": tmp_path / "run.pt"}
    model = perceptron(rows, 1, likelihood=GaussianNoise())
    posterior = fit(model, rows.regressed, **options)
    assert posterior.evaluate(*rows.regressed, num_samples=3)["crps"] > 0


@pytest.mark.parametrize("kernel", ["nuts", "chees", "mclmc", "mams"])
def test_sampling(rows: Rows, kernel: Any) -> None:
    model = perceptron(rows, 1, likelihood=GaussianNoise(), select_inputs=False)
    plan = SamplingPlan(kernel=kernel, chains=2, warmup=4, draws=6, max_tree_depth=2)
    sampled = sample(model, rows.regressed, plan, seed=0, progress=False, engine="eager")
    assert str(sampled.draws) and sampled.evaluate(*rows.regressed)["nll"]
