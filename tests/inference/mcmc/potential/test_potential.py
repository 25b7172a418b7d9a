"""The potential energy of a flat vector: against Pyro's own, alone and in batches, traced and not."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer.mcmc.util import initialize_model
from pyro.ops.integrator import potential_grad
from torch import Tensor, nn
from torch.distributions import AffineTransform, constraints

from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, Likelihood
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from bnn_pyro.tracing.trace import Traced
from tests.cases import PRIORS, SLABS, PriorCase, SlabCase
from tests.models import DOUBLE, data, linear, one_layer

LIKELIHOODS = (Categorical(), GaussianNoise(), GaussianNoise(0.3), HeteroscedasticNoise())
EXACT: Any = {"atol": 1e-9, "rtol": 1e-12}


def network(likelihood: Likelihood, rows: int = 12) -> tuple[Any, Tensor, Tensor]:
    """A small network in float64 with data for its likelihood, gates at the inputs too."""
    x, y = data(rows)
    outputs = {Categorical: 3, HeteroscedasticNoise: 2}.get(type(likelihood), 1)
    net = mlp(x.shape[1], (5,), outputs, activation=nn.Tanh).double()
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    model = SparseNetwork(net, x, prior=prior, likelihood=likelihood, num_data=rows, select_inputs=True)
    return model, x, (y > 0).long() if isinstance(likelihood, Categorical) else y


def normals() -> None:
    pyro.sample("x", dist.Normal(torch.zeros(2, dtype=DOUBLE), 1.0).to_event(1))
    pyro.sample("scale", dist.LogNormal(torch.zeros((), dtype=DOUBLE), 1.0))


def pyros(potential: Potential, model: Callable[..., Any], *args: Any) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Pyro's own potential of a model and its gradient, as functions of our vector."""
    _, function, *_ = initialize_model(model, args)
    transforms = {name: latent.transform for name, latent in potential.latents.items()}
    units: dict[str, Any] = {name: unit for name, unit in transforms.items() if isinstance(unit, AffineTransform)}

    def value_and_gradient(vector: Tensor) -> tuple[Tensor, Tensor]:
        parts = {name: part.clone() for name, part in potential.split(vector).items()}
        parts |= {name: unit(parts[name]) for name, unit in units.items()}
        gradients, value = potential_grad(function, parts)
        for name, unit in units.items():
            gradients[name] = gradients[name] * unit.scale
            value = value - unit.scale.log().sum()
        return value, torch.cat([gradients[name].reshape(-1) for name in potential.latents])

    return value_and_gradient


def assert_pyros(model: Callable[..., Any], *args: Any) -> None:
    """Value and gradient are Pyro's at three points, and the model was traced."""
    potential = Potential(model, *args)
    expected = pyros(potential, model, *args)
    for vector in 1.5 * torch.randn(3, potential.size, dtype=DOUBLE):
        torch.testing.assert_close(potential.value_and_gradient(vector), expected(vector), **EXACT)
    assert all(isinstance(program, Traced) for program in potential._programs.values())


# ---- against Pyro ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", PRIORS, ids=str)
def test_equals_pyros_for_every_prior(case: PriorCase) -> None:
    """Alone, in the coordinates of HMC."""
    assert_pyros(noncentered(lambda: case.program(DOUBLE)))


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_equals_pyros_for_every_slab(case: SlabCase) -> None:
    assert_pyros(noncentered(one_layer(case.slab)), *data())


def test_equals_pyros_for_a_model_in_its_own_coordinates() -> None:
    assert_pyros(one_layer(SLABS[1].slab), *data())


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_equals_pyros_for_a_network_with_every_likelihood(likelihood: Likelihood) -> None:
    model, x, y = network(likelihood)
    assert_pyros(noncentered(model), x, y)


