# %% [markdown]
# # Sampling and pruning in one shot
#
# The other method of this library trains a posterior with gates and cuts what they close. This one has no gates, no
# means and no variances: it moves **one set of weights**, adds noise of the right size to every step, and removes nodes
# on the way. Nothing is trained again afterwards. It is the method of Ke and Fan (2022), "On the optimization and
# pruning for Bayesian deep learning".
#
# 1. The sampler, and what its temperature means.
# 2. A thousand inputs of which five matter.
# 3. Draws as a posterior, and the network that is left.
#
# `SMOKE=1` does the same with sixty inputs, in seconds. Figures are written to the folder named by `TUTORIAL_OUT`, by
# default `tutorials/figures`.

# %%
import dataclasses
import math
import os
from pathlib import Path

import torch
from torch import nn

from bnn_pyro import (
    Gaussian,
    GaussianNoise,
    GroupEM,
    OneShot,
    Sampler,
    SparseNetwork,
    SpikeSlab,
    fit_sghmc,
    networks,
    prune,
)
from bnn_pyro.data.sparse_examples import SPARSE_EXAMPLES
from bnn_pyro.inference import SpikeSlabSGHMC
from bnn_pyro.inference.sgmcmc.sghmc import effective_temperature
from bnn_pyro.reports.figures import COLORS, MUTED, new_figure
from bnn_pyro.reports.plots import plot_training
from bnn_pyro.reports.plots.variables import plot_variables, reading_strength

SMOKE = os.environ.get("SMOKE") == "1"
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
OUT = Path(os.environ.get("TUTORIAL_OUT", HERE / "figures"))
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
torch.set_flush_denormal(True)  # weights on their way to 0 are slow on a CPU otherwise


def show(figure, name):
    """Saves a figure and returns it for the notebook to draw."""
    figure.savefig(OUT / f"{name}.png")
    return figure


# %% [markdown]
# ## 1. An optimiser that samples
#
# Mean-field variational inference moves a mean $\mu$ and a standard deviation $\sigma$ of each weight. Each step draws
# $w = \mu + \sigma \varepsilon$, and most of what a step changes is that noise. `SpikeSlabSGHMC` keeps the draw $w$
# alone. With $\sigma = T C^{3/2} \tau$, a step size $C^2$ and a preconditioner $\tau$ in (0, 1) that is learnt, the
# increments of $w$ are those of Hamiltonian Monte Carlo with stochastic gradients:
#
# $$m \leftarrow \beta_1 m - C^2 (g + d w) + \sqrt{2 + 2 \beta_1^2}\, T C^{3/2} \varepsilon,$$
# $$w \leftarrow w + \tau m.$$
#
# How far do the draws spread? On a quadratic loss $a w^2 / 2$ of N rows the posterior has variance $1 / (N a)$. Many
# independent weights, the default temperature `"cooled"` and the temperature 1, for several step sizes:

# %%
ROWS, CURVATURE, BETA, TAU = 1000, 2.0, 0.1, 0.5


def relative_variance(lr, temperature, chains=2_000 if SMOKE else 20_000, steps=150 if SMOKE else 600):
    """The variance of the draws, in units of the posterior's."""
    weights = nn.Parameter(torch.zeros(chains))
    optimizer = SpikeSlabSGHMC([weights], lr=lr, num_data=ROWS, eta=0.0, temperature=temperature)
    total = 0.0
    for step in range(2 * steps):
        weights.grad = CURVATURE * weights.detach()
        optimizer.step()
        total += weights.detach().square().mean().item() * (step >= steps)
    expected = effective_temperature(optimizer.param_groups[0], TAU) / (1 - lr * CURVATURE * TAU / (2 * (1 + BETA)))
    return total / steps * ROWS * CURVATURE, expected


rates = torch.tensor([0.05, 0.1, 0.2, 0.4, 0.7, 1.0]).tolist()
found = {temperature: [relative_variance(lr, temperature) for lr in rates] for temperature in ("cooled", 1.0)}
figure = new_figure(6.5, 3.6)
axes = figure.subplots()
for (temperature, pairs), color in zip(found.items(), COLORS[:2], strict=True):
    name = "cooled" if temperature == "cooled" else f"temperature {temperature:g}"
    axes.plot(rates, [sampled for sampled, _ in pairs], "o", color=color, label=f"{name}: sampled")
    axes.plot(rates, [exact for _, exact in pairs], color=color, label=f"{name}: formula")
axes.axhline(1, color=MUTED, linewidth=1, linestyle="--")
axes.set(xlabel="step size $C^2$", ylabel="variance / posterior's", ylim=(0, None))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize="small")
show(figure, "05_temperature")

# %% [markdown]
# At temperature 1 the draws have the posterior's variance in the limit of small steps; what is above the dashed line is
# the error of a finite step, a factor $1 / (1 - k / (2 (1 + \beta_1)))$ with $k = C^2 a \tau$. The **cooled** sampler
# is something else: its temperature is about $1.12\, \tau C N T^2$, below 1, and falls to 0 with the step size. That
# makes it a good optimiser, and its draws an ensemble that is too sure of itself. It is the default because it is the
# method; say `temperature=1.0` for the posterior.

