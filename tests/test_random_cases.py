"""What holds for any shape, dtype and hyper-parameter, on examples that hypothesis draws, always the same."""

import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyro
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from torch import Tensor
from torch.distributions import Gamma, InverseGamma, LogNormal, Normal, kl_divergence

from bnn_pyro import Compute, Gaussian, GaussianNoise, GroupHorseshoe, GroupLasso, SparseNetwork, SpikeSlab, fit, prune
from bnn_pyro.export import load_net, save_net
from bnn_pyro.identity import described, digest
from bnn_pyro.inference.training.batches import sizes_of_batches
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.files import load_posterior, save_posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import inclusion_probability
from bnn_pyro.storage import read_whole, write_whole
from guides import AutoSpikeSlab
from guides.divergences import bernoulli_divergence, normal_divergence, relaxed_divergence, unit_divergence

DTYPES = (torch.float32, torch.float64)
ANY_DTYPE = (*DTYPES, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool, torch.complex64)
shapes = some.lists(some.integers(0, 4), max_size=3).map(tuple)
seeds = some.integers(0, 2**31)
log_odds = some.floats(-30, 30, allow_subnormal=False)  # which processes can be set to flush to zero
locations, scales = some.floats(-5, 5, allow_subnormal=False), some.floats(0.05, 5)


def examples(count: int) -> Callable[[Any], Any]:
    """So many examples, the same ones each time."""
    options: Any = settings(max_examples=count, derandomize=True, deadline=None, database=None)
    return options  # type: ignore[no-any-return]


