"""Local reparameterisation: outputs drawn instead of weights, with the same marginals."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.functional import linear

from bnn_pyro.inference.svi.elbo import SparseELBO, elbo_terms
from bnn_pyro.inference.svi.local_reparameterization import LocalNormal, LocalReparameterization
from bnn_pyro.priors import GroupHorseshoe, gate
from guides import AutoCentered, AutoSpikeSlab, AutoSpikeSlabMultivariate, GatedNormal, NonCenteredNormal
from tests.cases import FACTORISED, FAN_IN, NODES, SLABS, GuideCase, SlabCase
from tests.models import DOUBLE, NOISE, data, gradients, hints, one_layer, perturbed
from tests.monte_carlo import assert_mean

OUT, IN, DRAWS = 3, 4, 4_000


def double(*values: float) -> Tensor:
    return torch.tensor(values if len(values) > 1 else values[0], dtype=DOUBLE)


def parameters() -> tuple[Tensor, Tensor]:
    return torch.randn(OUT, IN, dtype=DOUBLE, requires_grad=True), (
        torch.rand(OUT, IN, dtype=DOUBLE) + 0.1
    ).requires_grad_()


def non_centred(mean: float = 0.7) -> NonCenteredNormal:
    """A slab of one mean and one scale a row, as our priors have it."""
    loc, scale = parameters()
    prior = dist.Normal(double(mean), double(0.5, 1, 2).unsqueeze(-1)).expand((OUT, IN))
    return NonCenteredNormal(loc, scale, prior.loc, prior.scale, double(1))


def slabs() -> dict[str, Any]:
    loc, scale = parameters()
    full = torch.rand(OUT, IN, dtype=DOUBLE) + 0.1
    return {
        "Normal": dist.Normal(loc, scale),
        "GatedNormal": GatedNormal(loc, scale, double(0), double(1), double(0.5)),
        "NonCenteredNormal": non_centred(),
        "NonCenteredNormal of a scale a weight": NonCenteredNormal(loc, scale, full, full, double(1)),
        "NonCenteredNormal of one scale": NonCenteredNormal(loc, scale, double(0), double(2), double(1)),
    }


FACTORS: dict[str, Callable[[], Any]] = {
    "nothing": lambda: 1.0,
    "number": lambda: -2,
    "scalar": lambda: double(0.5),
    "columns": lambda: double(1, 0, -1, 2),
    "one row": lambda: double(1, 0, -1, 2).unsqueeze(0),
    "rows": lambda: double(1, 0, -2).unsqueeze(-1),
    "weights": lambda: torch.randn(OUT, IN, dtype=DOUBLE),
}


def inputs() -> Tensor:
    x = torch.randn(5, IN, dtype=DOUBLE)
    x[0] = 0
    return x


@pytest.mark.parametrize("name", slabs())
def test_mean_and_sd_are_the_posteriors(name: str) -> None:
    posterior = slabs()[name]
    weight = LocalNormal.of_posterior(posterior)
    torch.testing.assert_close((weight.mean_weight(), weight.sd_weight()), (posterior.mean, posterior.stddev))
    assert (weight.shape, weight.dtype, weight.dim(), weight.size(1)) == ((OUT, IN), DOUBLE, 2, IN)


@pytest.mark.parametrize("name", slabs())
@pytest.mark.parametrize("factor", FACTORS)
def test_products_and_linear_have_the_exact_moments(name: str, factor: str) -> None:
    """Mean and variance of the outputs for every row, against (x (mu g)^T + v, x^2 (sigma g)^2).

    Fails by chance less than once in 1,500 runs: 1,050 means of 4,000 draws at 5 standard errors.
    """
    posterior, g, bias = slabs()[name], FACTORS[factor](), double(0.1, -0.2, 0.3)
    x = inputs()
    product = LocalNormal.of_posterior(posterior) * g
    assert isinstance(product, LocalNormal)
    mean = linear(x, posterior.mean * g, bias)
    variance = linear(x.square(), (posterior.stddev * g).square())
    with torch.no_grad():
        draws = linear(x.repeat(DRAWS, 1, 1), product, bias)
    assert_mean(draws, mean.detach())
    assert_mean((draws - mean.detach()).square(), variance.detach())
    torch.testing.assert_close(draws[:, 0], bias.expand(DRAWS, OUT))


@pytest.mark.parametrize("factor", FACTORS)
def test_gradients_of_moments_are_exact(factor: str) -> None:
    """At fixed noise an output is mean + sd times noise, so that two noises tell the slopes of both."""
    posterior, g, x = non_centred(), FACTORS[factor](), inputs()[1:]
    inputs_ = (posterior.unit_loc, posterior.unit_scale)
    mean = linear(x, posterior.mean * g)
    sd = linear(x.square(), (posterior.stddev * g).square()).clamp(min=torch.finfo(DOUBLE).tiny).sqrt()
    torch.manual_seed(3)
    noise = torch.randn_like(mean)
    torch.manual_seed(3)
    output = linear(x, LocalNormal.of_posterior(posterior) * g)
    # a factor that is negative for all of a row turns that row's noise
    turned = noise * (torch.as_tensor(g).sign() if factor == "none" else 1)
    expected = mean + sd * turned
    torch.testing.assert_close(output, expected)
    weights = torch.randn_like(output)
    one, two = (torch.autograd.grad((o * weights).sum(), inputs_, retain_graph=True) for o in (output, expected))
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    "multiply",
    [
        lambda w, z: z * w,
        lambda w, z: w * z,
        lambda w, z: torch.mul(z, w),
        lambda w, z: torch.mul(w, z),
        lambda w, z: w.mul(z),
        lambda w, z: z.mul(w),
    ],
)
def test_products_from_either_side(multiply: Callable[[Any, Tensor], Any]) -> None:
    posterior, z = non_centred(), double(1, 0, 3).unsqueeze(-1)
    product = multiply(LocalNormal.of_posterior(posterior), z)
    assert isinstance(product, LocalNormal)
    torch.testing.assert_close((product.mean_weight(), product.sd_weight()), (posterior.mean * z, posterior.stddev * z))


def test_products_one_after_another() -> None:
    posterior, rows, columns = non_centred(), double(1, 2, 3).unsqueeze(-1), double(1, -1, 0, 2)
    product: Any
    for product in (
        LocalNormal.of_posterior(posterior) * columns * columns,
        LocalNormal.of_posterior(posterior) * rows * columns,
        columns * (rows * LocalNormal.of_posterior(posterior)) * 2.0,
    ):
        assert isinstance(product, LocalNormal)
    torch.testing.assert_close(product.mean_weight(), 2 * posterior.mean * rows * columns)
    torch.testing.assert_close(product.sd_weight(), 2 * posterior.stddev * rows * columns)


def test_dtype_follows_the_weight() -> None:
    """A scalar factor of another dtype does not change the weight's, just as for a plain tensor."""
    weight = LocalNormal.of(torch.randn(OUT, IN), torch.rand(OUT, IN))
    for factor in (double(2), 2, 0.5, torch.tensor(2)):
        assert linear(torch.randn(5, IN), weight * factor).dtype == torch.float32
    half = LocalNormal.of(torch.randn(OUT, IN).bfloat16(), torch.rand(OUT, IN).bfloat16())
    assert linear(torch.randn(5, IN).bfloat16(), half * 0.5).dtype == torch.bfloat16