def test_equals_pyros_where_the_model_cannot_be_traced() -> None:
    """A model that looks at its values: step by step, alone and in batches."""

    def model(y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(y.new_zeros(()), 1.0))
        pyro.sample("y", dist.Normal(2 * mean if mean > 0 else mean, 0.5).expand([3]).to_event(1), obs=y)

    y = torch.ones(3, dtype=DOUBLE)
    potential = Potential(model, y)
    vectors = torch.tensor([[0.7], [-0.7]], dtype=DOUBLE)
    with pytest.warns(UserWarning, match="it cannot be traced"):
        values, gradients = potential.value_and_gradient(vectors)
    for vector, *found in zip(vectors, values, gradients, strict=True):
        torch.testing.assert_close(tuple(found), pyros(potential, model, y)(vector), **EXACT)


def test_equals_pyros_with_plates_simplices_and_scaled_sites() -> None:
    """Sites whose unconstrained values have another shape, in plates, with a weight."""

    def model(y: Tensor) -> None:
        weights = pyro.sample("weights", dist.Dirichlet(torch.ones(3, dtype=DOUBLE)))
        with pyro.plate("components", 3):
            means = pyro.sample("means", dist.Normal(torch.zeros((), dtype=DOUBLE), 2.0))
        with pyro.plate("data", 4), pyro.poutine.scale(scale=0.3):
            pyro.sample("y", dist.Normal((weights * means).sum(), 1.0), obs=y)

    assert_pyros(model, torch.arange(4, dtype=DOUBLE))


# ---- batches, dtypes, compilation ------------------------------------------------------------------------------------


def test_batch_is_each_of_its_vectors() -> None:
    potential = Potential(noncentered(linear), *data())
    vectors = torch.randn(5, potential.size, dtype=DOUBLE)
    values, gradients = potential.value_and_gradient(vectors)
    for vector, value, gradient in zip(vectors, values, gradients, strict=True):
        torch.testing.assert_close(potential.value_and_gradient(vector), (value, gradient))
        torch.testing.assert_close(potential(vector), value)
    torch.testing.assert_close(potential(vectors), values)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("prior", [Gaussian(), GroupHorseshoe(), SpikeSlab(Gaussian(), inclusion=0.3)], ids=repr)
def test_batch_of_wide_networks_is_each_of_its_vectors(prior: Any, compiled: bool) -> None:
    """Two hidden layers, whose products have the chains first; against the model's own code."""
    x, y = data()
    net = mlp(x.shape[1], (16, 16), 1).double()
    model = noncentered(SparseNetwork(net, x, prior=prior, likelihood=GaussianNoise(), num_data=len(x)))
    potential, plain = Potential(model, x, y, compiled=compiled), Potential(model, x, y, traced=False)
    vectors = 0.5 * torch.randn(4, potential.size, dtype=DOUBLE)
    torch.testing.assert_close(potential.value_and_gradient(vectors), plain.value_and_gradient(vectors))


def test_follows_the_data_and_parameters_where_they_stand() -> None:
    x, y = data()
    potential = Potential(noncentered(linear), x, y)
    vector = torch.randn(potential.size, dtype=DOUBLE)
    before = potential(vector)
    y += 1
    after = potential(vector)
    assert not torch.isclose(before, after)
    torch.testing.assert_close(after, Potential(noncentered(linear), x, y)(vector))


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_dtype_is_that_of_the_latents(dtype: torch.dtype) -> None:
    x, y = (part.to(dtype) for part in data())
    potential = Potential(noncentered(linear), x, y)
    vector = torch.ones(potential.size, dtype=dtype)
    value, gradient = potential.value_and_gradient(vector)
    assert potential.like.dtype == value.dtype == gradient.dtype == dtype
    assert {value.dtype for value in potential.unflatten(vector).values()} == {dtype}


@pytest.mark.slow
def test_compiled_program_gives_the_same() -> None:
    x, y = data()
    plain, compiled = (Potential(noncentered(linear), x, y, compiled=flag) for flag in (False, True))
    for vectors in (torch.randn(plain.size, dtype=DOUBLE), torch.randn(3, plain.size, dtype=DOUBLE)):
        torch.testing.assert_close(compiled.value_and_gradient(vectors), plain.value_and_gradient(vectors))
        torch.testing.assert_close(compiled(vectors), plain(vectors))