def drawn(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(shape, generator=generator) * 3
    return (values > 0) if dtype == torch.bool else values.abs().to(dtype) if dtype == torch.uint8 else values.to(dtype)


# ---- divergences -----------------------------------------------------------------------------------------------------


@examples(60)
@given(log_odds, log_odds, some.sampled_from(DTYPES))
def test_divergences_of_gates(one: float, other: float, dtype: torch.dtype) -> None:
    """None is negative, equal gates have none, and rounding a gate does not add to it."""
    logits, prior = torch.tensor(one, dtype=dtype), torch.tensor(other, dtype=dtype)
    rounded, relaxed = bernoulli_divergence(logits, prior), relaxed_divergence(logits, prior)
    assert rounded.dtype == relaxed.dtype == dtype and rounded.shape == ()
    noise = 100 * torch.finfo(dtype).eps * max(1.0, abs(one), abs(other))
    assert -noise <= rounded <= relaxed + noise
    assert abs(bernoulli_divergence(prior, prior)) <= noise and relaxed_divergence(prior, prior) == 0
    delta = abs(float(logits) - float(prior))
    exact = delta / math.tanh(delta / 2) - 2 if delta > 0.01 else delta**2 / 6
    assert float(relaxed) == pytest.approx(exact, rel=2e-4, abs=10 * noise)


@examples(60)
@given(locations, scales, locations, scales, some.sampled_from(DTYPES), shapes)
def test_divergences_of_slabs(
    loc: float, scale: float, prior_loc: float, prior_scale: float, dtype: torch.dtype, shape: tuple[int, ...]
) -> None:
    mu, sigma, m, s = (torch.full(shape, value, dtype=dtype) for value in (loc, scale, prior_loc, prior_scale))
    found = normal_divergence(mu, sigma, m, s)
    assert found.shape == shape and found.dtype == dtype
    expected = kl_divergence(Normal(mu, sigma), Normal(m, s))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    unit = unit_divergence(mu, sigma)
    torch.testing.assert_close(unit, normal_divergence(mu, sigma, 0 * mu, 0 * mu + 1), atol=1e-5, rtol=1e-4)


@examples(30)
@given(some.floats(-2, 2, allow_subnormal=False), some.floats(0.1, 1), some.floats(0.2, 4), some.floats(0.2, 4))
def test_divergences_of_scales(loc: float, scale: float, shape: float, rate: float) -> None:
    """By the midpoint rule over the logarithm; an inverse of a LogNormal has the other form with its sign changed."""
    mu, sigma, a, b = (torch.tensor(value, dtype=torch.float64) for value in (loc, scale, shape, rate))
    q, gamma, inverse = LogNormal(mu, sigma), Gamma(a, b), InverseGamma(a, b)
    at = (loc + scale * torch.linspace(-12, 12, 4001, dtype=torch.float64)).exp()
    weights = torch.softmax(q.log_prob(at) + at.log(), 0)
    priors: Any = (gamma, inverse)
    for prior in priors:
        expected = (weights * (q.log_prob(at) - prior.log_prob(at))).sum()
        torch.testing.assert_close(kl_divergence(q, prior), expected, rtol=1e-6, atol=1e-8)
    mirrored = LogNormal(-mu, sigma)
    torch.testing.assert_close(kl_divergence(mirrored, gamma) - kl_divergence(q, inverse), 0 * mu, rtol=0, atol=1e-9)


# ---- priors ----------------------------------------------------------------------------------------------------------

SLABS = (Gaussian, GroupLasso, GroupHorseshoe)


@examples(30)
@given(some.integers(1, 5), some.integers(1, 4), some.sampled_from(SLABS), scales, some.floats(1e-6, 0.999), seeds)
def test_priors_draw_what_the_network_takes(
    width: int, outputs: int, slab: Any, sigma: float, inclusion: float, seed: int
) -> None:
    prior = SpikeSlab(slab(sigma=sigma), inclusion=inclusion)
    model = SparseNetwork(
        mlp(3, (width,), outputs), torch.zeros(2, 3), prior=prior, likelihood=GaussianNoise(), num_data=10
    )
    torch.manual_seed(seed)
    sites: Any = pyro.poutine.trace(model.prior).get_trace().nodes
    gates = sites["hidden1.gate"]["value"]
    assert gates.shape == (width,) and bool(((gates >= 0) & (gates <= 1)).all())
    assert sites["hidden1.weight"]["value"].shape == (width, 3)
    assert sites["output.weight"]["value"].shape == (outputs, width)
    assert all(bool(site["value"].isfinite().all()) for site in sites.values() if site["type"] == "sample")


@examples(40)
@given(some.lists(some.integers(1, 1000), min_size=3, max_size=6), some.integers(2, 10**7))
def test_inclusion_probabilities_are_probabilities(widths: list[int], rows: int) -> None:
    few, many = inclusion_probability(widths, rows), inclusion_probability(widths, 10 * rows)
    assert len(few) == len(widths) - 2
    for one, other, out in zip(few, many, widths[1:-1], strict=True):
        assert 0 < other < one <= 1 / out


# ---- networks and files ----------------------------------------------------------------------------------------------


@examples(10)
@given(
    some.lists(some.integers(1, 6), min_size=1, max_size=3),
    some.integers(1, 5),
    some.integers(1, 3),
    some.booleans(),
    some.sampled_from(DTYPES),
    some.integers(1, 4),
    seeds,
)
def test_pruned_nets_are_the_median_model_and_files_give_both_back(
    hidden: list[int], inputs: int, outputs: int, select: bool, dtype: torch.dtype, multiple: int, seed: int
) -> None:
    torch.manual_seed(seed)
    net, x = mlp(inputs, tuple(hidden), outputs).to(dtype), torch.randn(5, inputs, dtype=dtype)
    prior = SpikeSlab(Gaussian(), inclusion=0.5)
    options: Any = {"prior": prior, "likelihood": GaussianNoise(), "num_data": 9, "select_inputs": select}
    model = SparseNetwork(net, x[:2], **options)
    guide = AutoSpikeSlab(model.prior)
    with torch.no_grad():
        for role, _, parameter in guide.named_site_parameters():
            if role == "logits":
                parameter.copy_(torch.randn_like(parameter))
    posterior = GuidePosterior(model, guide)
    expected = posterior.median_model()(x)
    small = prune(posterior, multiple=multiple)
    assert expected.dtype == dtype and small(x).shape == (5, outputs)
    torch.testing.assert_close(small(x), expected)
    with TemporaryDirectory() as folder:
        save_net(small, folder)
        assert torch.equal(load_net(folder, net)(x), small(x))
        save_posterior(posterior, Path(folder) / "it.pt")
        again = load_posterior(Path(folder) / "it.pt", SparseNetwork(net, x[:2], **options))
        assert torch.equal(again.median_model()(x), expected)


@examples(15)
@given(some.dictionaries(some.text(max_size=5), some.tuples(shapes, some.sampled_from(ANY_DTYPE), seeds), max_size=4))
def test_files_give_back_tensors_of_any_shape_and_dtype(drawn_as: dict[str, tuple[Any, torch.dtype, int]]) -> None:
    tensors = {name: drawn(*values) for name, values in drawn_as.items()}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "it.pt"
        write_whole({"form": 1, "values": tensors}, path)
        found = read_whole(path, writer="the test", mark="form", form=1, keys={"values"})["values"]
    assert found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype and found[name].shape == tensor.shape
        assert torch.equal(found[name], tensor)


@examples(40)
@given(shapes, some.sampled_from(ANY_DTYPE), seeds)
def test_a_digest_tells_values_shapes_and_dtypes_apart(shape: tuple[int, ...], dtype: torch.dtype, seed: int) -> None:
    tensor = drawn(shape, dtype, seed)
    assert digest(tensor) == digest(tensor.clone()) and described("x", tensor) == described("x", tensor.clone())
    others = [tensor.unsqueeze(0), tensor.to(torch.complex128)]
    if tensor.numel():
        changed = tensor.clone().reshape(-1)
        changed[-1] = ~changed[-1] if dtype == torch.bool else changed[-1] + 64
        others.append(changed.reshape(shape))
    for other in others:
        assert digest(tensor) != digest(other) and described("x", tensor) != described("x", other)


# ---- training --------------------------------------------------------------------------------------------------------


@examples(60)
@given(some.integers(1, 300), some.integers(1, 70), some.booleans())
def test_batches_have_every_row_once(rows: int, size: int, join: bool) -> None:
    sizes = sizes_of_batches(rows, size, join=join)
    assert sum(sizes) == rows and min(sizes) >= 1 and max(sizes) <= size + join
    assert not join or rows == 1 or size == 1 or min(sizes) > 1


@examples(5)
@given(
    some.integers(2, 40),
    some.integers(1, 50),
    some.integers(1, 3),
    some.lists(some.integers(1, 4), min_size=1, max_size=2),
    some.sampled_from(DTYPES),
    some.sampled_from(SLABS),
    some.floats(0.01, 1.0),
    some.booleans(),
)
def test_fits_of_any_size_end_with_finite_numbers(
    rows: int,
    batch_size: int,
    epochs: int,
    hidden: list[int],
    dtype: torch.dtype,
    slab: Any,
    kl_weight: float,
    of_classes: bool,
) -> None:
    x = drawn((rows, 3), dtype, rows)
    y = (x[:, 0] > 0).long() if of_classes else x[:, 0]
    torch.manual_seed(0)
    model = SparseNetwork(
        mlp(3, tuple(hidden), 2 if of_classes else 1).to(dtype),
        x[:2],
        prior=SpikeSlab(slab(), inclusion=0.3),
        likelihood=Categorical() if of_classes else GaussianNoise(),
        num_data=rows,
    )
    posterior = fit(
        model,
        (x, y),
        epochs=epochs,
        batch_size=batch_size,
        kl_weight=kl_weight,
        compute=Compute(engine="eager"),
        seed=0,
        progress=False,
    )
    assert len(posterior.history) == epochs
    assert all(math.isfinite(record["loss"]) for record in posterior.history)
    predicted = posterior.predict(x, num_samples=2)
    assert len(predicted) == rows and predicted.dtype == dtype and bool(predicted.isfinite().all())
    assert prune(posterior)(x).dtype == dtype
