"""Nets with several inputs, token ids and outputs in a dictionary or an object go the whole way."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer import SVI, Trace_ELBO
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from bnn_pyro import (
    SamplingPlan,
    Schedule,
    fit,
    fit_sghmc,
    load_posterior,
    prune,
    refine,
    sample,
    save_posterior,
    train_dense,
)
from bnn_pyro.evaluation import compare_cost
from bnn_pyro.evaluation.memory import peak_activations
from bnn_pyro.evaluation.predicted_cost import predict_cost
from bnn_pyro.export import export_net
from bnn_pyro.inference.training.compute import Compute
from bnn_pyro.input_layout import call_with
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.nodes import find_nodes
from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.pruning.batch_norm import recompute_batch_norm
from bnn_pyro.pruning.cutting import cut, kept_positions
from bnn_pyro.refinement import Refinement
from guides import AutoSpikeSlab

ROWS = 48
SEED = torch.Generator().manual_seed(0)
X, Z = (torch.randn(ROWS, size, generator=SEED) for size in (4, 3))
IDS = torch.randint(0, 20, (ROWS, 5), generator=SEED)
MASK = (torch.rand(ROWS, 5, generator=SEED) < 0.8).index_fill(1, torch.tensor([0]), True)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.norm, self.out = nn.Linear(4, 6), nn.Linear(3, 6), nn.BatchNorm1d(12), nn.Linear(12, 2)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        output: Tensor = self.out(torch.relu(self.norm(torch.cat([self.a(x), self.b(z)], 1))))
        return output


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(20, 6), nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        return {"logits": self.out(torch.relu(self.hidden(self.embedding(ids).mean(1))))}


@dataclass
class Answer:
    logits: Tensor
    hidden: Tensor


class MaskedWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.hidden, self.out = nn.Embedding(20, 6), nn.Linear(10, 8), nn.Linear(8, 2)

    def forward(self, ids: Tensor, features: Tensor, mask: Tensor) -> Any:
        weights = mask.to(features.dtype).unsqueeze(-1)
        mean = (self.embedding(ids) * weights).sum(1) / weights.sum(1)
        hidden = torch.relu(self.hidden(torch.cat([mean, features], 1)))
        return Answer(self.out(hidden), hidden)


CASES: dict[str, tuple[type[nn.Module], Any, Tensor, dict[str, int]]] = {
    "two inputs": (TwoInputs, (X, Z), (X[:, 0] + Z[:, 0] > 0).long(), {"a": 6, "b": 6}),
    "token ids": (Words, IDS, (IDS[:, 0] > 9).long(), {"embedding": 6, "hidden": 8}),
    "by name": (
        MaskedWords,
        {"ids": IDS, "features": X, "mask": MASK},
        (X[:, 0] > 0).long(),
        {"embedding": 6, "hidden": 8},
    ),
}
every_net = pytest.mark.parametrize(("net", "inputs", "y", "nodes"), CASES.values(), ids=CASES.keys())


def rows_of(inputs: Any, rows: slice) -> Any:
    if isinstance(inputs, Tensor):
        return inputs[rows]
    if isinstance(inputs, Mapping):
        return {name: part[rows] for name, part in inputs.items()}
    return tuple(part[rows] for part in inputs)


def made(net: type[nn.Module]) -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return net()


def model_of(net: type[nn.Module], inputs: Any, *, spike: bool = True) -> SparseNetwork:
    prior = SpikeSlab(Gaussian(), inclusion=0.5) if spike else Gaussian()
    return SparseNetwork(made(net), rows_of(inputs, slice(2)), prior=prior, likelihood=Categorical(), num_data=ROWS)


def some(found: Any) -> dict[str, Tensor]:
    """Masks that close every third node."""
    return {group.name: torch.arange(group.size) % 3 > 0 for group in found.groups}


@every_net
def test_nodes_are_found_and_cut_exactly(net: type[nn.Module], inputs: Any, y: Tensor, nodes: dict[str, int]) -> None:
    whole = made(net).eval()
    found = find_nodes(whole, rows_of(inputs, slice(3)))
    assert {group.name: group.size for group in found.groups} == nodes
    keep = some(found)
    with torch.no_grad():
        for group in found.groups:
            for axis in group.readers:
                closed = ~axis.spread(keep[group.name])
                whole.get_parameter(axis.parameter).index_fill_(axis.dim, closed.nonzero().flatten(), 0.0)
    small = cut(whole, found.groups, keep)
    torch.testing.assert_close(call_with(small, inputs), call_with(whole, inputs))
    positions = kept_positions(whole, found.groups, keep)
    assert compare_cost(whole, small, inputs).pruned == predict_cost(whole, positions, inputs)
    assert peak_activations(small, inputs) < peak_activations(whole, inputs)


@every_net
def test_the_whole_way(net: type[nn.Module], inputs: Any, y: Tensor, nodes: dict[str, int], tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 40, "batch_size": 16, "learning_rate": 0.05, "weight_decay": 0.0, "seed": 0}
    dense = train_dense(made(net), (inputs, y), likelihood=Categorical(), **options)
    assert (call_with(dense, inputs).argmax(1) == y).float().mean() > 0.9
    model = model_of(net, inputs)
    posterior = fit(model, (inputs, y), epochs=3, batch_size=20, seed=0, validation=(inputs, y))
    probabilities = posterior.predict(inputs)
    assert probabilities.shape == (ROWS, 2)
    assert set(posterior.evaluate(inputs, y)) >= {"accuracy", "nll"}
    keep = some(model.nodes)
    small = prune(posterior, keep=keep)
    expected = call_with(posterior.median_model(keep=keep), inputs)
    torch.testing.assert_close(call_with(small, inputs), expected)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.net.parameters())
    save_posterior(posterior, tmp_path / "posterior.pt")
    loaded = load_posterior(tmp_path / "posterior.pt", model_of(net, inputs))
    torch.testing.assert_close(loaded.evaluate_median(inputs, y), posterior.evaluate_median(inputs, y))
    export_net(small, inputs, tmp_path / "net.pt2")
    program = torch.export.load(tmp_path / "net.pt2").module()
    few = rows_of(inputs, slice(7))
    torch.testing.assert_close(call_with(program, few), expected[:7])


@every_net
def test_predictions_are_exported(
    net: type[nn.Module], inputs: Any, y: Tensor, nodes: dict[str, int], tmp_path: Path
) -> None:
    ensemble = fit_sghmc(model_of(net, inputs, spike=False), (inputs, y), epochs=4, batch_size=24, seed=0)
    export_net(predictive_net(ensemble), inputs, tmp_path / "mean.pt2")
    program = torch.export.load(tmp_path / "mean.pt2").module()
    few = rows_of(inputs, slice(7))
    torch.testing.assert_close(call_with(program, few), ensemble.predict(few))


@every_net
def test_chains(net: type[nn.Module], inputs: Any, y: Tensor, nodes: dict[str, int]) -> None:
    plan = SamplingPlan(chains=2, draws=4, warmup=4)
    sampled = sample(model_of(net, inputs, spike=False), (inputs, y), plan, seed=0)
    assert sampled.predict(inputs).shape == (ROWS, 2) and sampled.log_likelihood(inputs, y).shape == (2, 4, ROWS)


@every_net
def test_steps_are_traced_and_those_of_pyro(
    net: type[nn.Module], inputs: Any, y: Tensor, nodes: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """The traced step serves them, and Pyro's own SVI takes the inputs as they are."""
    model = model_of(net, inputs)
    with caplog.at_level(logging.INFO):
        fit(model, (inputs, y), epochs=1, batch_size=24, seed=0, compute=Compute(engine="traced"))
    assert "traced the step" in caplog.text and "cannot be traced" not in caplog.text
    step = SVI(model, AutoSpikeSlab(model.prior), Adam({"lr": 0.01}), Trace_ELBO()).step
    assert step(inputs, y) > 0  # type: ignore[no-untyped-call]