# ---- leapfrog steps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", [(), (5,)], ids=["one", "many"])
def test_leapfrog_step_is_half_a_kick_a_drift_and_half_a_kick(shape: tuple[int, ...], compiled: bool) -> None:
    """The chains along the last dimension; a second call finds nothing of the first."""
    potential = Potential(noncentered(linear), *data(), compiled=compiled)
    stride = torch.rand(potential.size, *[1] * len(shape), dtype=DOUBLE) / 10
    for _ in range(2):
        q, p = torch.randn(2, potential.size, *shape, dtype=DOUBLE)
        slope = potential.value_and_gradient(q.t())[1].t().contiguous()
        half = p - stride * slope / 2
        value, gradient = potential.value_and_gradient((q + stride * half).t())
        expected = (q + stride * half, half - stride * gradient.t() / 2, value, gradient.t())
        torch.testing.assert_close(potential.leapfrog(q, p, slope, stride), expected)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("shape", [(), (5,)], ids=["one", "many"])
def test_several_leapfrog_steps_are_one_after_another(shape: tuple[int, ...], compiled: bool) -> None:
    potential = Potential(noncentered(linear), *data(), compiled=compiled)
    stride = torch.rand(potential.size, *[1] * len(shape), dtype=DOUBLE) / 10
    q, p, slope = torch.randn(3, potential.size, *shape, dtype=DOUBLE)
    state = potential.leapfrog(q, p, slope, stride)
    for _ in range(4):
        state = potential.leapfrog(state[0], state[1], state[3], stride)
    assert all(map(torch.equal, potential.leapfrog(q, p, slope, stride, 5), state))


def test_leapfrog_step_of_one_tensor_given_twice() -> None:
    """At the first call too, where the program is made."""
    potential = Potential(noncentered(linear), *data())
    zero = torch.zeros(potential.size, 3, dtype=DOUBLE)
    potential.leapfrog(zero, zero, zero, zero[:, :1])
    momentum, stride = torch.ones_like(zero), torch.ones_like(zero[:, :1])
    torch.testing.assert_close(potential.leapfrog(zero, momentum, zero, stride)[0], momentum)


def test_leapfrog_step_where_the_model_cannot_be_traced() -> None:
    def model(y: Tensor) -> None:
        mean = pyro.sample("mean", dist.Normal(y.new_zeros(()), 1.0))
        pyro.sample("y", dist.Normal(2 * mean if mean > 0 else mean, 0.5).expand([3]).to_event(1), obs=y)

    potential = Potential(model, torch.ones(3, dtype=DOUBLE))
    q, p, slope = torch.randn(3, 1, 4, dtype=DOUBLE)
    stride = torch.full((1, 1), 0.1, dtype=DOUBLE)
    with pytest.warns(UserWarning, match="it cannot be traced"):
        moved, _, value, gradient = potential.leapfrog(q, p, slope, stride)
    torch.testing.assert_close((value, gradient.t()), potential.value_and_gradient(moved.t()))


def test_blocks_divide_the_chains_and_fill_lanes() -> None:
    """As many as there are while nothing is known of the numbers of a step."""
    potential = Potential(noncentered(linear), *data())
    assert potential.block(48) == 48
    potential.value_and_gradient(torch.zeros(potential.size, dtype=DOUBLE))
    assert all(chains % potential.block(chains) == 0 for chains in (2, 16, 37, 48, 4096))
    assert potential.block(2**20) < 2**20


# ---- values of the sites ---------------------------------------------------------------------------------------------


def test_unflatten_gives_what_the_model_calls_its_sites() -> None:
    model, x, y = network(GaussianNoise())
    potential = Potential(noncentered(model), x, y)
    vectors = torch.randn(2, 3, potential.size, dtype=DOUBLE)
    found = potential.unflatten(vectors)
    trace = pyro.poutine.trace(model).get_trace(x, y)
    latents = {name: trace.nodes[name] for name in trace.stochastic_nodes if name != "data"}
    assert {name: value.shape for name, value in found.items()} == {
        name: (2, 3, *site["value"].shape) for name, site in latents.items()
    }
    for name, site in latents.items():
        assert site["fn"].support.check(found[name]).all(), name


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_unflatten_goes_through_any_number_of_vectors(rows: int) -> None:
    vectors = torch.randn(rows, 3, dtype=DOUBLE)
    found = Potential(normals).unflatten(vectors)
    torch.testing.assert_close(found["x"], vectors[:, :2])
    torch.testing.assert_close(found["scale"], vectors[:, 2].exp())