READINGS: dict[str, Callable[[Any], Tensor]] = {
    "sum": lambda w: w.sum(),
    "matmul": lambda w: torch.ones(2, IN, dtype=DOUBLE) @ w.T,
    "square": lambda w: w**2,
    "its own product": lambda w: w * w,
    "addition": lambda w: w + 1,
    "larger product": lambda w: w * torch.ones(2, OUT, IN, dtype=DOUBLE),
    "stack": lambda w: torch.stack([w, w]),
    "input of linear": lambda w: linear(w, torch.ones(2, IN, dtype=DOUBLE)),
    "both of linear": lambda w: linear(w, w),
    "division": lambda w: w / 2,
    "keyword": lambda w: torch.mul(input=w, other=double(2)),
}


@pytest.mark.parametrize("name", READINGS)
def test_anything_else_reads_a_draw(name: str) -> None:
    """The result is a plain tensor, that of the weight's own draw, with its gradient."""
    posterior = non_centred()
    weight = LocalNormal.of_posterior(posterior)
    read = READINGS[name](weight)
    assert type(read) is Tensor
    torch.testing.assert_close(read, READINGS[name](weight.draw()))
    assert all(
        slope.any() for slope in torch.autograd.grad(read.square().sum(), (posterior.unit_loc, posterior.unit_scale))
    )


def test_a_weight_is_drawn_once() -> None:
    """Readings one after another, of the weight and its products, are of the same draw; another weight has its own."""
    posterior = non_centred()
    one, two = (LocalNormal.of_posterior(posterior) for _ in range(2))
    columns = double(1, -1, 0.5, 2)
    torch.testing.assert_close((one + 0) * columns, (one * columns) + 0)
    assert not torch.equal(one.draw(), two.draw())