def test_data_of_every_kind() -> None:
    """A data set of pairs, and loaders of batches with labels, give what tensors give."""
    net, inputs, y, _ = CASES["by name"]

    class Items(Dataset[dict[str, Tensor]]):
        def __len__(self) -> int:
            return ROWS

        def __getitem__(self, row: int) -> dict[str, Tensor]:
            return {**{name: part[row] for name, part in inputs.items()}, "labels": y[row]}

    options: dict[str, Any] = {"epochs": 2, "batch_size": 20, "seed": 0}
    model = model_of(net, inputs)
    expected = fit(model, (inputs, y), **options)
    for data in (Items(), DataLoader(Items(), batch_size=9), ({k: v.numpy() for k, v in inputs.items()}, y.numpy())):
        found = fit(model, data, **options)
        assert [r["loss"] for r in found.history] == [r["loss"] for r in expected.history]
    torch.testing.assert_close(
        found.evaluate_median(DataLoader(Items(), batch_size=9), y), found.evaluate_median(inputs, y)
    )


def test_statistics_of_batch_norms_are_recomputed() -> None:
    net = made(TwoInputs)
    fresh = recompute_batch_norm(net, (X, Z))
    with torch.no_grad():
        hidden = torch.cat([net.get_submodule("a")(X), net.get_submodule("b")(Z)], 1)
    torch.testing.assert_close(fresh.get_buffer("norm.running_mean"), hidden.mean(0))


def test_a_pruned_net_is_sampled() -> None:
    net, inputs, y, _ = CASES["two inputs"]
    posterior = fit(model_of(net, inputs), (inputs, y), epochs=2, schedule=Schedule(hold=0), seed=0)
    plan = SamplingPlan(kernel="mclmc", chains=2, draws=4, warmup=8)
    refined = refine(posterior, (inputs, y), Refinement(plan=plan, until=None), seed=0)
    assert refined.predict(inputs).shape == (ROWS, 2)
    with pytest.raises(ValueError, match=r"inputs must be None for a net that does not read features alone, got a"):
        refine(posterior, (inputs, y), inputs=torch.ones(7, dtype=torch.bool))


