"""Who runs against whom: the cases, and the training step of every contestant."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyro
import torch
from handwritten import SparsePerceptron
from peers import PEERS, Step, stepping
from pyro.infer import SVI, JitTraceMeanField_ELBO, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from bnn_pyro import GroupHorseshoe, SparseNetwork, SpikeSlab, networks
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.fit import LOCAL_ROWS
from bnn_pyro.inference.svi.schedule import LearningRates
from bnn_pyro.inference.svi.steps import stepper
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.posterior.guide import copies
from bnn_pyro.tracing.engine import EngineName
from guides import AutoSpikeSlab

NUM_DATA = 60_000
RATES = LearningRates()


@dataclass(frozen=True)
class Case:
    """A perceptron with the SS-GHS prior and the batches it is trained on.

    Args:
        name: How the results call it.
        inputs: Number of inputs.
        hidden: Widths of the hidden layers.
        batch: Rows a step.
        draws: Draws of the posterior a step.
        outputs: Number of classes.
    """

    name: str
    inputs: int = 784
    hidden: tuple[int, ...] = (400, 400)
    batch: int = 128
    draws: int = 1
    outputs: int = 10

    @property
    def widths(self) -> tuple[int, ...]:
        """Inputs, hidden widths, outputs."""
        return (self.inputs, *self.hidden, self.outputs)

    def net(self) -> nn.Sequential:
        """Return the dense net that all start from, the same at every call."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return networks.mlp(self.inputs, self.hidden, self.outputs)

    def posterior(self, device: torch.device) -> tuple[SparseNetwork, AutoSpikeSlab]:
        """Return the Bayesian network and its guide, new and with names of their own in Pyro's store.

        Args:
            device: Where they live.
        """
        prior = SpikeSlab(GroupHorseshoe(), inclusion=1e-3)
        example = torch.zeros(2, self.inputs)
        model = SparseNetwork(self.net(), example, prior=prior, likelihood=Categorical(), num_data=NUM_DATA)
        model.to(device)
        return copies(model, AutoSpikeSlab(model.prior, gate_gradient="straight-through"))

    def batches(self, device: torch.device, *, count: int = 8) -> list[tuple[Tensor, Tensor]]:
        """Return batches like those of MNIST: pixels of which four in five are 0, and a label that depends on them.

        Args:
            device: Where they lie.
            count: Number of batches.
        """
        random = torch.Generator().manual_seed(1)
        x = torch.rand(count, self.batch, self.inputs, generator=random)
        x = x * (torch.rand(x.shape, generator=random) < 0.2)
        y = (x @ torch.randn(self.inputs, self.outputs, generator=random)).argmax(-1)
        return list(zip(x.to(device), y.to(device), strict=True))


CASES = (
    Case("mlp400-b128"),
    Case("mlp400-b1024", batch=1024),
    Case("small", inputs=64, hidden=(50, 50), batch=64),
)


# ---- ours ------------------------------------------------------------------------------------------------------------


def ours(case: Case, device: torch.device, *, engine: EngineName) -> Step:
    """Return the step that `fit` makes.

    Args:
        case: The case.
        device: Where to train.
        engine: How it is computed.
    """
    model, guide = case.posterior(device)
    objective = SparseELBO(num_particles=case.draws, local_reparameterization=draws_outputs(case))
    step = stepper(model, guide, None, objective, RATES, None, engine)
    return lambda x, y: step(x, y, 1.0, 1.0)


def draws_outputs(case: Case) -> bool:
    """Return whether `fit` draws a layer's outputs instead of its weights (local reparameterisation).

    Args:
        case: The case.
    """
    return case.batch <= LOCAL_ROWS


# ---- the others ------------------------------------------------------------------------------------------------------


def deterministic(case: Case, device: torch.device, *, compiled: bool) -> Step:
    """Return the step of plain training: cross-entropy and fused Adam.

    Args:
        case: The case.
        device: Where to train.
        compiled: Whether the loss and its gradients go through `torch.compile`.
    """
    net = case.net().to(device)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(net(x), y)

    return stepping(net, torch.compile(loss) if compiled else loss)


def plain_pyro(case: Case, device: torch.device, *, elbo: Callable[..., Any], **options: Any) -> Step:
    """Return the step of Pyro's own SVI on the same model and guide, as a Pyro user writes it.

    Args:
        case: The case.
        device: Where to train.
        elbo: Makes the ELBO.
        **options: Options of the ELBO.
    """
    model, guide = case.posterior(device)
    svi = SVI(model, guide, pyro.optim.Adam({"lr": 1e-3}), elbo(num_particles=case.draws, **options))
    step: Step = svi.step
    return step


def handwritten(case: Case, device: torch.device, *, local: bool | None = None) -> Step:
    """Return the step of the hand-written loop of the same algorithm: eager, fused Adam.

    Args:
        case: The case.
        device: Where to train.
        local: Whether it draws a layer's outputs instead of its weights; None does as ours does.
    """
    net = by_hand(case, draws_outputs(case) if local is None else local).to(device)
    return stepping(net, partial(net.loss, draws=case.draws))


def by_hand(case: Case, local: bool) -> SparsePerceptron:
    """Return the hand-written network, at our guide's initial values.

    Args:
        case: The case.
        local: Whether it draws a layer's outputs instead of its weights.
    """
    inclusion = [1e-3] * len(case.hidden)
    return SparsePerceptron(case.net(), inclusion=inclusion, num_data=NUM_DATA, local=local)


def peer(case: Case, device: torch.device, *, name: str) -> Step:
    """Return the step of a peer, a Gaussian network of the same widths; one draw a step.

    Args:
        case: The case.
        device: Where to train.
        name: One of `PEERS`.
    """
    return PEERS[name](case.widths, NUM_DATA, device)


CONTESTANTS: dict[str, Callable[[Case, torch.device], Step]] = {
    "ours": partial(ours, engine="auto"),
    "ours-compiled": partial(ours, engine="compiled"),
    "ours-traced": partial(ours, engine="traced"),
    "ours-eager": partial(ours, engine="eager"),
    "deterministic-eager": partial(deterministic, compiled=False),
    "deterministic-compiled": partial(deterministic, compiled=True),
    "handwritten": handwritten,
    "handwritten-weights": partial(handwritten, local=False),
    "handwritten-local": partial(handwritten, local=True),
    "pyro-tracemeanfield": partial(plain_pyro, elbo=TraceMeanField_ELBO),
    "pyro-trace": partial(plain_pyro, elbo=Trace_ELBO),
    "pyro-jit": partial(plain_pyro, elbo=JitTraceMeanField_ELBO, ignore_jit_warnings=True),
    **{name: partial(peer, name=name) for name in PEERS},
}
"""Contestant -> what makes its training step."""