def test_unflatten_has_the_values_that_the_density_sees() -> None:
    """A funnel: what depends on a latent is non-centred, the value is the scale times the standardised one."""

    def funnel() -> None:
        v = pyro.sample("v", dist.Normal(torch.zeros((), dtype=DOUBLE), 3.0))
        x = pyro.sample("x", dist.Normal(torch.zeros(2, dtype=DOUBLE), (v / 2).exp()).to_event(1))
        pyro.deterministic("norm", x.norm())

    vector = torch.tensor([0.5, -1.0, 2.0], dtype=DOUBLE)
    found = Potential(noncentered(funnel)).unflatten(vector)
    torch.testing.assert_close(found["v"], vector[0])
    torch.testing.assert_close(found["x"], (vector[0] / 2).exp() * vector[1:])
    torch.testing.assert_close(found["norm"], found["x"].norm())


# ---- where it is not defined, and what has no draw -------------------------------------------------------------------


def process(x: Tensor, y: Tensor) -> None:
    """A latent Gaussian process whose kernel is not positive definite where the amplitude is negative."""
    amplitude = pyro.sample("amplitude", dist.Normal(x.new_zeros(()), 1.0))
    kernel = amplitude * torch.exp(-(x.unsqueeze(1) - x).square()) + 0.01 * torch.eye(len(x), dtype=x.dtype)
    z = pyro.sample("z", dist.Normal(x.new_zeros(len(x)), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(torch.linalg.cholesky(kernel) @ z, 0.1).to_event(1), obs=y)


@pytest.mark.parametrize("options", [{}, {"compiled": True}, {"traced": False}], ids=["traced", "compiled", "eager"])
@pytest.mark.parametrize("chains", [1, 3])
def test_is_nan_where_a_covariance_is_not_positive_definite(options: dict[str, bool], chains: int) -> None:
    """Whatever the prior's draw and the first call are; where it is defined it is as ever."""
    x = torch.linspace(0, 1, 3, dtype=DOUBLE)
    potential = Potential(process, x, x, **options)
    vectors = torch.ones(chains, potential.size, dtype=DOUBLE)
    vectors[0, 0] = -1
    value, gradient = potential.value_and_gradient(vectors if chains > 1 else vectors[0])
    finite = torch.arange(chains) > 0
    assert torch.equal(value.isfinite().reshape(-1), finite)
    assert torch.equal(gradient.reshape(chains, -1).isfinite().all(-1), finite)
    expected = Potential(process, x, x).value_and_gradient(torch.ones(potential.size, dtype=DOUBLE))
    vector = torch.ones_like(vectors) if chains > 1 else torch.ones_like(vectors[0])
    found = potential.value_and_gradient(vector)
    torch.testing.assert_close(found[0].reshape(-1)[0], expected[0])
    torch.testing.assert_close(found[1].reshape(chains, -1)[0], expected[1])


def test_improper_priors_have_their_support_and_no_density() -> None:
    def model(y: Tensor) -> None:
        mean = pyro.sample("mean", dist.ImproperUniform(constraints.real, (), ()))
        scale = pyro.sample("scale", dist.ImproperUniform(constraints.positive, (), ()))
        with pyro.plate("rows", len(y)):
            pyro.sample("y", dist.Normal(mean, scale), obs=y)

    y = torch.tensor([1.0, 2.0, 4.0], dtype=DOUBLE)
    potential = Potential(noncentered(model), y)
    vector = torch.tensor([0.5, -0.3], dtype=DOUBLE)
    expected = -dist.Normal(vector[0], vector[1].exp()).log_prob(y).sum() - vector[1]
    torch.testing.assert_close(potential(vector), expected)
    assert potential.like.dtype == DOUBLE and potential.starts(3).isfinite().all()
    torch.testing.assert_close(potential.unflatten(vector)["scale"], vector[1].exp())


# ---- the dtype of the data -------------------------------------------------------------------------------------------


def plain_numbers(y: Tensor) -> None:
    mean = pyro.sample("mean", dist.Normal(0.0, 10.0))
    scale = pyro.sample("scale", dist.HalfCauchy(1.0))
    pyro.sample("y", dist.Normal(mean, scale).expand([len(y)]).to_event(1), obs=y)


@pytest.mark.parametrize("traced", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=str)
def test_priors_of_plain_numbers_follow_the_data(dtype: torch.dtype, traced: bool) -> None:
    """The data may be an argument, or what the model has from elsewhere."""
    y = torch.tensor([1.0, 2.0, 4.0], dtype=dtype)
    for potential in (Potential(plain_numbers, y, traced=traced), Potential(lambda: plain_numbers(y), traced=traced)):
        assert potential.like.dtype == dtype and {latent.dtype for latent in potential.latents.values()} == {dtype}
        vector = torch.tensor([0.5, -0.3], dtype=dtype)
        value, gradient = potential.value_and_gradient(vector)
        assert value.dtype == gradient.dtype == dtype
        assert {found.dtype for found in potential.unflatten(vector).values()} == {dtype}
    assert torch.get_default_dtype() == torch.float32


# ---- what stays as it was, and what is refused -----------------------------------------------------------------------


def test_random_state_and_store_stay_and_the_store_is_read() -> None:
    def model() -> None:
        mean = pyro.param("mean", torch.zeros((), dtype=DOUBLE))
        pyro.sample("x", dist.Normal(mean, 1.0))

    pyro.get_param_store()["mean"] = torch.tensor(2.0, dtype=DOUBLE)
    state, parameter = torch.random.get_rng_state(), pyro.get_param_store()["mean"]
    potential = Potential(model)
    one, two = potential(torch.tensor([[0.0], [1.0]], dtype=DOUBLE))  # from the location on
    torch.testing.assert_close(two - one, torch.tensor(0.5, dtype=DOUBLE))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(pyro.get_param_store().keys()) == ["mean"] and pyro.get_param_store()["mean"] is parameter


def test_starts_are_finite_and_of_the_seed() -> None:
    potential = Potential(noncentered(linear), *data())
    drawn = []
    for _ in range(2):
        torch.manual_seed(1)
        drawn.append(potential.starts(3))
    assert torch.equal(*drawn) and drawn[0].shape == (3, potential.size) and drawn[0].abs().max() <= 2
    assert torch.isfinite(potential(drawn[0])).all()


def test_density_that_is_nowhere_finite_is_refused() -> None:
    def model() -> None:
        x = pyro.sample("x", dist.Normal(torch.zeros(()), 1.0))
        pyro.factor("never", x - torch.inf)

    with pytest.raises(ValueError, match="model must have a finite density"):
        Potential(model).starts(1)


def _discrete() -> None:
    pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))


def _empty() -> None:
    pyro.sample("y", dist.Normal(torch.zeros(()), 1.0), obs=torch.ones(()))


def _subsampled() -> None:
    pyro.sample("w", dist.Normal(torch.zeros(()), 1.0))
    with pyro.plate("data", 10, subsample_size=3):
        pass


def _dropout() -> None:
    w = pyro.sample("w", dist.Normal(torch.zeros(5), 1.0).to_event(1))
    pyro.sample("y", dist.Normal(nn.functional.dropout(w), 1.0).to_event(1), obs=torch.ones(5))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (_discrete, "model must have continuous latents, got the discrete site 'z'"),
        (_empty, "model must have a latent site, got none"),
        (_subsampled, "model must see all rows at once, got plate 'data'"),
        (_dropout, "model must not draw anything but its sites"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_models_that_have_no_such_potential_are_refused(model: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Potential(model)


@pytest.mark.parametrize("shape", [(3,), (2, 3), (2, 2, 2)], ids=str)
def test_vectors_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="vectors must have"):
        Potential(noncentered(lambda: pyro.sample("x", dist.Normal(torch.zeros(2), 1.0).to_event(1))))(
            torch.zeros(shape)
        )
