"""Non-centred slabs and gates in logit coordinates: the density, its slope far out, and that the model stays itself."""

from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from torch import Tensor

from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, SpikeSlab, gate
from tests.cases import COMPOSED, SLABS, PriorCase, SlabCase
from tests.models import DOUBLE, data, one_layer, traced

DTYPES = (torch.float32, torch.float64)
TEMPERATURE, LOGITS = 0.5, (-8.0, -1.0, 0.0, 3.0)


def gates(dtype: torch.dtype = DOUBLE) -> Tensor:
    """A program of gates with inclusion probabilities from small to large."""
    return gate("z", torch.tensor(LOGITS, dtype=dtype).sigmoid(), temperature=TEMPERATURE)


def held(model: Callable[..., Any], **values: Tensor) -> Any:
    """Returns the model with sites held at values."""
    return poutine.condition(model, values)


def log_density(x: Tensor) -> Tensor:
    """The log density of the gates' logits at x."""
    found: Tensor = traced(held(noncentered(gates), z_logit=x))(x.dtype).log_prob_sum()
    return found


# ---- gates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_slope_of_a_gates_logit_is_right_far_out(dtype: torch.dtype) -> None:
    """To |x| = 200, where the logarithms of a gate and of the rest have no slope in float32."""
    for value in torch.linspace(-200, 200, 401):
        x = value.expand(len(LOGITS)).to(dtype).clone().requires_grad_()
        (slope,) = torch.autograd.grad(-log_density(x), x)
        exact = TEMPERATURE * (2 * torch.sigmoid(TEMPERATURE * x.double() - torch.tensor(LOGITS).double()) - 1)
        tolerance = 1e-6 if dtype == torch.float32 else 1e-14
        torch.testing.assert_close(slope.double(), exact.detach(), atol=tolerance, rtol=0)


def test_pyros_own_coordinates_have_lost_the_slope_there() -> None:
    """What the reparameterisation is for."""
    x = torch.tensor(40.0, requires_grad=True)
    transform = torch.distributions.biject_to(dist.RelaxedBernoulli.support)
    z = transform(x)
    plain = dist.RelaxedBernoulli(torch.tensor(TEMPERATURE), logits=torch.tensor(0.0), validate_args=False)
    (slope,) = torch.autograd.grad(plain.log_prob(z) + transform.log_abs_det_jacobian(x, z), x)
    assert abs(float(slope) + TEMPERATURE) > 0.1


def test_density_of_the_logits_is_that_of_the_gates() -> None:
    x = torch.linspace(-6, 6, len(LOGITS), dtype=DOUBLE)
    z = torch.sigmoid(x)
    expected = traced(held(gates, z=z))().log_prob_sum() + (z * (1 - z)).log().sum()
    torch.testing.assert_close(log_density(x), expected)


def test_density_of_a_logit_integrates_to_one() -> None:
    x = torch.linspace(-150, 150, 100_001, dtype=DOUBLE)
    program = noncentered(lambda: gate("z", torch.tensor(0.3, dtype=DOUBLE), size=len(x), temperature=TEMPERATURE))
    found = traced(held(program, z_logit=x))()
    found.compute_log_prob()
    base = found.nodes["z_logit"]["fn"].base_dist.log_prob(x).exp()
    torch.testing.assert_close(torch.trapezoid(base, x), torch.tensor(1.0, dtype=DOUBLE), atol=1e-9, rtol=0)


def test_gate_is_the_sigmoid_of_its_logit() -> None:
    found = traced(noncentered(gates))().nodes
    torch.testing.assert_close(found["z"]["value"], found["z_logit"]["value"].sigmoid())
    assert found["z"]["is_observed"] and not found["z_logit"]["is_observed"]


def test_observed_gate_keeps_its_mass() -> None:
    z = torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=DOUBLE)
    found = traced(noncentered(held(gates, z=z)))()
    expected = dist.Bernoulli(logits=torch.tensor(LOGITS, dtype=DOUBLE)).log_prob(z).sum()
    assert "z_logit" not in found.nodes
    torch.testing.assert_close(found.log_prob_sum(), expected)


def test_gates_of_a_plate_get_a_logit_each() -> None:
    def model() -> Tensor:
        with pyro.plate("nodes", 3):
            return gate("z", torch.tensor(0.3, dtype=DOUBLE))

    assert traced(noncentered(model))().nodes["z_logit"]["value"].shape == (3,)


def test_initial_values_become_logits() -> None:
    """A start at exactly 0 or 1 gets a finite logit."""
    init: Any = pyro.infer.autoguide.initialization.InitMessenger(
        pyro.infer.autoguide.initialization.init_to_value(values={"z": torch.tensor([0.0, 0.2, 0.7, 1.0]).double()})
    )
    with init:
        x = traced(noncentered(gates))().nodes["z_logit"]["value"]
    assert torch.isfinite(x).all()
    torch.testing.assert_close(x[1:3], torch.logit(torch.tensor([0.2, 0.7], dtype=DOUBLE)))


# ---- models ----------------------------------------------------------------------------------------------------------


def names(model: Callable[..., Any], *args: Any) -> set[str]:
    found = traced(model)(*args)
    return {name for name in found.stochastic_nodes if name != "data"}


