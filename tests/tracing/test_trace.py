"""Tracing: the program computes what eager Pyro does, on the same noise, and what it was made from stays as it was."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoNormal
from torch import Tensor, nn

from bnn_pyro.inference import SparseELBO
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, Likelihood
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.tracing.trace import Traced, Undone, trace
from guides import AutoCentered, AutoSpikeSlab
from tests.cases import FACTORISED, GUIDES, PRIORS, SLABS, GuideCase, PriorCase, SlabCase
from tests.models import DOUBLE, data, one_layer, perturbed
from tests.recorded import assert_same, on, recorded
from tests.test_network import inputs, labels, network

X, Y = inputs(), labels()


@pytest.fixture(autouse=True)
def without_validation() -> Any:
    """Pyro's validation looks at values, so nothing could be traced."""
    with pyro.validation_enabled(False):
        yield


def loss_and_gradients(model: Any, guide: Any, elbo: Any = None, *owners: Any) -> Callable[..., Any]:
    """The function of a batch that a step is made from."""
    elbo = SparseELBO() if elbo is None else elbo
    modules: Any = (guide, *owners)
    parameters = [p for module in modules for p in module.parameters() if p.requires_grad]

    def function(*args: Tensor) -> Any:
        loss = elbo.differentiable_loss(model, guide, *args)
        return loss.detach(), torch.autograd.grad(loss, parameters, allow_unused=True)

    return function


def check(function: Callable[..., Any], *args: Tensor) -> Traced:
    """The traced function equals the eager one, on noise that neither has seen before."""
    program = trace(function, *args)
    torch.manual_seed(7)
    expected, noise = recorded(function, *args)
    assert [part.shape for part in program.noise.parts] == [part.shape for part in noise]
    assert_same(program.run(args, noise), expected)
    return program


def small(outputs: int, **options: Any) -> SparseNetwork:
    """A perceptron, as small as one can be."""
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return network(mlp(6, (3,), outputs).double(), prior=prior, select_inputs=True, **options)


# ---- the same as eager Pyro ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", PRIORS, ids=str)
def test_priors(case: PriorCase) -> None:
    """A program of a prior alone, with a likelihood of its value."""

    def model(x: Tensor) -> None:
        value = case.program(DOUBLE)
        pyro.sample("y", dist.Normal(value.sum(), 1.0), obs=x.sum())

    x = data()[0]
    guide = AutoCentered if len(case.member) % 2 else AutoSpikeSlab
    check(loss_and_gradients(model, perturbed(guide(model, x))), x)


def rows() -> list[Any]:
    """All guides with all slabs; by default each guide, and each slab."""
    return [
        pytest.param(guide, slab, id=f"{guide}-{slab}", marks=() if GUIDES[0] == guide or i == 0 else pytest.mark.slow)
        for guide in GUIDES
        for i, slab in enumerate(SLABS)
    ]


@pytest.mark.parametrize(("guide", "case"), rows())
def test_guides_and_slabs(guide: GuideCase, case: SlabCase) -> None:
    x, y = data()
    model = one_layer(case.slab)
    answer = perturbed(guide.guide(model, x, y))
    check(loss_and_gradients(model, answer, SparseELBO(kl_weight=0.3, local_reparameterization=case.label == "")), x, y)


@pytest.mark.parametrize("guide", FACTORISED, ids=str)
def test_disarm(guide: GuideCase) -> None:
    x, y = data()
    model = one_layer(Gaussian())
    check(loss_and_gradients(model, perturbed(guide.guide(model, x, y, gate_gradient="disarm"))), x, y)


def test_relaxed_gates() -> None:
    x, y = data()
    model = one_layer(Gaussian())
    check(loss_and_gradients(model, perturbed(AutoSpikeSlab(model, x, y, gates="relaxed"))), x, y)