def test_draws_have_the_weights_law() -> None:
    """Fails by chance less than once in 50,000 runs: 24 means of 4,000 draws at 5 standard errors."""
    posterior = non_centred()
    with torch.no_grad():
        draws = torch.stack([LocalNormal.of_posterior(posterior).draw() for _ in range(4000)])
        assert_mean(draws, posterior.mean)
        assert_mean((draws - posterior.mean).square(), posterior.variance)


@pytest.mark.parametrize(
    "call", [lambda x, w, b: linear(x, weight=w, bias=b), lambda x, w, b: linear(input=x, weight=w, bias=b)]
)
def test_linear_by_keywords(call: Callable[..., Tensor]) -> None:
    x, weight = inputs().expand(1000, 5, IN), LocalNormal.of_posterior(non_centred())
    output = call(x, weight, double(0, 0, 0))
    assert len(output[:, 1, 0].unique()) == 1000, "each row has a draw of its own"


def test_metadata_draws_nothing() -> None:
    weight = LocalNormal.of_posterior(non_centred())
    state = torch.get_rng_state()
    found = (weight.shape, weight.dtype, weight.device, weight.ndim, weight.dim(), weight.numel(), len(weight))
    assert found == ((OUT, IN), DOUBLE, torch.device("cpu"), 2, 2, OUT * IN, OUT)
    assert torch.equal(torch.get_rng_state(), state)


# ---- in models -------------------------------------------------------------------------------------------------------


