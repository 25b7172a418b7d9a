"""Nothing in a step waits for the device: three steps of each driver, then one that refuses to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pyro
import pytest
import torch
from torch import Tensor

from bnn_pyro import (
    Compute,
    GaussianNoise,
    LearningRates,
    Sampler,
    SamplingPlan,
    SparseELBO,
    SpikeSlab,
    fit,
)
from bnn_pyro.inference.mcmc.gate_draw import GateDraw
from bnn_pyro.inference.mcmc.potential.exact_gate_potential import SpikePotential
from bnn_pyro.inference.mcmc.pseudo_prior import PseudoPrior
from bnn_pyro.inference.mcmc.runs import begin
from bnn_pyro.inference.mcmc.sample import potential_of
from bnn_pyro.inference.sgmcmc.likelihood_latent import Latent
from bnn_pyro.inference.sgmcmc.step import SamplingStep
from bnn_pyro.inference.svi.steps import stepper
from bnn_pyro.inference.training.batches import batches
from bnn_pyro.inference.training.flat_parameters import ParameterVector
from bnn_pyro.priors.gaussian import Gaussian
from guides import AutoCentered, AutoProgram, AutoSpikeSlab
from tests.on_gpu.uses import FIT, Rows, perceptron

pytestmark = pytest.mark.gpu
STEPS, BATCH = 4, 12


@pytest.fixture
def rows() -> Rows:
    return Rows("cuda")


@contextmanager
def refused() -> Iterator[None]:
    """Have torch raise an error where the host would wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def steps() -> Iterator[Any]:
    """Yield what surrounds each step: waits are refused in the last one."""
    for number in range(STEPS):
        yield refused() if number + 1 == STEPS else nullcontext()


def test_a_wait_is_refused(rows: Rows) -> None:
    with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"), refused():
        float(rows.x.sum())


@pytest.mark.parametrize("engine", ["eager", "traced"])
@pytest.mark.parametrize(
    "kind", ["hard", "relaxed", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("centered", "disarm"))]
)
def test_fit(rows: Rows, kind: str, engine: Any) -> None:
    model = perceptron(rows)
    guides: dict[str, Callable[[], AutoProgram]] = {
        "hard": lambda: AutoSpikeSlab(model.prior),
        "relaxed": lambda: AutoSpikeSlab(model.prior, gates="relaxed"),
        "centered": lambda: AutoCentered(model.prior),
        "disarm": lambda: AutoSpikeSlab(model.prior, gate_gradient="disarm"),
    }
    step = stepper(model, guides[kind](), None, SparseELBO(), LearningRates(), None, engine)
    given = batches(*rows.classified, BATCH)
    with pyro.validation_enabled(False):
        for surroundings in steps():
            with surroundings:
                step(*next(given), 0.5, 1.0)


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_fit_to_real_targets(rows: Rows, engine: Any) -> None:
    model = perceptron(rows, 1, likelihood=GaussianNoise())
    step = stepper(model, AutoSpikeSlab(model, *rows.regressed), None, SparseELBO(), LearningRates(), None, engine)
    given = batches(*rows.regressed, BATCH)
    with pyro.validation_enabled(False):
        for surroundings in steps():
            with surroundings:
                step(*next(given), 0.5, 1.0)


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, None])
def test_fit_with_clipped_gradients(rows: Rows, optimizer: Any) -> None:
    model = perceptron(rows)
    step = stepper(model, AutoSpikeSlab(model.prior), optimizer, SparseELBO(), LearningRates(), 1.0, "eager")
    given = batches(*rows.classified, BATCH)
    with pyro.validation_enabled(False):
        for surroundings in steps():
            with surroundings:
                step(*next(given), 0.5, 1.0)


@pytest.mark.parametrize("engine", ["eager", "traced"])
def test_fit_sghmc(rows: Rows, engine: Any) -> None:
    model = perceptron(rows, 1, likelihood=GaussianNoise(), prior=Gaussian(), select_inputs=False)
    latent = Latent.of(model.likelihood, rows.x)
    assert latent is not None

    def loss(x: Tensor, y: Tensor) -> Tensor:
        distribution: Any = model.likelihood.distribution(model.net(x), latent.value())
        found: Tensor = -distribution.log_prob(y).mean() - latent.log_prior() / model.num_data
        return found

    for parameter in model.net.parameters():
        parameter.requires_grad_(True)
    trained = ParameterVector({**dict(model.net.named_parameters()), "latent": latent.unconstrained})
    optimizer = Sampler().optimizer(trained.values, num_data=model.num_data, weight_decay=0.0)
    step, decay = SamplingStep(loss, trained, optimizer, engine), torch.ones_like(trained.values)
    given = batches(*rows.regressed, BATCH)
    for surroundings in steps():
        with surroundings:
            step(*next(given), decay)


def test_predict(rows: Rows) -> None:
    """The inputs are looked at once for a call, whatever the number of draws."""
    posterior = fit(perceptron(rows), rows.classified, compute=Compute(engine="eager"), **FIT)
    for surroundings in steps():
        with surroundings:
            posterior.model.likelihood.predict(*posterior._outputs(rows.x, 2, 1024))


@pytest.mark.parametrize(
    "kernel", ["chees", *(pytest.param(kernel, marks=pytest.mark.slow) for kernel in ("mclmc", "mams"))]
)
def test_sampling(rows: Rows, kernel: Any) -> None:
    """After the warm-up, which reads how far the chains have moved."""
    model = perceptron(rows, 1, likelihood=GaussianNoise(), prior=Gaussian(), select_inputs=False)
    model.net.eval()
    plan = SamplingPlan(kernel=kernel, chains=2, warmup=2, draws=STEPS, max_tree_depth=2)
    run = begin(plan, potential_of(model, rows.regressed, "traced", plan), None)
    for _ in range(plan.warmup):
        run.advance()
    for surroundings in steps():
        with surroundings:
            run.advance()


def test_exact_spikes(rows: Rows) -> None:
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    model = perceptron(rows, 1, likelihood=GaussianNoise(), prior=prior, select_inputs=False)
    potential = SpikePotential(model.eval(), *rows.regressed)
    draw_gates, vectors = GateDraw(potential, tries=2), potential.starts(3)
    pseudo_prior = PseudoPrior.of(potential.prior_draw, potential.layout.shapes, potential.like)
    for surroundings in steps():
        with surroundings:
            vectors = draw_gates(vectors, pseudo_prior)