@pytest.mark.parametrize(
    "local", [pytest.param(False, marks=pytest.mark.slow), "exact", pytest.param(True, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    ("likelihood", "outputs"),
    [(Categorical(), 3), (GaussianNoise(), 1), (GaussianNoise(0.3), 1), (HeteroscedasticNoise(), 2)],
    ids=["categorical", "learned", "known", "heteroscedastic"],
)
def test_likelihoods(likelihood: Likelihood, outputs: int, local: Any) -> None:
    model = small(outputs, likelihood=likelihood)
    guide = perturbed(AutoSpikeSlab(model.prior))
    y = Y if outputs == 3 else X[:, 0]
    elbo = SparseELBO(local_reparameterization=local, num_particles=2 if likelihood == GaussianNoise(0.3) else 1)
    check(loss_and_gradients(model, guide, elbo), X, y)


MODES: list[tuple[Any, bool, bool]] = [("free", True, False), ("open", False, False), ("frozen", False, True)]


@pytest.mark.parametrize(("mode", "free", "frozen"), MODES)
def test_what_gates_do(mode: Any, free: bool, frozen: bool) -> None:
    """By the attribute each mode is a program of its own."""
    model = small(3)
    guide = perturbed(AutoSpikeSlab(model.prior, init_inclusion=0.5))
    guide.gate_mode = mode
    check(loss_and_gradients(model, guide), X, Y)


def test_one_program_switches_gates() -> None:
    """By tensors all modes are one program, which equals eager Pyro in each mode."""
    model = small(3)
    guide = perturbed(AutoSpikeSlab(model.prior, init_inclusion=0.5))
    plain = loss_and_gradients(model, guide)

    def function(x: Tensor, y: Tensor, free: Tensor, frozen: Tensor) -> Any:
        with guide.switched(free, frozen):
            return plain(x, y)

    program = trace(function, X, Y, torch.tensor(True), torch.tensor(False))
    seen = []
    for mode, free, frozen in MODES:
        guide.gate_mode = mode
        args = (X, Y, torch.tensor(free), torch.tensor(frozen))
        with guide.switched(*args[2:]):
            _, noise = recorded(plain, X, Y)
        laws = [part.law for part in program.noise.parts]
        used = [part for part, law in zip(noise, laws, strict=True) if law == "normal" or free]  # gates' are uniform
        expected = on(used, plain, X, Y)
        found = program.run(args, noise)
        for one, other in zip(found[1], expected[1], strict=True):
            assert_same(one, torch.zeros_like(one) if other is None else other)
        assert_same(found[0], expected[0])
        seen.append(float(found[0]))
    assert len(set(seen)) == 3 and guide._switch is None


def hierarchical(x: Tensor, y: Tensor) -> None:
    """Groups' slopes around a common one, and rows of which each call sees some."""
    mean = pyro.sample("mean", dist.Normal(x.new_zeros(()), 1.0))
    spread = pyro.sample("spread", dist.LogNormal(x.new_zeros(()), 1.0))
    with pyro.plate("groups", 3):
        slopes = pyro.sample("slopes", dist.Normal(mean, spread))
    noise = pyro.sample("noise", dist.Gamma(x.new_tensor(2.0), 2.0))
    weights = pyro.sample("weights", dist.Dirichlet(x.new_ones(3)))
    with pyro.plate("rows", 48, subsample=torch.arange(len(x))):
        pyro.sample("y", dist.Normal(x @ (slopes * weights), noise), obs=y)


@pytest.mark.parametrize("guide", [AutoNormal, AutoLowRankMultivariateNormal, AutoSpikeSlab])
def test_a_model_that_is_no_network(guide: Any) -> None:
    x, y = data()
    if guide is AutoSpikeSlab:
        answer: Any = AutoSpikeSlab(hierarchical, x, y)
    else:
        answer = guide(hierarchical)
        answer(x, y)
    check(loss_and_gradients(hierarchical, answer), x, y)


def test_rows_drawn_by_the_model_itself() -> None:
    """A plate that subsamples draws its rows in the program, afresh at every call."""

    def model(x: Tensor, y: Tensor) -> None:
        w = pyro.sample("w", dist.Normal(x.new_zeros(3), 1.0).to_event(1))
        with pyro.plate("rows", len(x), subsample_size=4) as rows:
            pyro.sample("y", dist.Normal(x[rows] @ w, 1.0), obs=y[rows])

    x, y = data()
    guide = AutoSpikeSlab(model, x, y, init_scale=1e-9)
    program = trace(loss_and_gradients(model, guide), x, y)
    losses = [float(program(x, y)[0]) for _ in range(40)]
    assert len(set(losses)) > 20
    with torch.no_grad():
        eager = [float(SparseELBO().differentiable_loss(model, guide, x, y)) for _ in range(40)]
    assert min(eager) < sum(losses) / 40 < max(eager)


def batch_normed() -> nn.Module:
    net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.SiLU(), nn.Dropout(0.0), nn.Linear(5, 3))
    return net.double()


def test_batch_norm() -> None:
    """Its statistics too: they are not moved by tracing, and moved by a call as by an eager one."""
    net = batch_normed()
    model = network(net, bayesian=lambda name, _: name.startswith("4"))
    model.net.train()
    guide = perturbed(AutoSpikeSlab(model.prior))
    twin, twin_guide = copy.deepcopy((model, guide))
    before = copy.deepcopy(model.state_dict())
    program = trace(loss_and_gradients(model, guide, None, model), X, Y)
    pyro.clear_param_store()  # where the twin would find the points of the first
    assert_same(model.state_dict(), before, 0)
    for _ in range(2):
        expected, noise = recorded(loss_and_gradients(twin, twin_guide, None, twin), X, Y)
        assert_same(program.run((X, Y), noise), expected)
    assert_same(dict(model.named_buffers()), dict(twin.named_buffers()))
    assert int(model.net.get_buffer("1.num_batches_tracked")) == 2


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.slow
def test_convolutions(local: bool) -> None:
    model = network("convolutions", prior=SpikeSlab(Gaussian(), inclusion=0.3))
    model.net.train()
    guide = perturbed(AutoSpikeSlab(model.prior))
    buffers = copy.deepcopy(dict(model.named_buffers()))
    function = loss_and_gradients(model, guide, SparseELBO(local_reparameterization=local))
    program = trace(function, X, Y)
    expected, noise = recorded(function, X, Y)
    model.load_state_dict(buffers, strict=False)
    assert_same(program.run((X, Y), noise), expected)


# ---- noise -----------------------------------------------------------------------------------------------------------


def test_every_call_has_fresh_noise_and_the_seed_decides() -> None:
    def function(x: Tensor) -> Any:
        return x + torch.randn(3), torch.rand(2), torch.bernoulli(torch.full((50,), 0.5)), nn.functional.dropout(x)

    program = trace(function, torch.ones(3))

    def run(seed: int | None = None) -> list[Tensor]:
        if seed is not None:
            torch.manual_seed(seed)
        return [part.clone() for part in program(torch.ones(3))]

    one, two, again = run(0), run(), run(0)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one[:3], two[:3], strict=True))


