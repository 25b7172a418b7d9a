# %% [markdown]
# # Variational inference or Hamiltonian Monte Carlo: when is SVI good enough?
#
# Variational inference (SVI) fits a family of distributions to the posterior and is fast; Hamiltonian Monte Carlo
# (NUTS, or ChEES with many chains at once) draws from the posterior itself and is slow. On small problems one can have
# both, and see what SVI gets wrong:
#
# 1. **inclusion**: two columns that say the same. The posterior hesitates between them, SVI chooses one;
# 2. **variance**: a network between two clouds of data. The posterior widens there, SVI hardly does;
# 3. **neither**: real, noisy data, where the noise drowns both, and SVI predicts as well as NUTS in a fraction of the
#    time.
#
# The script runs from top to bottom in a few minutes (`SMOKE=1` shortens it) and opens as a notebook in any editor that
# knows the percent format. Figures are written to the folder named by `TUTORIAL_OUT`, by default `tutorials/figures`.

# %%
import itertools
import os
import time
from dataclasses import replace
from pathlib import Path

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import SVI
from pyro.optim import ClippedAdam
from sklearn.datasets import load_diabetes
from torch import nn

from bnn_pyro import (
    Gaussian,
    GaussianNoise,
    LearningRates,
    SamplingPlan,
    Schedule,
    SparseELBO,
    SparseNetwork,
    fit,
    networks,
    sample,
)
from bnn_pyro.comparison import Comparison, compare
from bnn_pyro.comparison.page import print_comparison
from bnn_pyro.comparison.plots import plot_agreement, plot_inclusions
from bnn_pyro.data import Dataset, Split
from bnn_pyro.evaluation.agreement import mixture_total_variation
from bnn_pyro.inference import elbo_terms
from bnn_pyro.posterior.diagnostics import r_hat
from bnn_pyro.priors import gate, slab
from bnn_pyro.recipes import DenseTraining, Recipe
from bnn_pyro.reports.figures import COLORS, GRID, INK, MUTED, new_figure
from guides import AutoSpikeSlab

SMOKE = os.environ.get("SMOKE") == "1"
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
OUT = Path(os.environ.get("TUTORIAL_OUT", HERE / "figures"))
OUT.mkdir(parents=True, exist_ok=True)
BLUE, RED, GREEN = COLORS[:3]
pyro.set_rng_seed(0)


def show(figure, name):
    """Saves a figure, and returns it for the notebook to draw."""
    figure.savefig(OUT / f"{name}.png")
    return figure


# %% [markdown]
# ## 1. Inclusion: two columns that say the same
#
# Six columns, of which the second is almost the first. The target is made of the first and the fourth, but from the
# data nobody can tell whether it was the first or the second. With $2^6$ supports the exact posterior can be written
# down: given a support, the target is Gaussian.

# %%
COLUMNS, ROWS, NOISE, PRIOR_INCLUSION = 6, 40, 0.5, 0.3
x = torch.randn(ROWS, COLUMNS)
x[:, 1] = x[:, 0] + 0.05 * torch.randn(ROWS)
y = x[:, 0] + 0.7 * x[:, 3] + NOISE * torch.randn(ROWS)


def regression(x, y=None):
    """A sparse linear regression with a Gaussian slab and known noise."""
    z = gate("gate", torch.tensor(PRIOR_INCLUSION), size=COLUMNS)
    w = slab("weight", (COLUMNS,), scale=torch.tensor(1.0), gates={"gate": -1})
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(x @ (z * w), NOISE), obs=y)


def exact_posterior():
    """Returns all supports and the probability of each."""
    supports = torch.tensor(list(itertools.product((0.0, 1.0), repeat=COLUMNS)))
    covariance = NOISE**2 * torch.eye(ROWS) + torch.einsum("sj,nj,mj->snm", supports, x, x)
    log_evidence = dist.MultivariateNormal(torch.zeros(ROWS), covariance).log_prob(y)
    log_prior = dist.Bernoulli(PRIOR_INCLUSION).log_prob(supports).sum(1)
    return supports, torch.softmax(log_evidence + log_prior, 0)


supports, probability = exact_posterior()
exact = probability @ supports
for support in probability.argsort(descending=True)[:4].tolist():
    columns = [f"x{j + 1}" for j in supports[support].nonzero().flatten().tolist()]
    print(f"{' and '.join(columns):<16} has probability {probability[support]:.2f}")

# %% [markdown]
# Now three other ways. `AutoSpikeSlab` answers each gate by a number of its own, independent of the others: it cannot
# say "one of the two". HMC needs continuous gates, and samples the *relaxed* model, in which a gate is a number between
# 0 and 1: another model, with another answer. With `gates="exact"` the gates are exactly 0 or 1 and drawn by Gibbs
# between the moves of all else: the true posterior again, by sampling.


