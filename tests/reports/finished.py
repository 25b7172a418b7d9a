"""Finished runs, small ones."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnn_pyro.gated_parameters import gate_site
from bnn_pyro.likelihoods import Categorical, GaussianNoise, Likelihood
from bnn_pyro.likelihoods.base import latent_site
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.prune import prune
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.refinement import selected_network
from bnn_pyro.reports.folder import write_networks, write_report
from bnn_pyro.reports.measures import Evaluation, Run
from guides import AutoSpikeSlab

CONFIG = {"data": "made", "net": "mlp", "prior": "ss-ig", "seed": 3, "hidden": [6]}


HISTORY = [
    {"epoch": n, "loss": 3.0 / n, "kl_weight": 0.1, "gates": "free", "nodes_kept": {"hidden1": 6}} for n in (1, 2, 3)
]


def posterior(
    net: nn.Module, likelihood: Likelihood, keep: Tensor | None, *, kl_weight: float = 0.1, select_inputs: bool = False
) -> GuidePosterior:
    """Return a posterior that keeps the given nodes of every group of that size; None for a prior without gates."""
    prior = Gaussian() if keep is None else SpikeSlab(Gaussian(), inclusion=0.1)
    x = torch.zeros(2, 4)
    model = SparseNetwork(net, x, prior=prior, likelihood=likelihood, num_data=100, select_inputs=select_inputs)
    guide = AutoSpikeSlab(model.prior)
    with torch.no_grad():
        for role, site, parameter in guide.named_site_parameters():
            if role == "logits" and keep is not None and site == "hidden1.gate":
                parameter.copy_(torch.where(keep, 3.0, -3.0))
            elif role == "logits":
                parameter.copy_(torch.tensor([3.0, -3.0, 3.0, 3.0]))
    return GuidePosterior(model, guide, history=HISTORY, kl_weight=kl_weight)


def classification(keep: Tensor | None = torch.arange(6) < 2, **options: Any) -> Run:  # noqa: B008  (never changed)
    net = mlp(4, (6,), 3)
    fitted = posterior(net, Categorical(), keep, **options)
    return Run(fitted, prune(fitted), net.eval(), (torch.randn(40, 4), torch.randint(3, (40,))), num_samples=4)


def regression() -> Run:
    net = mlp(4, (6,), 1)
    fitted = posterior(net, GaussianNoise(), torch.arange(6) < 2)
    test = torch.randn(40, 4), torch.randn(40)
    return Run(fitted, prune(fitted), net.eval(), test, y_std=7.0, dense_noise=torch.tensor(0.3), num_samples=4)


CHAINS, DRAWS = 3, 50


def sampled(model: SparseNetwork, *, apart: float = 0.0, draws: int = DRAWS) -> SampledPosterior:
    """Return draws near a network's weights, of chains whose biases differ by so much."""
    values = {
        p.name: model.net.get_parameter(p.name).detach() + 0.1 * torch.randn(CHAINS, draws, *p.shape)
        for p in model.bayesian
    }
    values |= {gate_site(name): torch.ones(CHAINS, draws, group.size) for name, group in model.groups.items()}
    values["output.bias"][..., 0] += apart * torch.arange(CHAINS).unsqueeze(1)
    if (site := latent_site(model.likelihood)) is not None:
        noise = model.likelihood.prior()
        assert noise is not None
        values[site] = 0.3 + 0.1 * torch.rand(CHAINS, draws, *noise.shape)
    zeros = torch.zeros(CHAINS, draws)
    found = Draws(
        values=values,
        vectors=torch.cat([value.reshape(CHAINS, draws, -1) for value in values.values()], -1),
        energy=zeros,
        total_energy=zeros,
        acceptance=zeros,
        diverged=zeros.long(),
        leapfrogs=zeros.long(),
        step_size=zeros[:, 0],
        inverse_mass=torch.ones(CHAINS, 1),
        kernel="mclmc",
        thinning=1,
        seconds=12.0,
    )
    return SampledPosterior(model, found)


def refined(run: Run, **options: Any) -> Run:
    """Return a run whose pruned network has been sampled."""
    return replace(run, refined=sampled(selected_network(run.posterior), **options))


def write(
    folder: Path, run: Run, evaluation: Evaluation, *, config: Mapping[str, object] = CONFIG, checkpoint: bool = False
) -> None:
    """Write the whole folder of a run."""
    write_networks(folder, run, config=config, save_checkpoint=(lambda path: path.touch()) if checkpoint else None)
    write_report(folder, run, evaluation, config=config)