def test_the_random_state_stays() -> None:
    state = torch.get_rng_state()
    trace(lambda x: x * torch.randn(3) + torch.rand(3).bernoulli(), torch.ones(3))
    assert torch.equal(torch.get_rng_state(), state)


# ---- what stays as it was --------------------------------------------------------------------------------------------


def test_module_and_store_stay() -> None:
    model = network("normed")
    guide = AutoSpikeSlab(model.prior)
    SparseELBO().loss(model, guide, X, Y)
    store = {name: value.detach().clone() for name, value in pyro.get_param_store().items()}
    before = copy.deepcopy((model.state_dict(), guide.state_dict()))
    trace(loss_and_gradients(model, guide), X, Y)
    assert_same((model.state_dict(), guide.state_dict()), before, 0)
    assert_same(dict(pyro.get_param_store().items()), store, 0)
    assert all(p.grad is None for p in [*model.parameters(), *guide.parameters()])


def test_what_was_written_to_is_put_back() -> None:
    """Through views that overlap too; memory that is made on the way is left alone."""
    a, b = torch.arange(4.0), torch.ones(3)
    with Undone():
        a[:3].mul_(2)
        a[1:].add_(1)
        a.data.zero_()
        b.data.mul_(2)
        b.data.add_(1)
        fresh = torch.empty(5).fill_(3.0)
    assert a.tolist() == [0, 1, 2, 3] and b.tolist() == [1, 1, 1] and fresh.tolist() == [3.0] * 5


def test_parameters_are_followed() -> None:
    """A program reads tensors where they stand, those that are views of a base through the base."""
    base = torch.arange(6.0)
    parameter, other = nn.Parameter(base[2:6].view(2, 2)), nn.Parameter(torch.ones(2))
    parameter.data = base[2:6].view(2, 2)

    def function(x: Tensor) -> Any:
        loss = (parameter @ x * other).square().sum()
        return loss.detach(), torch.autograd.grad(loss, [parameter, other])

    program = trace(function, torch.ones(2), bases=[base])
    assert program.live[0] is base and len(program.live) == 2
    for _ in range(2):
        base.mul_(-1.5)
        other.data.add_(1)
        assert_same(program(torch.ones(2)), function(torch.ones(2)))


