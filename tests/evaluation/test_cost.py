"""Cost: counts by hand, the network left as it was, timing side by side."""

import time

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.cost import (
    Cost,
    Latency,
    compare_cost,
    count_flops,
    count_parameters,
    measure_cost,
    measure_latency,
    nodes_kept,
    one_sided_parameters,
)


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def first(nodes: int, total: int) -> Tensor:
    """Return a mask that keeps the first of all nodes."""
    return torch.arange(total) < nodes


class Recorder(nn.Module):
    """A module that writes down how it was called."""

    def __init__(self, name: str, calls: list[tuple[str, bool, bool]], seconds: float = 0.0) -> None:
        super().__init__()
        self.name, self.calls, self.seconds = name, calls, seconds

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append((self.name, self.training, torch.is_inference_mode_enabled()))
        time.sleep(self.seconds)
        return x


# counts


def test_parameters_of_the_authors_mlp_dense_and_pruned_two_sided() -> None:
    assert count_parameters(mlp(784, 400, 400, 10)) == 478_410
    assert count_parameters(mlp(784, 25, 15, 10)) == 785 * 25 + 26 * 15 + 16 * 10 == 20_175


def test_a_shared_parameter_counts_once_a_frozen_one_too_and_a_buffer_never() -> None:
    layer = nn.Linear(4, 4)
    layer.bias.requires_grad_(False)
    assert count_parameters(nn.Sequential(layer, layer, nn.BatchNorm1d(4))) == 20 + 8


def test_parameters_one_sided_of_the_authors_mlp() -> None:
    net, alive = mlp(784, 400, 400, 10), {"0": first(25, 400), "2": first(15, 400)}
    rows = {f"{layer}.{kind}": mask for layer, mask in alive.items() for kind in ("weight", "bias")}
    assert one_sided_parameters(net, rows) == 785 * 25 + 401 * 15 + 401 * 10 == 29_650
    assert one_sided_parameters(net, {}) == 478_410


def test_one_sided_count_of_a_convolution_goes_by_its_filters() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 5, bias=False), nn.BatchNorm2d(8))
    rows = {name: first(2, 8) for name, _ in net.named_parameters()}
    assert one_sided_parameters(net, rows) == 2 * 75 + 2 + 2
    assert one_sided_parameters(net, {"0.weight": first(0, 8)}) == 16


def test_flops_of_an_mlp_are_two_a_weight_for_each_datum() -> None:
    net = mlp(784, 400, 400, 10)
    weights = 784 * 400 + 400 * 400 + 400 * 10
    assert count_flops(net, torch.zeros(1, 784)) == count_flops(net, torch.zeros(32, 784)) == 2 * weights