@pytest.mark.parametrize("case", SLABS, ids=str)
def test_slabs_and_gates_of_a_model_are_replaced(case: SlabCase) -> None:
    model, (x, y) = one_layer(case.slab), data()
    depends = not isinstance(case.slab, Gaussian)
    slab, slab_there = "w.weight", "w.weight_decentered" if depends else "w.weight"
    assert names(noncentered(model), x, y) == names(model, x, y) - {"z", slab} | {"z_logit", slab_there}
    assert names(noncentered(model, [slab]), x, y) >= {"z_logit", "w.weight_decentered"}
    assert names(noncentered(model, False), x, y) == names(model, x, y) - {"z"} | {"z_logit"}


@pytest.mark.parametrize("case", COMPOSED, ids=str)
def test_density_of_a_prior_changes_by_the_jacobian_alone(case: PriorCase) -> None:
    """The joint density at a draw, in either coordinates."""
    drawn = traced(noncentered(lambda: case.program(DOUBLE), ["w.weight"]))()
    values = {name: site["value"] for name, site in drawn.nodes.items() if site["type"] == "sample"}
    original = traced(held(lambda: case.program(DOUBLE), **values))()
    z, x = values["w.gate"], values["w.gate_logit"]
    scale = original.nodes["w.weight"]["fn"].base_dist.scale
    torch.testing.assert_close(scale * values["w.weight_decentered"], values["w.weight"])
    jacobian = scale.log().sum() + (z.log() + torch.nn.functional.logsigmoid(-x)).sum()
    torch.testing.assert_close(drawn.log_prob_sum(), original.log_prob_sum() + jacobian)


def test_works_on_a_network_and_leaves_it_alone() -> None:
    x = torch.randn(12, 6)
    model = SparseNetwork(mlp(6, (5, 4), 3), x, prior=SpikeSlab(), likelihood=Categorical(), num_data=12)
    before = names(model, x)
    found = traced(noncentered(model))(x)
    changed = {f"{group}.gate" for group in model.groups} | {p.name for p in model.bayesian}
    auxiliary = {f"{name}{'_logit' if name.endswith('.gate') else '_decentered'}" for name in changed}
    assert {name for name in found.stochastic_nodes if name != "data"} == before - changed | auxiliary
    assert names(model, x) == before
    for parameter in model.bayesian:
        assert found.nodes[parameter.name]["value"].shape == parameter.shape


def hierarchy(y: Tensor) -> None:
    """Normals of each kind: constant, of a latent scale, of a latent location by way of another tensor."""
    b = pyro.sample("b", dist.Normal(0.0, 1e4))
    scale = pyro.sample("scale", dist.LogNormal(0.0, 1.0))
    pyro.sample("a", dist.Normal(0.0, 2 * scale.sqrt()).expand([2]).to_event(1))
    shifted = pyro.deterministic("shifted", b + 1)
    c = pyro.sample("c", dist.Normal(shifted, 1.0))
    pyro.sample("threshold", dist.Normal((c > 0).float(), 1.0))
    pyro.sample("data", dist.Normal(c, 1.0), obs=y)


CHOICES: dict[str, tuple[bool | tuple[str, ...], set[str]]] = {
    "those that depend": (True, {"a_decentered", "c_decentered", "b", "threshold"}),
    "none": (False, {"a", "c", "b", "threshold"}),
    "by name": (("b",), {"a", "c", "b_decentered", "threshold"}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_normals_that_depend_on_another_latent_are_replaced_or_those_named(name: str) -> None:
    """The random state is as if nobody had looked."""
    sites, expected = CHOICES[name]
    torch.manual_seed(1)
    assert names(noncentered(hierarchy, sites), torch.zeros(())) == {*expected, "scale"}
    after = torch.get_rng_state()
    torch.manual_seed(1)
    traced(hierarchy)(torch.zeros(()))
    assert torch.equal(torch.get_rng_state(), after)


def test_a_site_that_is_no_latent_normal_is_refused() -> None:
    with pytest.raises(ValueError, match="must name latent Normals of the model .b, a, c, threshold., got 'scale'"):
        traced(noncentered(hierarchy, ("scale",)))(torch.zeros(()))


def test_observed_normals_and_other_sites_stay() -> None:
    def model(y: Tensor) -> None:
        scale = pyro.sample("scale", dist.LogNormal(torch.tensor(0.0), 1.0))
        pyro.sample("y", dist.Normal(torch.tensor(0.0), scale).expand([2]).to_event(1), obs=y)

    found = traced(noncentered(model))(torch.ones(2))
    assert set(found.stochastic_nodes) == {"scale"} and found.observation_nodes == ["y"]


def test_moments_of_a_gate_are_the_same_in_both() -> None:
    """Fails by chance less than once in 10,000 runs: 4 means of 20,000 draws at 5 standard errors."""
    many = torch.tensor(LOGITS, dtype=DOUBLE).sigmoid().expand(20_000, -1)
    program = noncentered(lambda: gate("z", many, temperature=TEMPERATURE))
    open_gates = (traced(program)().nodes["z"]["value"] > 0.5).double().mean(0)
    expected = torch.tensor(LOGITS, dtype=DOUBLE).sigmoid()
    error = (expected * (1 - expected) / len(many)).sqrt()
    assert ((open_gates - expected).abs() < 5 * error + 1e-12).all()
