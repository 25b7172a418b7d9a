"""The program of a posterior's draws predicts what the posterior does, for any number of rows and in torch alone."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Tensor, nn

from bnn_pyro.export import export_net
from bnn_pyro.likelihoods import Categorical, Classes, GaussianNoise, HeteroscedasticNoise, Likelihood, Normals
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import lenet, mlp, residual_mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.predictive_net import PredictiveNet, predictive_net
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.pruning.cutting import kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from tests.posterior.test_ensemble import ensemble
from tests.posterior.test_guide import posterior_of
from tests.posterior.test_sampled import CHAINS, DRAWS, drawn, draws_of, network, sampled

DOUBLE = torch.float64
DRAWN = 4  # of the 10 that there are


@dataclass(frozen=True)
class Case:
    """A net with its input's shape and likelihood, and whether its draws are called together."""

    net: Callable[[], nn.Module]
    shape: tuple[int, ...]
    likelihood: Likelihood
    together: bool = True

    def posterior(self) -> SampledPosterior:
        """Draws of it at random, with gates at its inputs too if they are a vector."""
        x = torch.randn(2, *self.shape, dtype=DOUBLE)
        options: Any = {"prior": SpikeSlab(Gaussian(), inclusion=0.5), "likelihood": self.likelihood, "num_data": 8}
        model = SparseNetwork(self.net().double(), x, select_inputs=len(self.shape) == 1, **options)
        values = drawn(model)
        if self.likelihood == GaussianNoise():
            values["noise_scale"] = torch.rand(CHAINS, DRAWS, dtype=DOUBLE) + 0.1
        return SampledPosterior(model, draws_of(values))


CASES = {
    "classes": Case(lambda: mlp(4, (5, 3), 3), (4,), Categorical()),
    "learned noise": Case(lambda: mlp(4, (5,), 1), (4,), GaussianNoise()),
    "known noise": Case(lambda: mlp(4, (5,), 1, activation=nn.Sigmoid), (4,), GaussianNoise(0.3)),
    "predicted noise": Case(lambda: residual_mlp(4, 5, 2, 2), (4,), HeteroscedasticNoise()),
    "residual blocks": Case(lambda: residual_mlp(4, 5, 2, 1), (4,), GaussianNoise()),
    "convolutions": Case(lambda: lenet(filters=(2, 3), hidden=(4,)), (1, 28, 28), Categorical(), together=False),
    "dropout": Case(lambda: nn.Sequential(nn.Linear(4, 5), nn.Dropout(), nn.Linear(5, 3)), (4,), Categorical()),
}


def expected(posterior: Posterior, x: Tensor, num_samples: int = DRAWN) -> tuple[Tensor, ...]:
    """What the posterior predicts: probabilities, or mean and standard deviation of the mixture."""
    found = posterior.predict(x, num_samples=num_samples, return_draws=True)
    if isinstance(found, Classes):
        return (found.probabilities,)
    assert isinstance(found, Normals)
    second = (found.sd**2 + found.mean**2).mean(0)
    return found.mean.mean(0), (second - found.mean.mean(0) ** 2).sqrt()


def compare(found: Tensor | tuple[Tensor, Tensor], wanted: tuple[Tensor, ...]) -> None:
    parts = (found,) if isinstance(found, Tensor) else found
    assert len(parts) == len(wanted)
    for part, value in zip(parts, wanted, strict=True):
        torch.testing.assert_close(part, value)


@pytest.mark.parametrize("name", CASES)
def test_is_what_the_posterior_predicts(name: str, tmp_path: Path) -> None:
    posterior = CASES[name].posterior()
    net = predictive_net(posterior, draws=DRAWN)
    assert net.draws == DRAWN and not net.training and not any(p.requires_grad for p in net.parameters())
    assert [part.together for part in net.nets] == [CASES[name].together]
    export_net(net, torch.zeros(1, *CASES[name].shape, dtype=DOUBLE), tmp_path / "ensemble.pt2")
    program = torch.export.load(tmp_path / "ensemble.pt2").module()
    for rows in (1, 3, 1000):
        x = torch.randn(rows, *CASES[name].shape, dtype=DOUBLE)
        wanted = expected(posterior, x)
        compare(net(x), wanted)
        compare(program(x), wanted)


def test_draws_called_one_after_the_other_are_those_called_together() -> None:
    posterior, x = CASES["learned noise"].posterior(), torch.randn(5, 4, dtype=DOUBLE)
    drawn = posterior.network_draws()
    together, apart = (PredictiveNet(drawn, GaussianNoise(), together=choice) for choice in (True, False))
    torch.testing.assert_close(together.outputs(x), apart.outputs(x))
    compare(apart(x), expected(posterior, x, CHAINS * DRAWS))


def test_gates_multiply_as_in_the_model() -> None:
    """Node 0 of each layer is closed by a gate of 0.2; without it the outputs are others."""
    posterior, x = sampled(), torch.randn(5, 4, dtype=DOUBLE)
    net = predictive_net(posterior)
    assert net.draws == CHAINS * DRAWS
    model, values = posterior.model, posterior.draws.stacked()
    last = {name: value[-1] for name, value in values.items()}
    gates = {name: last[f"{name}.gate"] for name in model.groups}
    torch.testing.assert_close(net.outputs(x)[-1], model.call_net(model.assemble(last, gates), x))
    assert not torch.allclose(net.outputs(x)[-1], model.call_net({p.name: last[p.name] for p in model.bayesian}, x))