def test_flops_of_a_convolution() -> None:
    net = nn.Sequential(nn.Conv2d(1, 20, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(20 * 12 * 12, 10))
    assert count_flops(net, torch.zeros(3, 1, 28, 28)) == 2 * (20 * 25 * 24 * 24 + 20 * 12 * 12 * 10)


def test_flops_of_attention_are_not_lost_in_a_fused_kernel() -> None:
    net = nn.TransformerEncoderLayer(16, 2, dim_feedforward=32, batch_first=True)
    length = 5
    projections = length * (16 * 48 + 16 * 16 + 16 * 32 + 32 * 16)
    scores = 2 * length * length * 16
    with torch.no_grad():
        assert count_flops(net, torch.zeros(4, length, 16)) == 2 * (projections + scores)


@pytest.mark.parametrize("x", [torch.zeros(0, 4), torch.tensor(1.0)])
def test_flops_need_a_datum(x: Tensor) -> None:
    with pytest.raises(ValueError, match="example_input must have shape"):
        count_flops(mlp(4, 3), x)


def test_cost_and_kept_fractions() -> None:
    dense, pruned, x = mlp(784, 400, 400, 10), mlp(784, 25, 15, 10), torch.zeros(2, 784)
    comparison = compare_cost(dense, pruned, x)
    assert comparison.pruned == measure_cost(pruned, x) == Cost(20_175, 2 * (784 * 25 + 25 * 15 + 15 * 10))
    assert comparison.params_kept == 20_175 / 478_410
    assert comparison.flops_kept == (784 * 25 + 25 * 15 + 15 * 10) / (784 * 400 + 400 * 400 + 400 * 10)
    same = compare_cost(dense, dense, x)
    assert (same.params_kept, same.flops_kept) == (1.0, 1.0)


def test_nothing_to_compare_with() -> None:
    with pytest.raises(ValueError, match="dense must have parameters and FLOPs"):
        compare_cost(nn.SiLU(), mlp(3, 2), torch.zeros(1, 3))


def test_nodes_kept() -> None:
    masks = {"input": first(3, 5), "hidden": first(0, 4), "all": first(2, 2)}
    assert nodes_kept(masks) == {"input": [3, 5], "hidden": [0, 4], "all": [2, 2]}


@pytest.mark.parametrize("mask", [torch.ones(3), torch.ones(3, 1, dtype=torch.bool), torch.tensor(True)])
def test_masks_are_bool_and_one_dimensional(mask: Tensor) -> None:
    with pytest.raises(ValueError, match=r"keep\['h'\] must be a one-dimensional bool mask"):
        nodes_kept({"h": mask})
    with pytest.raises(ValueError, match=r"alive_rows\['0.weight'\] must be a one-dimensional bool mask"):
        one_sided_parameters(mlp(4, 3), {"0.weight": mask})


def test_alive_rows_must_fit_the_network() -> None:
    with pytest.raises(ValueError, match=r"got 1.weight: net has 0.weight, 0.bias"):
        one_sided_parameters(mlp(4, 3), {"1.weight": first(1, 3)})
    with pytest.raises(ValueError, match=r"must have shape \(3,\), got \(4,\)"):
        one_sided_parameters(mlp(4, 3), {"0.weight": first(1, 4)})


# the network is left as it was


def test_training_flags_gradients_and_buffers_are_left_as_they_were() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))
    net[1].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    x = torch.randn(8, 4, requires_grad=True)
    count_flops(net, x)
    measure_latency({"net": net}, x, repeats=1, warmup=0)
    assert [module.training for module in net.modules()] == [True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert x.grad is None and all(parameter.grad is None for parameter in net.parameters())


def test_training_flags_come_back_after_an_error() -> None:
    net = mlp(4, 3)
    for call in (lambda: count_flops(net, torch.zeros(1, 5)), lambda: measure_latency({"a": net}, torch.zeros(1, 5))):
        with pytest.raises(RuntimeError):
            call()
        assert all(module.training for module in net.modules())


# latency


def test_networks_take_turns_in_evaluation_and_inference_mode() -> None:
    calls: list[tuple[str, bool, bool]] = []
    nets = {"a": Recorder("a", calls), "b": Recorder("b", calls)}
    latencies = measure_latency(nets, torch.zeros(1), repeats=3, warmup=2)
    assert calls == [("a", False, True), ("b", False, True)] * 5
    assert list(latencies) == ["a", "b"]
    assert all(net.training for net in nets.values()) and not torch.is_inference_mode_enabled()


def test_latency_is_in_seconds_and_its_summary_in_order() -> None:
    nets = {"slow": Recorder("slow", [], 0.01), "fast": Recorder("fast", [])}
    latencies = measure_latency(nets, torch.zeros(1), repeats=5, warmup=1)
    for latency in latencies.values():
        assert 0 < latency.minimum <= latency.median <= latency.maximum
    assert latencies["slow"].minimum >= 0.01 > latencies["fast"].minimum


def test_warmup_is_not_timed() -> None:
    class Lazy(nn.Module):
        passes = 0

        def forward(self, x: Tensor) -> Tensor:
            self.passes += 1
            time.sleep(0.2 if self.passes == 1 else 0.0)
            return x

    assert measure_latency({"lazy": Lazy()}, torch.zeros(1), repeats=3, warmup=1)["lazy"].maximum < 0.2


def test_median_of_the_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 5.0, 6.0, 6.0, 8.0])
    monkeypatch.setattr("bnn_pyro.evaluation.cost.perf_counter", lambda: next(clock))
    assert measure_latency({"a": nn.SiLU()}, torch.zeros(1), repeats=3, warmup=0) == {"a": Latency(2.0, 1.0, 5.0)}


@pytest.mark.gpu
def test_cuda_work_is_waited_for() -> None:
    """One product of 4096 x 4096 matrices alone is 137 GFLOP; without waiting only the launches would be timed."""
    net = nn.Sequential(*[nn.Linear(4096, 4096) for _ in range(10)]).to("cuda")
    x = torch.randn(4096, 4096, device="cuda")
    seconds = measure_latency({"net": net}, x, repeats=3, warmup=2)["net"].minimum
    assert count_flops(net, x[:1]) * 4096 / seconds < 2e15


def test_bad_requests_for_a_timing() -> None:
    net, x = mlp(4, 3), torch.zeros(2, 4)
    with pytest.raises(ValueError, match="nets must hold at least one network"):
        measure_latency({}, x)
    with pytest.raises(ValueError, match="x must have shape"):
        measure_latency({"net": net}, x[:0])
    with pytest.raises(ValueError, match="got 0 and 5"):
        measure_latency({"net": net}, x, repeats=0)
    with pytest.raises(ValueError, match="got 30 and -1"):
        measure_latency({"net": net}, x, warmup=-1)