class TwoLayers(nn.Module):
    """A network called with a guide's weights."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(FAN_IN, NODES).double(), nn.Linear(NODES, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.output(torch.tanh(self.hidden(x))).squeeze(-1)
        return output

    def model(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        z = gate("z", double(0.3), size=NODES)
        values = {}
        for name, parameter in self.named_parameters():
            shape = parameter.shape
            gates = {"z": -1} if name == "output.weight" else None
            prior = dist.Normal(double(0), double(1)).expand(shape).to_event(len(shape))
            values[name] = pyro.sample(name, prior, infer=hints(gates=gates or {}))
        values["output.weight"] = z * values["output.weight"]
        mean: Tensor = functional_call(self, values, (x,))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(mean, NOISE), obs=y)
        return mean


def many(draws: int, program: Callable[[], Tensor], *, local: bool) -> Tensor:
    """Independent draws of what a program returns, with or without local reparameterisation."""

    def once(_: Tensor) -> Tensor:
        if not local:
            return program()
        with LocalReparameterization():
            return program()

    with torch.no_grad(), pyro.validation_enabled(False):
        found: Tensor = torch.vmap(once, randomness="different")(torch.zeros(draws))
    return found


def assert_same_means(one: Tensor, two: Tensor) -> None:
    error = ((one.var(0) + two.var(0)) / len(one)).sqrt()
    assert ((one.mean(0) - two.mean(0)).abs() < 5 * error).all()


def test_two_layers_have_the_marginal_moments_of_sampled_weights() -> None:
    """Mean and mean square of the output of each row, 20,000 draws each way, at 5 standard errors."""
    x, y = data(4)
    net = TwoLayers()
    guide = perturbed(AutoSpikeSlab(net.model, x, y))
    local, sampled = (many(20_000, lambda: guide.run(net.model, x, y), local=local) for local in (True, False))
    assert_same_means(local, sampled)
    assert_same_means(local.square(), sampled.square())


@pytest.mark.parametrize("guide", [AutoSpikeSlab, AutoCentered])
@pytest.mark.parametrize("gate_gradient", ["reinmax", "disarm"])
def test_bound_is_the_same_in_the_mean(guide: Any, gate_gradient: Any) -> None:
    """A log-likelihood that is a sum over rows has the same mean: 20,000 draws each way at 5 standard errors."""
    x, y = data(4)
    net = TwoLayers()
    answer = perturbed(guide(net.model, x, y, gate_gradient=gate_gradient))

    def loss(local: bool) -> Tensor:
        return elbo_terms(net.model, answer, x, y, local_reparameterization=local).loss()

    one, two = (many(20_000, partial(loss, local), local=False) for local in (True, False))
    assert_same_means(one, two)


@pytest.mark.parametrize("case", SLABS, ids=str)
@pytest.mark.parametrize("guide", FACTORISED, ids=str)
def test_bound_has_the_same_divergence_and_every_gradient(guide: GuideCase, case: SlabCase) -> None:
    """Scales are drawn first and with the same noise, so that the divergence is the same number."""
    x, y = data()
    model = one_layer(case.slab)
    answer = perturbed(guide.guide(model, x, y))
    found = []
    for local in (True, False):
        torch.manual_seed(1)
        found.append(elbo_terms(model, answer, x, y, local_reparameterization=local))
    torch.testing.assert_close(found[0].kl, found[1].kl)
    assert not torch.equal(found[0].log_likelihood, found[1].log_likelihood)
    slopes = gradients(found[0].loss(), answer)
    assert all(slope.abs().sum() > 0 and torch.isfinite(slope).all() for slope in slopes.values())
    torch.manual_seed(1)
    torch.testing.assert_close(
        SparseELBO(local_reparameterization=True).differentiable_loss(model, answer, x, y), found[0].loss()
    )


def test_correlated_slabs_are_drawn_all_the_same() -> None:
    x, y = data()
    model = one_layer(GroupHorseshoe())
    answer = perturbed(AutoSpikeSlabMultivariate(model, x, y))
    found = []
    for local in (True, False):
        torch.manual_seed(1)
        found.append(elbo_terms(model, answer, x, y, local_reparameterization=local).loss())
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("exact", (False, True))
def test_only_weights_of_normals_without_a_batch_stay_undrawn(exact: bool) -> None:
    normal = dist.Normal(double(0), double(1))
    programs = {
        "matrix": (normal.expand((3, 2)).to_event(2), True),
        "vector": (normal.expand((3,)).to_event(1), False),
        "kernel": (normal.expand((3, 2, 2)).to_event(3), not exact),
        "six dimensions": (normal.expand((3, 2, 1, 1, 1, 1)).to_event(6), False),
        "rows in a batch": (normal.expand((3, 2)).to_event(1), False),
        "positive": (dist.LogNormal(double(0), double(1)).expand((3, 2)).to_event(2), False),
    }
    with LocalReparameterization(exact=exact):
        for name, (fn, undrawn) in programs.items():
            assert isinstance(pyro.sample(name, fn), LocalNormal) is undrawn, name
        observed = pyro.sample("observed", programs["matrix"][0], obs=torch.zeros(3, 2, dtype=DOUBLE))
        assert type(observed) is Tensor


CONVOLUTIONS: dict[str, tuple[Any, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "1d": (functional.conv1d, (4, 3, 3), (5, 3, 7), {"stride": 2}),
    "2d": (functional.conv2d, (4, 3, 2, 3), (5, 3, 6, 7), {"padding": 1}),
    "3d": (functional.conv3d, (2, 2, 2, 1, 2), (5, 2, 3, 3, 4), {"dilation": 1}),
    "depthwise": (functional.conv2d, (3, 1, 2, 2), (5, 3, 6, 7), {"groups": 3}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_outputs_of_a_convolution_have_the_moments_of_drawn_filters(name: str) -> None:
    """Mean and variance of each output, by those of its weights; a gate on the filters' inputs multiplies both."""
    layer, shape, rows, options = CONVOLUTIONS[name]
    torch.manual_seed(0)
    loc, sd, x = torch.randn(shape).double(), torch.rand(shape).double(), torch.randn(rows).double()
    gate = torch.tensor([1.0, 0.0, 1.0]).double()[: shape[1]].reshape(1, -1, *[1] * (len(shape) - 2))
    bias = torch.randn(shape[0]).double()
    outputs = torch.stack([layer(x, LocalNormal.of(loc, sd) * gate, bias, **options) for _ in range(4000)])
    variance = layer(x.square(), (sd * gate).square(), **options)
    error = (outputs.mean(0) - layer(x, loc * gate, bias, **options)) / (variance / 4000).sqrt().clamp(min=1e-12)
    assert error.abs().max() < 5
    torch.testing.assert_close(outputs.var(0), variance, rtol=0.15, atol=1e-12)


def test_an_exact_weight_is_drawn_where_an_example_has_several_rows() -> None:
    """All rows of one call then see the same weights."""
    weight = LocalNormal.of(torch.zeros(2, 3).double(), torch.ones(2, 3).double(), exact=True)
    row = torch.randn(1, 3).double()
    tokens = functional.linear(row.expand(4, 6, 3), weight)
    assert torch.equal(tokens, tokens[:1, :1].expand_as(tokens))
    assert len(functional.linear(row.expand(4, 3), weight).unique(dim=0)) == 4


def test_median_and_frozen_values_are_not_touched() -> None:
    x, y = data()
    answer = perturbed(AutoSpikeSlab(one_layer(GroupHorseshoe()), x, y))
    with LocalReparameterization():
        assert type(answer.median(x, y)["w.weight"]) is Tensor
