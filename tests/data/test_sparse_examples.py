"""The sparse examples' data: their law, their truth, and that train and test rows have nothing in common."""

import math

import pytest
import torch

from bnn_pyro.data.sparse_examples import SPARSE_EXAMPLES, SparseExample

EXAMPLES = pytest.mark.parametrize("example", SPARSE_EXAMPLES.values(), ids=lambda example: example.name)


@EXAMPLES
def test_inputs_have_variance_one_and_correlation_one_half(example: SparseExample) -> None:
    x, _ = example.draw(4000, 0)
    assert x.shape == (4000, example.inputs)
    correlation = torch.corrcoef(x[:, :40].T)
    assert (correlation - 0.5 - 0.5 * torch.eye(40)).abs().max() < 6 / math.sqrt(4000)
    assert (x.var(0) - 1).abs().max() < 0.15 and x.mean(0).abs().max() < 6 / math.sqrt(4000)


@EXAMPLES
def test_only_the_relevant_inputs_matter(example: SparseExample) -> None:
    x, _ = example.draw(200, 0)
    signal = example.truth(x)
    others = x.clone()
    others[:, example.relevant :] += 1
    assert torch.equal(example.truth(others), signal)
    for column in range(example.relevant):
        changed = x.clone()
        changed[:, column] += 1
        assert (example.truth(changed) != signal).float().mean() > 0.9


def test_signals_have_the_known_sizes() -> None:
    """Variances 2.8 and 27 of the signals, about half of the labels 1, noise of variance 1."""
    for name, variance in (("example1", 2.8), ("example2", 26.9)):
        example = SPARSE_EXAMPLES[name]
        x, y = example.draw(10_000, 0)
        signal = example.truth(x)
        assert float(signal.var()) == pytest.approx(variance, rel=0.1)
        assert float((y - signal).var()) == pytest.approx(1.0, rel=0.06)
    _, labels = SPARSE_EXAMPLES["example3"].draw(10_000, 0)
    assert labels.dtype == torch.int64 and float(labels.double().mean()) == pytest.approx(0.49, abs=0.03)


def test_truths_at_a_point() -> None:
    x = torch.tensor([[0.5, -1.0, 2.0, 0.25, -0.5, 9.0]], dtype=torch.float64)
    t = math.tanh
    expected = {
        "example1": t(2 * t(2 * 0.5 + 1)) + 2 * t(t(2.0 - 0.5)) - t(-1.0),
        "example2": 5 * -1.0 / 1.25 + 5 * math.sin(0.5) - 1.0,
        "example3": math.exp(0.5) + 1 + 5 * math.sin(0.5) - 3,
    }
    assert {name: float(e.truth(x)) for name, e in SPARSE_EXAMPLES.items()} == pytest.approx(expected)


@EXAMPLES
def test_draws_are_of_the_seed(example: SparseExample) -> None:
    state = torch.random.get_rng_state()
    (x, y), again, other = example.draw(400, 3), example.draw(400, 3), example.draw(400, 4)
    test = example.draw(400, 3, test=True)
    assert torch.equal(x, again[0]) and torch.equal(y, again[1])
    for foreign in (other[0], test[0]):
        both = torch.stack(
            [x.mean(1), foreign.mean(1), x[:, 0], foreign[:, 0]]
        )  # what rows have in common, and one input
        correlation = torch.corrcoef(both)[[0, 2], [1, 3]]
        assert correlation.abs().max() < 5 / 20
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(("rows", "seed"), [(0, 0), (5, -1), (5, 2**31)])
def test_refusals(rows: int, seed: int) -> None:
    with pytest.raises(ValueError, match="rows must be at least 1 and seed in"):
        SPARSE_EXAMPLES["example1"].draw(rows, seed)