# %%
for pairs in found.values():
    assert all(abs(sampled / exact - 1) < (0.2 if SMOKE else 0.015) for sampled, exact in pairs)

# %% [markdown]
# ## 2. Five inputs of a thousand
#
# The first of three examples that the method was tried on. All pairs of inputs are correlated (1/2), the first five
# matter, and the noise has variance 1, so that no network can get below a mean squared error of about 1.

# %%
example = SPARSE_EXAMPLES["example1"]
rows, epochs, batch = 10_240, 1500, 1024
if SMOKE:
    example, rows, epochs, batch = dataclasses.replace(example, inputs=60), 4096, 120, 128
x, y = example.draw(rows, seed=0)
test_x, test_y = example.draw(1024, seed=0, test=True)
print(f"{example.inputs} inputs, of which {example.relevant} matter; {rows} rows")

# %% [markdown]
# A small ReLU network, 5 and 3 nodes wide. Each group of weights, those that read one node, is drawn from a narrow
# Gaussian (the **spike**) or a wide one (the **slab**). In terms of weight decay, $d = 1 / (N v)$: 0.01 in the spike
# and 0.0002 in the slab. The squared error is the negative log-likelihood of a known noise of variance 1/2.

# %%
decays = (5e-4, 1e-1) if SMOKE else (2e-4, 1e-2)
slab, spike = (1 / math.sqrt(rows * decay) for decay in decays)
model = SparseNetwork(
    networks.mlp(example.inputs, (5, 3), 1, activation=nn.ReLU),
    x[:2],
    prior=SpikeSlab(Gaussian(slab), inclusion=0.5),
    likelihood=GaussianNoise(math.sqrt(0.5)),
    num_data=rows,
    select_inputs=True,
)

# %% [markdown]
# After a warm-up, an **EM** looks at every group at the start of each epoch. The E-step asks how probable the slab is
# for weights of this size (or, with `soft`, only whether their mean square is above a threshold, as here); the M-step
# gives the group the weight decay that follows. What decays below `hard` is removed, for good and at once: from the
# network, from the sampler's state, and an input from the data. So each epoch is cheaper than the last, until five
# inputs are left.

# %%
em = GroupEM(spike=spike, soft=3e-2, hard=5e-3, warmup=40) if SMOKE else GroupEM(spike=spike, soft=1e-2, hard=1e-3)
sampler = Sampler(lr=0.1 if SMOKE else 0.01)
plan = OneShot(sampler=sampler, em=em, cycles=1, samples_per_cycle=20, tail=0.5)
posterior = fit_sghmc(model, (x, y), plan, epochs=epochs, batch_size=batch, seed=0)
for epoch in (1, 50, 55, 75, 100, epochs):
    record = posterior.history[min(epoch, epochs) - 1]
    print(f"epoch {record['epoch']:>4}: loss {record['loss']:.3f}, nodes {record['nodes_kept']}")
totals = {group.name: group.size for group in model.nodes.groups}
show(plot_training(posterior.history, totals), "05_training")

# %% [markdown]
# Which variables are in the network, and how strongly each is read:

# %%
relevant = torch.arange(example.inputs) < example.relevant
kept = posterior.keep()["inputs"]
show(plot_variables(reading_strength(posterior), relevant, posterior.history), "05_variables")

# %% [markdown]
# ## 3. What is left
#
# The result has every posterior's interface: `predict` averages over the draws (here snapshots of the second half of
# the run, each as small as the network was by then), `evaluate` scores this average, and `evaluate_median` the last
# draw alone. `prune` gives the last draw as a plain module; it is the network that was trained, so there is nothing to
# cut and nothing to train again.

# %%
small = prune(posterior)
print(small)
floor = (example.truth(test_x) - test_y).square().mean().item()
one = posterior.evaluate_median(test_x, test_y)["rmse"] ** 2
many = posterior.evaluate(test_x, test_y, num_samples=20)["rmse"] ** 2
parameters = [sum(p.numel() for p in net.parameters()) for net in (model.net, small)]
print(f"inputs kept: {(kept.nonzero().flatten() + 1).tolist()}")
print(f"parameters: {parameters[1]} of {parameters[0]}")
print(f"test MSE: last draw {one:.3f}, average of 20 draws {many:.3f}, the truth itself {floor:.3f}")
with torch.no_grad():
    difference = (small(test_x).squeeze(-1) - posterior.predict(test_x, num_samples=1)).abs().max().item()

# %%
assert difference < 1e-4, difference
assert (kept & relevant).sum() >= example.relevant - 1, kept
assert (kept & ~relevant).sum() <= (3 if SMOKE else 0), kept
assert one < 1.5 * floor, one

# %% [markdown]
# A net as small as this may lose units early and end in a worse optimum. The cure is several starts: train all of them
# for a while, go on with the few whose *training* loss is the lowest, and take the best of these in the end
# (`benchmarks/sparse_examples.py` does that for the harder two examples, where about one start in four is good).
# Draws at temperature 1 are set beside those of NUTS in `benchmarks/sghmc_posterior.py`.
# On the command line, `bnn-pyro fit DATA --method sghmc` does the whole job on a data set, and writes the same report.
