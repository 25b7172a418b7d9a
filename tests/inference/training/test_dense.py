"""Dense training: it learns, on a copy, and says what is wrong with its input."""

import copy
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.inference.interrupts import Interrupted
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, Likelihood
from bnn_pyro.networks import mlp
from tests.test_network import inputs, labels

OPTIONS: dict[str, Any] = {"epochs": 40, "batch_size": 30, "learning_rate": 0.05, "seed": 0}


def test_it_learns_to_classify() -> None:
    x, y = inputs(90), labels(90)
    net = mlp(6, (8,), 3).double()
    trained = train_dense(net, (x, y), likelihood=Categorical(), **OPTIONS)
    assert float((trained(x).argmax(1) == y).double().mean()) > 0.9
    assert not any(module.training for module in trained.modules())


@pytest.mark.parametrize(
    ("likelihood", "outputs"), [(GaussianNoise(), 1), (GaussianNoise(0.1), 1), (HeteroscedasticNoise(), 2)]
)
def test_it_learns_a_regression(likelihood: Likelihood, outputs: int) -> None:
    x = inputs(90)
    y = x[:, 0] - 0.5 * x[:, 1]
    trained = train_dense(nn.Linear(6, outputs).double(), (x, y), likelihood=likelihood, **OPTIONS)
    assert float((trained(x)[:, 0].detach() - y).square().mean()) < 0.1 * float(y.var())


def test_the_seed_decides_and_nothing_else_is_changed() -> None:
    x, y = inputs(), labels()
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double().train()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    options: dict[str, Any] = {"likelihood": Categorical(), "epochs": 2, "batch_size": 6}
    one, same, other = (train_dense(net, (x, y), seed=seed, **options) for seed in (0, 0, 1))
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in same.state_dict().items())
    assert not torch.equal(one.get_parameter("0.weight"), other.get_parameter("0.weight"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items()) and net.training
    train_dense(net, (x, y), **options)
    assert not torch.equal(torch.get_rng_state(), state)


def test_held_out_rows_choose_the_epoch() -> None:
    x, clean = inputs(120), inputs(120)[:, 0] - 0.5 * inputs(120)[:, 1]
    noisy = clean + 2 * torch.randn(120, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    train, held_out = (x[:40], noisy[:40]), (x[40:], noisy[40:])
    net = mlp(6, (64,), 1).double()
    options: dict[str, Any] = {"likelihood": GaussianNoise(), **OPTIONS, "epochs": 200}
    last, best = (train_dense(net, train, validation=rows, **options) for rows in (None, held_out))
    losses = [float((trained(held_out[0])[:, 0].detach() - held_out[1]).square().mean()) for trained in (last, best)]
    assert losses[1] < 0.8 * losses[0] and losses[1] < float(held_out[1].var())
    options |= {"epochs": 40, "weight_decay": 0.0, "batch_size": 120}
    linear = nn.Linear(6, 1).double()
    last, best = (train_dense(linear, (x, clean), validation=rows, **options) for rows in (None, (x, clean)))
    assert torch.equal(last.get_parameter("weight"), best.get_parameter("weight"))  # the last is the best


def test_a_part_of_the_rows_is_held_out() -> None:
    x, y = inputs(90), labels(90)
    options: dict[str, Any] = {"likelihood": Categorical(), **OPTIONS, "epochs": 3}
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)).double()
    trained, same = (train_dense(net, (x, y), validation=0.2, **options) for _ in range(2))
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in trained.state_dict().items())
    assert not any(module.training for module in trained.modules())


def test_a_frozen_body_keeps_its_statistics() -> None:
    body = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)).double().eval().requires_grad_(False)
    net = nn.Sequential(body, nn.Linear(5, 3).double())
    before = copy.deepcopy(body.state_dict())
    trained = train_dense(net, (inputs(90), labels(90)), likelihood=Categorical(), validation=0.2, epochs=3, seed=0)
    assert all(torch.equal(value, before[name]) for name, value in trained.get_submodule("0").state_dict().items())
    assert not torch.equal(trained.get_parameter("1.weight"), net.get_parameter("1.weight"))


def test_dtype_follows_the_data_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    data = (inputs().float(), labels())
    trained = train_dense(mlp(6, (4,), 3).double(), data, likelihood=Categorical(), epochs=1)
    assert trained(inputs().float()).dtype == torch.float32
    assert capsys.readouterr() == ("", "")
    train_dense(mlp(6, (4,), 3), data, likelihood=Categorical(), epochs=1, progress=True)
    assert "dense" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"data": (inputs(), labels()[:3])}, "data must have as many rows"),
        ({"data": (inputs() / 0, labels())}, "data must be finite"),
        ({"data": (inputs(), labels() + 1)}, "y must hold labels in 0 ... 2"),
        ({"validation": 1.5}, "validation must be"),
        ({"validation": (inputs(), labels() + 1)}, "y must hold labels in 0 ... 2"),
        ({"likelihood": GaussianNoise()}, r"output must have shape \(rows, 1\)"),
        (
            {"learning_rate": 1e300, "epochs": 3},
            "the loss must stay finite, got nan in epoch ., step .: lower",
        ),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    given = {"data": (inputs(), labels()), "likelihood": Categorical(), "epochs": 1, **options}
    with pytest.raises(ValueError, match=message):
        train_dense(mlp(6, (4,), 3).double(), **given)