def test_parameters_of_one_base_may_be_read_first_of_all() -> None:
    base = torch.arange(6.0)
    first, second = nn.Parameter(base[:2]), nn.Parameter(base[2:4])
    first.data, second.data = base[:2], base[2:4]

    def function(x: Tensor) -> Tensor:
        return torch.dot(first, second).detach() + x

    program = trace(function, torch.ones(2), bases=[base])
    base.add_(1)
    assert_same(program(torch.ones(2)), function(torch.ones(2)))


def test_a_tensor_that_is_written_to_under_two_names() -> None:
    class Running(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            first = self.get_buffer("total").exp()
            self.get_buffer("total").data.mul_(0.5)
            self.get_buffer("total").data.add_(x)
            return first + self.get_buffer("total").exp()

    one, two = Running(), Running()
    program = trace(one, torch.ones(3))
    assert one.get_buffer("total").tolist() == [1, 1, 1]
    for _ in range(2):
        assert_same(program(torch.ones(3)), two(torch.ones(3)))
    assert_same(one.get_buffer("total"), two.get_buffer("total"))


def test_no_inputs_at_all() -> None:
    w = torch.ones(3)
    program = trace(lambda: w.sum() + torch.randn(2).sum() * 0)
    w.mul_(3)
    assert float(program()) == 9
    assert float(trace(lambda: torch.ones(2).sum())()) == 2


def test_results_are_no_views_of_parameters() -> None:
    """The gradient of one factor is the other: a copy of it, as an optimiser changes one before it reads the other."""
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.full((2,), 3.0))
    program = trace(lambda x: torch.autograd.grad((p * q).sum() + x.sum() * 0, [p, q]), torch.ones(1))
    ours, theirs = program(torch.ones(1))
    p.data.add_(5)
    q.data.add_(5)
    assert ours.tolist() == [3, 3] and theirs.tolist() == [1, 1]


# ---- what cannot be traced -------------------------------------------------------------------------------------------


ASKING: dict[str, Callable[[Tensor], Any]] = {
    "if": lambda x: x if x.mean() > 0 else -x,
    "float": lambda x: x * float(x[0]),
    "int": lambda x: x * int(x[0]),
    "item": lambda x: x * x.sum().item(),
    "tolist": lambda x: x * x.tolist()[0],
    "numpy": lambda x: x * torch.from_numpy(2 * x.numpy()),
    "array": lambda x: x * float(np.asarray(x)[0]),
    "equal": lambda x: x if torch.equal(x, torch.ones(3)) else -x,
    "allclose": lambda x: x if torch.allclose(x, torch.ones(3)) else -x,
    "iterating": lambda x: x * sum(float(part) for part in x),
    "nonzero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0].mean(),
    "masked_select": lambda x: x.masked_select(x > 0).mean(),
    "a generator": lambda x: x + torch.randn(3, generator=torch.default_generator),
    "unique": lambda x: x * len(x.unique()),
    "repeat_interleave": lambda x: x.repeat_interleave(x.long()).mean(),
}


@pytest.mark.parametrize("name", ASKING)
def test_asking_for_values_is_refused(name: str) -> None:
    """Whatever would be baked in unseen; what was written to until then is put back."""
    total = torch.zeros(())

    def function(x: Tensor) -> Any:
        total.add_(1)
        return ASKING[name](x)

    with pytest.raises(RuntimeError):
        trace(function, torch.tensor([1.0, 2, 3]))
    assert float(total) == 0


def test_a_mask_that_is_written_through() -> None:
    def function(x: Tensor) -> Tensor:
        y = x.clone()
        y[x > 0] = 5.0
        return y

    program = trace(function, torch.tensor([1.0, -2, 3]))
    assert program(torch.tensor([-1.0, 2, -3])).tolist() == [-1, 5, -3]


def test_pyros_mean_field_bound_asks() -> None:
    """Pyro's own bound takes its value out of the tensor; see ``CompiledELBO`` for how it is traced all the same."""
    x, y = data()
    model = one_layer(Gaussian())
    guide = AutoSpikeSlab(model, x, y)
    with pytest.raises(RuntimeError):
        trace(loss_and_gradients(model, guide, TraceMeanField_ELBO()), x, y)