# %%
class ManyDraws(SparseELBO):
    """The bound averaged over draws that are made side by side, so that what is wrong is the family's doing alone."""

    def differentiable_loss(self, model, guide, *args, **kwargs):
        def one(_):
            return elbo_terms(model, guide, *args, **kwargs).loss()

        return torch.vmap(one, randomness="different")(torch.arange(256)).mean()


guide = AutoSpikeSlab(regression, x, y, init_inclusion=0.5, init_scale=0.5, gate_gradient="disarm")
steps = 200 if SMOKE else 1000
svi = SVI(regression, guide, ClippedAdam({"lr": 0.15, "lrd": 0.03 ** (1 / steps), "betas": (0.9, 0.99)}), ManyDraws())
with pyro.validation_enabled(False):
    for _ in range(steps):
        svi.step(x, y)

length = {"warmup": 150, "draws": 500} if SMOKE else {"warmup": 500, "draws": 1000}
batch = SamplingPlan(kernel="chees", chains=32, **length)
options = {"seed": 0, "progress": False, "engine": "traced"}
sampled = {"relaxed gates": sample(regression, (x, y), batch, **options)}
sampled["exact spikes"] = sample(regression, (x, y), replace(batch, gates="exact"), **options)

inclusion = {"exact": exact, "AutoSpikeSlab": guide.inclusion()["gate"]}
inclusion |= {name: (draws.values["gate"] > 0.5).double().mean((0, 1)) for name, draws in sampled.items()}
print("\ninclusion         " + "".join(f"{f'x{j + 1}':>7}" for j in range(COLUMNS)))
for name, gamma in inclusion.items():
    print(f"{name:<18}" + "".join(f"{value:7.2f}" for value in gamma.tolist()))

# %%
figure = new_figure(9.0, 3.6)
axes = figure.subplots()
place = torch.arange(1, COLUMNS + 1)
axes.bar(place, inclusion["exact"], width=0.8, color=GRID, label="exact, all 64 supports")
marks = {"AutoSpikeSlab": ("o", BLUE), "relaxed gates": ("^", RED), "exact spikes": ("s", GREEN)}
for number, (name, (marker, color)) in enumerate(marks.items()):
    axes.plot(place + 0.22 * (number - 1), inclusion[name], marker, color=color, markersize=7, label=name)
axes.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
axes.set(ylim=(0, 1.03), ylabel="inclusion probability", xlabel="column; 1 and 2 are almost the same")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize="small", loc="center right")
axes.set_title("Inclusion of two columns that say the same", loc="left", fontweight="bold", color=INK)
show(figure, "04_inclusion")

# %% [markdown]
# The exact posterior is in two minds about both twins. SVI is sure of one of them, and reports a certainty that the
# data do not hold. What it *predicts* is hardly worse, since the twins predict the same: a wrong inclusion probability
# need not be a wrong prediction. So: **do not read the inclusion probabilities of SVI as evidence where inputs are
# correlated**; prune by them all the same.

# %%
twins = inclusion["AutoSpikeSlab"][:2]
assert 0.25 < exact[0] < 0.75 and 0.25 < exact[1] < 0.75, exact
assert (inclusion["exact spikes"] - exact).abs().max() < (0.12 if SMOKE else 0.05), inclusion
assert (twins - exact[:2]).abs().max() > 0.2, inclusion

# %% [markdown]
# ## 2. Variance: a network between two clouds of data
#
# One input, two clouds of points with nothing between them, a hidden layer of ten nodes under independent standard
# normal weights, no gates. A mean-field guide has to give up the correlations of the weights, and with them most of the
# width that the posterior has between the clouds.

# %%
torch.manual_seed(1)
x_line = torch.cat([-4 + 2.5 * torch.rand(25), 1.5 + 2.5 * torch.rand(25)]).unsqueeze(1)
y_line = torch.sin(x_line.squeeze(1)) + 0.2 * torch.randn(50)
grid = torch.linspace(-5, 5, 101).unsqueeze(1)
net = networks.mlp(1, (10,), 1, activation=nn.Tanh)
model = SparseNetwork(net, x_line[:2], prior=Gaussian(), likelihood=GaussianNoise(0.2), num_data=50)

epochs = 1500 if SMOKE else 8000
rates = LearningRates(slab_locs=1e-2, slab_scales=1e-2)
posterior = fit(model, (x_line, y_line), epochs=epochs, batch_size=50, rates=rates, seed=0, progress=False)

start = time.perf_counter()
length = {"warmup": 200, "draws": 100} if SMOKE else {"warmup": 500, "draws": 500}
plan = SamplingPlan(kernel="chees", chains=16, max_tree_depth=7, **length)
sampled_posterior = sample(model, (x_line, y_line), plan, **options)
print(f"ChEES: {time.perf_counter() - start:.0f} s")

# %% [markdown]
# First of all: have the chains met? The weights of a network never do, since its hidden nodes can change places; what
# they predict must. `r_hat` of the *function* at each point of the grid says so.