def test_inputs_are_changed_while_it_learns() -> None:
    x, y = inputs(90), labels(90)
    net = mlp(6, (8,), 3).double()
    options: dict[str, Any] = {**OPTIONS, "epochs": 2}
    seen: list[int] = []

    def change(rows: Tensor) -> Tensor:
        seen.append(len(rows))
        return torch.zeros_like(rows)

    trained = train_dense(net, (x, y), likelihood=Categorical(), augmentation=change, **options)
    assert seen == [30] * 6
    before, after = (part.get_parameter("hidden1.weight") for part in (net, trained))
    torch.testing.assert_close(after, before * decayed(options))
    with pytest.raises(ValueError, match="augmentation must be a function"):
        train_dense(net, (x, y), likelihood=Categorical(), augmentation="flip", **options)  # type: ignore[arg-type]


def decayed(options: Any) -> float:
    """What weight decay leaves of a weight that has no gradient."""
    steps = 3 * options["epochs"]
    rates = [options["learning_rate"] * 0.5 * (1 + math.cos(math.pi * i / steps)) for i in range(steps)]
    return float(math.prod(1 - 0.05 * rate for rate in rates))


def test_parts_of_a_batch_give_its_step() -> None:
    x, y = inputs(90), labels(90)
    net = mlp(6, (8,), 3).double()
    whole, parts = (
        train_dense(net, (x, y), likelihood=Categorical(), compute=Compute(accumulate=k), **{**OPTIONS, "epochs": 3})
        for k in (1, 4)
    )
    for one, other in zip(parts.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="engine must be 'auto' or 'eager', as dense training is eager, got 'traced'"):
        train_dense(net, (x, y), likelihood=Categorical(), compute=Compute(engine="traced"))


def test_lower_precision_and_another_layout_change_the_rounding_alone() -> None:
    x, y = torch.randn(24, 2, 6, 6), torch.arange(24) % 3
    net = nn.Sequential(nn.Conv2d(2, 6, 3), nn.SiLU(), nn.Flatten(), nn.Linear(96, 3))
    seen: list[bool] = []
    net[0].register_forward_pre_hook(
        lambda layer, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last))
    )
    options: dict[str, Any] = {"epochs": 3, "batch_size": 12, "learning_rate": 1e-4, "seed": 0}
    full, other, low = (
        train_dense(net, (x, y), likelihood=Categorical(), compute=compute, **options)
        for compute in (Compute(), Compute(channels_last=True), Compute(precision="bf16"))
    )
    assert not any(seen[1:7]) and all(seen[8:14]) and not any(seen[15:])  # the first call of each checks the data
    assert not torch.equal(low(x), full(x)) and all(p.dtype == torch.float32 for p in low.parameters())
    for trained in (other, low):
        torch.testing.assert_close(trained(x), full(x), rtol=0, atol=0.02)
    with pytest.raises(ValueError, match="precision='bf16' needs inputs in float32"):
        train_dense(net, (x.double(), y), likelihood=Categorical(), compute=Compute(precision="bf16"))


class Stopping:
    """An augmentation that changes inputs, and sends a signal at its n-th call."""

    def __init__(self, at: int) -> None:
        self.at, self.calls = [at], [0]

    def __call__(self, x: Tensor) -> Tensor:
        self.calls[0] += 1
        if self.calls[0] == self.at[0]:
            signal.raise_signal(signal.SIGINT)
        return x + 0.1 * torch.randn_like(x)


def test_a_training_that_was_stopped_is_resumed_with_the_same_result(tmp_path: Path) -> None:
    """The identity of a function is its values: here none that tell the calls apart."""
    x, y = inputs(60), labels(60)
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()

    def trained(at: int, checkpoint: Path | None, **changes: Any) -> nn.Module:
        options: dict[str, Any] = {**OPTIONS, "epochs": 8, "validation": 0.2, **changes}
        change = Stopping(at).__call__  # of which the name is compared
        return train_dense(
            net, (x, y), likelihood=Categorical(), augmentation=change, checkpoint=checkpoint, progress=False, **options
        )

    path = tmp_path / "dense.pt"
    expected = trained(0, None).state_dict()
    with pytest.raises(Interrupted, match="stopped after 3 of 8 epochs of dense training; the same call resumes"):
        trained(5, path)
    for _ in range(2):  # resumed, and then read as it was finished
        found = trained(0, path).state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in found.items())
    for changes, name in (
        ({"epochs": 9}, "epochs must be 8"),
        ({"seed": 1}, "seed must be 0"),
        ({"batch_size": 9}, ""),
    ):
        with pytest.raises(ValueError, match=f"{name}.* as when the run in .*dense.pt was begun"):
            trained(0, path, **changes)


def test_a_batch_that_is_not_finite_stops_the_training_at_its_step() -> None:
    calls = []

    def spoilt(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x * float("nan") if len(calls) == 5 else x

    words = "the loss must stay finite, got nan in epoch 2, step 2, where the inputs of the batch are not finite: lower"
    with pytest.raises(ValueError, match=words):
        train_dense(
            nn.Linear(6, 3).double(), (inputs(90), labels(90)), likelihood=Categorical(), augmentation=spoilt, **OPTIONS
        )


def test_one_row_that_is_left_over_is_joined_where_there_is_a_batch_norm() -> None:
    net = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3)).double()
    trained = train_dense(net, (inputs(31), labels(31)), likelihood=Categorical(), **{**OPTIONS, "epochs": 2})
    assert all(value.isfinite().all() for value in trained.state_dict().values())