def test_an_augmentation_gets_the_inputs_in_their_form() -> None:
    net, inputs, y, _ = CASES["by name"]
    seen: list[Any] = []

    def change(batch: Any) -> Any:
        seen.append(batch)
        return batch

    fit(model_of(net, inputs), (inputs, y), epochs=1, batch_size=20, seed=0, augmentation=change)
    assert {name: part.dtype for name, part in seen[0].items()} == {name: part.dtype for name, part in inputs.items()}


def test_token_ids_have_no_scale(caplog: pytest.LogCaptureFixture) -> None:
    net, inputs, y, _ = CASES["token ids"]
    fit(model_of(net, inputs), (100 * inputs.clamp(max=0), y), epochs=1, seed=0)
    assert "far from unit scale" not in caplog.text


def test_inputs_of_another_form_are_refused() -> None:
    net, inputs, y, _ = CASES["two inputs"]
    model = model_of(net, inputs)
    with pytest.raises(ValueError, match=r"data must be a tuple of real \(rows, 4\), real \(rows, 3\), got tuple of"):
        fit(model, ((Z, X), y), epochs=1)
    posterior = fit(model, (inputs, y), epochs=1, seed=0)
    with pytest.raises(ValueError, match=r"x must be a tuple of .*, got float32 \(48, 4\)"):
        posterior.predict(X)
    with pytest.raises(ValueError, match=r"find_nodes: inputs=True needs .*the net takes a tuple of real"):
        SparseNetwork(
            made(net), inputs, prior=SpikeSlab(Gaussian()), likelihood=GaussianNoise(), num_data=9, select_inputs=True
        )


def test_another_form_of_inputs_is_another_network(tmp_path: Path) -> None:
    net, inputs, y, _ = CASES["two inputs"]
    posterior = fit(model_of(net, inputs), (inputs, y), epochs=1, seed=0)
    save_posterior(posterior, tmp_path / "posterior.pt")
    named = model_of(net, {"x": X, "z": Z})
    with pytest.raises(ValueError, match=r"with network.inputs 'a tuple of .*', got \"a dictionary of 'x'"):
        load_posterior(tmp_path / "posterior.pt", named)


# ---- recurrent layers ------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.rnn: nn.Module = kind(3, 4, num_layers=2, batch_first=True)
        self.hidden, self.out = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.out(torch.relu(self.hidden(self.rnn(x)[0][:, -1])))
        return output


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU], ids=lambda kind: str(kind.__name__))
def test_recurrent_layers_are_bayesian(kind: type[nn.LSTM | nn.GRU], caplog: pytest.LogCaptureFixture) -> None:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net, x = Recurrent(kind), torch.randn(ROWS, 3, 3)
    y = (x.sum((1, 2)) > 0).long()
    model = SparseNetwork(
        net, x[:2], prior=SpikeSlab(Gaussian(), inclusion=0.5), likelihood=Categorical(), num_data=ROWS
    )
    rows = 16 if kind is nn.LSTM else 12
    assert {name: size for name, (size, _) in model.layers.items()} == {
        "rnn.l0": rows,
        "rnn.l1": rows,
        "hidden": 6,
        "out": 2,
    }
    assert set(dict(net.named_parameters())) == {parameter.name for parameter in model.bayesian}
    with caplog.at_level(logging.INFO):
        traced = fit(model, (x, y), epochs=2, batch_size=24, seed=0, compute=Compute(engine="traced"))
    assert "traced the step" in caplog.text and "cannot be traced" not in caplog.text
    drawn = traced.predict(x, num_samples=3, return_draws=True)
    assert isinstance(drawn, Classes) and (drawn.draws.std(0) > 0).all()
    keep = some(model.nodes)
    torch.testing.assert_close(prune(traced, keep=keep)(x), traced.median_model(keep=keep)(x))


# ---- a model of the library `transformers` ---------------------------------------------------------------------------


@pytest.fixture
def bert() -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="the library of Hugging Face is not installed")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12, num_labels=2
    )
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        net: nn.Module = transformers.BertForSequenceClassification(config)
    return net


def test_bert(bert: nn.Module) -> None:
    inputs, y = {"input_ids": IDS, "attention_mask": MASK.long()}, (IDS[:, 0] > 9).long()
    found = find_nodes(bert, rows_of(inputs, slice(3)))
    sizes = {group.name: group.size for group in found.groups}
    assert sizes["bert.encoder.layer.0.intermediate.dense"] == 12
    model = SparseNetwork(
        bert, rows_of(inputs, slice(2)), prior=SpikeSlab(Gaussian()), likelihood=Categorical(), num_data=ROWS
    )
    posterior = fit(model, (inputs, y), epochs=2, batch_size=24, seed=0)
    assert posterior.predict(inputs).shape == (ROWS, 2)
    keep = some(model.nodes)
    with torch.no_grad():
        small, median = prune(posterior, keep=keep), posterior.median_model(keep=keep)
        torch.testing.assert_close(small(**inputs).logits, median(**inputs).logits)