# %%
drawn = {
    "SVI, mean field": posterior.predict(grid, num_samples=1000, return_draws=True),
    "ChEES": sampled_posterior.predict(grid, return_draws=True),
}
chains = drawn["ChEES"].mean.unflatten(0, (16, -1))
between = (grid.abs() < 1).squeeze(1)
among = ((grid.abs() > 1.7) & (grid.abs() < 3.8)).squeeze(1)
print(f"R-hat of the function, at most: {r_hat(chains)[between | among].max():.2f}")

figure = new_figure(9.5, 3.8)
panels = figure.subplots(1, 2, sharey=True)
for axes, (name, found), color in zip(panels, drawn.items(), (BLUE, RED), strict=True):
    low, high = found.mean.quantile(torch.tensor([0.025, 0.975]), 0)
    axes.fill_between(grid.squeeze(1), low, high, color=color, alpha=0.25, linewidth=0)
    axes.plot(grid, found.mean.mean(0), color=color, linewidth=1.8)
    axes.plot(x_line, y_line, "o", color=INK, markersize=2.5)
    axes.set(ylim=(-3, 3), xlabel="x")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(name, loc="left", fontsize="medium", color=color)
panels[0].set_ylabel("function: mean and 95 % of draws")
figure.suptitle("What the network knows between two clouds of data", x=0.01, ha="left", fontweight="bold", color=INK)
show(figure, "04_variance")

# %%
spread = {name: found.mean.std(0) for name, found in drawn.items()}
apart = mixture_total_variation(drawn["SVI, mean field"], drawn["ChEES"])
for name, sd in spread.items():
    print(f"{name:<16} sd of the function: {sd[among].mean():.3f} among the data, {sd[between].mean():.3f} between")
print(
    f"total variation of the predictions: {apart[among].mean():.2f} among the data, {apart[between].mean():.2f} between"
)

# %% [markdown]
# Among the data both say much the same. Between the clouds SVI is too sure of itself by a factor. So: **where a
# prediction will be asked for far from the data, and its uncertainty matters, do not trust a mean-field guide.**

# %%
ratio = spread["SVI, mean field"] / spread["ChEES"]
assert ratio[between].mean() < 0.75, ratio[between].mean()
assert apart[between].mean() > 1.5 * apart[among].mean(), apart

# %% [markdown]
# ## 3. Real, noisy data
#
# 442 patients, ten measurements each, and how their diabetes went on in a year (it comes with scikit-learn). `compare`
# is what `bnn-pyro compare` runs: the same rows and the same network for every method, KL weight 1.

# %%
diabetes = load_diabetes()
inputs, outcome = torch.tensor(diabetes.data).float(), torch.tensor(diabetes.target).float()
shuffled = torch.randperm(len(outcome), generator=torch.Generator().manual_seed(0))
train, test = shuffled[:350], shuffled[350:]
inputs = (inputs - inputs[train].mean(0)) / inputs[train].std(0)
y_mean, y_std = float(outcome[train].mean()), float(outcome[train].std())
outcome = (outcome - y_mean) / y_std
splits = Split(inputs[train], outcome[train]), None, Split(inputs[test], outcome[test])
dataset = Dataset("diabetes", "regression", *splits, None, y_mean=y_mean, y_std=y_std)

recipe = Recipe(
    hidden=(5,),
    select_inputs=True,
    inclusion=0.3,
    dense=DenseTraining(epochs=20 if SMOKE else 100),
    epochs=300 if SMOKE else 1000,
    schedule=Schedule(hold=30 if SMOKE else 100),
)
length = {"warmup": 40, "draws": 20, "max_tree_depth": 5} if SMOKE else {"warmup": 300, "draws": 300}
methods = ("svi", "chees") if SMOKE else ()
found = compare(dataset, Comparison(recipe, methods, batch_chains=16, **length), progress=False)
print_comparison(found.metrics)

# %% [markdown]
# Look first at the R-hat of the chains: if they have not converged, there is nothing to compare with. Then at the
# scores, where the methods are hard to tell apart, and at the seconds, where they are not. Inclusion differs again:
# correlated measurements, and relaxed gates that are another model's.

# %%
methods, distances = found.metrics["methods"], found.metrics["distances"]
show(plot_inclusions(methods), "04_diabetes_inclusion")
show(plot_agreement(distances), "04_diabetes_agreement")

# %%
scores = {name: row["scores"] for name, row in found.metrics["methods"].items() if "scores" in row}
reference = scores["ChEES"]
assert scores["AutoSpikeSlab"]["rmse"] < 1.1 * reference["rmse"], scores
assert scores["AutoSpikeSlab"]["nll"] < reference["nll"] + 0.1, scores

# %% [markdown]
# ## So, when?
#
# * **To predict near the data, and to prune**: SVI. It is as good, and takes networks of any size.
# * **To say which inputs matter**, where inputs are correlated: exact spikes, on a small network.
# * **For uncertainty away from the data**: HMC, or at least a look at both on a small network of the same kind.
# * And where the chains have not converged (R-hat), nobody knows: that is the usual case for networks with little
#   noise, such as on the yacht data, where each chain keeps to a mode of its own.