def test_a_network_that_selects_its_inputs_takes_all_of_them(tmp_path: Path) -> None:
    whole = network(1, likelihood=GaussianNoise(0.3))
    keep = {
        "inputs": torch.tensor([False, True, False, True]),
        "hidden1": torch.arange(5) > 1,
        "hidden2": torch.arange(3) < 0,
    }
    small = smaller_model(whole, keep, kept_positions(whole.net, whole.nodes.groups, keep))
    posterior = SampledPosterior(small, draws_of(drawn_of_some_nodes(small)))
    assert posterior.model.selection is not None
    x = torch.randn(6, 4, dtype=DOUBLE)
    export_net(predictive_net(posterior), x, tmp_path / "ensemble.pt2")
    program = torch.export.load(tmp_path / "ensemble.pt2").module()
    compare(program(x), expected(posterior, x, CHAINS * DRAWS))
    other = x.clone()
    other[:, [0, 2]] += 1
    compare(program(other), tuple(program(x)))


def drawn_of_some_nodes(model: SparseNetwork) -> dict[str, Tensor]:
    """Values at random of a network in which a layer may have no node."""
    values = {p.name: torch.randn(CHAINS, DRAWS, *p.shape, dtype=DOUBLE) for p in model.bayesian}
    gates = {f"{n}.gate": torch.ones(CHAINS, DRAWS, group.size, dtype=DOUBLE) for n, group in model.groups.items()}
    return values | gates


def test_snapshots_of_several_sizes() -> None:
    posterior, x = ensemble(), torch.randn(5, 6, dtype=DOUBLE)
    net = predictive_net(posterior)
    assert net.draws == 3 and len(net.nets) == 3
    compare(net(x), expected(posterior, x, 3))
    compare(predictive_net(posterior, draws=2)(x), expected(posterior, x, 2))


def test_a_guide_makes_the_draws_once(tmp_path: Path) -> None:
    posterior, x = posterior_of(select_inputs=True), torch.randn(5, 6, dtype=DOUBLE)
    torch.manual_seed(4)
    net = predictive_net(posterior, draws=7)
    torch.manual_seed(4)
    compare(net(x), expected(posterior, x, 7))
    assert torch.equal(net(x), net(x))


def test_statistics_that_snapshots_do_not_share_are_their_own() -> None:
    """Buffers differ between snapshots, as parameters do."""
    posterior = ensemble()
    posterior.snapshots = [posterior.snapshots[0], posterior.snapshots[0]]
    (part,) = posterior.network_draws()
    assert {name: len(value) for name, value in part.tensors.items()} == dict.fromkeys(part.tensors, 2)
    named = (*part.model.net.named_parameters(), *part.model.net.named_buffers())
    assert set(part.tensors) == {name for name, _ in named}


def test_a_copy_that_shares_nothing_with_the_posterior() -> None:
    posterior, x = CASES["classes"].posterior(), torch.randn(5, 4, dtype=DOUBLE)
    net = predictive_net(posterior)
    before = net(x)
    for value in (*posterior.draws.values.values(), *posterior.model.net.parameters()):
        value.data.zero_()
    torch.testing.assert_close(net(x), before)


def test_runs_with_torch_alone(tmp_path: Path) -> None:
    posterior, x = CASES["learned noise"].posterior(), torch.randn(1, 4, dtype=DOUBLE)
    export_net(predictive_net(posterior, draws=DRAWN), x, tmp_path / "ensemble.pt2")
    torch.save(x, tmp_path / "x.pt")
    code = """
import sys, torch
mean, sd = torch.export.load("ensemble.pt2").module()(torch.load("x.pt"))
torch.save((mean, sd), "found.pt")
assert not {"bnn_pyro", "pyro", "guides"} & {name.split(".")[0] for name in sys.modules}
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env={"OMP_NUM_THREADS": "1"}, timeout=120)
    compare(torch.load(tmp_path / "found.pt"), expected(posterior, x))


# ---- custom likelihoods ----------------------------------------------------------------------------------------------


class Custom:
    """Classes whose logits are divided by 2."""

    def prior(self, *, like: Tensor | None = None) -> None:
        """Nothing is learned."""

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> TorchDistribution:
        return Categorical().distribution(output / 2)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        Categorical().check(output, y)

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Any:
        return Categorical().predict(output / 2)


class ByValue(Custom):
    def predict(self, output: Tensor, latent: Tensor | None = None) -> Any:
        draws = (output / max(1.0, float(output.max()))).softmax(-1)
        return Classes(draws.mean(0), draws)


class Unknown(Custom):
    def predict(self, output: Tensor, latent: Tensor | None = None) -> Any:
        return output


def test_a_custom_likelihood_is_taken() -> None:
    posterior, x = sampled(likelihood=Custom()), torch.randn(5, 4, dtype=DOUBLE)
    net = predictive_net(posterior)
    torch.testing.assert_close(net(x), (net.outputs(x) / 2).softmax(-1).mean(0))


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (ByValue(), "likelihood must have a predict that torch.export can trace, got ByValue"),
        (Unknown(), "likelihood must predict Classes, Normals or a Mixture, got Tensor of Unknown.predict"),
    ],
)
def test_a_custom_likelihood_that_cannot_be_exported_is_named(likelihood: Likelihood, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predictive_net(sampled(likelihood=likelihood))


def test_no_draws_are_refused() -> None:
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        predictive_net(sampled(), draws=0)


def test_moments_of_a_mixture() -> None:
    mean, sd = torch.randn(5, 3, dtype=DOUBLE), torch.rand(5, 3, dtype=DOUBLE)
    draws = mean + sd * torch.randn(200_000, 5, 3, dtype=DOUBLE)
    found = Normals(mean, sd).moments()
    torch.testing.assert_close(found[0], mean.mean(0))
    torch.testing.assert_close(found[1], draws.flatten(0, 1).std(0), rtol=0.01, atol=0)
