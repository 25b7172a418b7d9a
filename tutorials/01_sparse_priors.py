# %% [markdown]
# # Sparse priors, and a sparse regression by hand
#
# A spike-and-slab prior says of each group of weights that it is either **absent** (the spike: exactly zero) or drawn
# from a **slab**. This tutorial
#
# 1. looks at the three priors of `bnn_pyro`, with and without their spikes;
# 2. writes a sparse linear regression as a Pyro model by hand, so small that the exact posterior can be had by
#    enumeration, and sets the variational inclusion probabilities beside the exact ones;
# 3. writes a harder one (correlated columns, a horseshoe slab, unknown noise) where enumeration is out of reach.
#
# The script runs from top to bottom in about a minute (`SMOKE=1` shortens it) and opens as a notebook in any editor
# that knows the percent format. Figures are written to the folder named by `TUTORIAL_OUT`, by default
# `tutorials/figures`.

# %%
import itertools
import math
import os
from pathlib import Path

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from matplotlib.colors import TwoSlopeNorm
from pyro.infer import SVI, Predictive, TraceMeanField_ELBO
from pyro.optim import ClippedAdam
from pyro.poutine.messenger import Messenger

from bnn_pyro import SparseELBO
from bnn_pyro.inference import elbo_terms
from bnn_pyro.priors import (
    gate,
    group_horseshoe_scale,
    group_lasso_scale,
    half_cauchy,
    slab,
    spike_slab_gaussian,
    spike_slab_group_horseshoe,
    spike_slab_group_lasso,
)
from bnn_pyro.reports.figures import COLORS, GRID, INK, MUTED, REMOVED, new_figure
from guides import AutoSpikeSlab

SMOKE = os.environ.get("SMOKE") == "1"
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
OUT = Path(os.environ.get("TUTORIAL_OUT", HERE / "figures"))
OUT.mkdir(parents=True, exist_ok=True)
BLUE, RED, GREEN, PURPLE = COLORS[:4]
PRIORS = {"SS-IG": BLUE, "SS-GL": GREEN, "SS-GHS": RED}
pyro.set_rng_seed(0)


def show(figure, name, title):
    """Tidies a figure, saves it, and returns it for the notebook to draw."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize="small")
        axes.set_axisbelow(True)
    figure.suptitle(title, x=0.01, ha="left", fontweight="bold", color=INK)
    figure.savefig(OUT / f"{name}.png")
    return figure


# %% [markdown]
# ## 1. What each prior looks like
#
# The $m$ weights of node $j$ are drawn together. With a gate $z_j \sim \mathrm{Bernoulli}(\lambda)$,
#
# $$w_j \mid z_j = 0 \;=\; 0, \qquad w_j \mid z_j = 1 \;\sim\; N(0, \sigma_0^2 r_j^2 I_m),$$
#
# and the three priors differ in the node's scale $r_j$:
#
# | prior | scale of a node | its slab alone is |
# | --- | --- | --- |
# | SS-IG | $r_j = 1$ | the mean-field Gaussian |
# | SS-GL | $r_j^2 \sim \mathrm{Gamma}(\frac{m+1}{2}, \frac{\varsigma^2}{2})$ | the group lasso |
# | SS-GHS | $r_j = c s \tau_j / \sqrt{c^2 + s^2 \tau_j^2}$, $\tau_j \sim C^+(0, 1)$ | the regularised group horseshoe |
#
# The group lasso's scale makes the density of a group $p(w_j) \propto e^{-\varsigma \lVert w_j \rVert / \sigma_0}$.
# The rate $\varsigma^2$ and the scale $s$ are the whole network's, and are learned. Here they are held at $\varsigma^2
# = m + 1$ and $s = 1$, where a node's scale is about 1, so that what differs is the node.
#
# The priors are ordinary Pyro functions; outside of inference they simply draw. One thing to know: `gate` draws a
# *relaxed* Bernoulli, strictly inside (0, 1), because HMC needs that. A guide answers it with a hard 0 or 1, which the
# model counts as an atom with the Bernoulli's mass. To look at the true spike-and-slab prior we round the gates by a
# small handler.


# %%
class HardGates(Messenger):
    """Rounds every gate that is drawn."""

    def _pyro_post_sample(self, msg):
        if msg["name"].endswith("gate"):
            msg["value"] = msg["value"].round()


GLOBAL, INCLUSION = torch.tensor(1.0), 0.4
WITH_SPIKE = {
    "SS-IG": lambda shape: spike_slab_gaussian("w", shape, inclusion=INCLUSION),
    "SS-GL": lambda shape: spike_slab_group_lasso("w", shape, rate=shape[1] + 1.0, inclusion=INCLUSION),
    "SS-GHS": lambda shape: spike_slab_group_horseshoe("w", shape, global_scale=GLOBAL, inclusion=INCLUSION),
}
SCALE = {
    "SS-IG": lambda nodes, group_size: torch.ones(nodes),
    "SS-GL": lambda nodes, group_size: group_lasso_scale("w", nodes, group_size=group_size, rate=group_size + 1.0),
    "SS-GHS": lambda nodes, group_size: group_horseshoe_scale("w", nodes, global_scale=GLOBAL),
}


def draw_with_spike(name, shape):
    """Draws weights `(nodes, m)` from a spike-and-slab prior."""
    with HardGates():
        return WITH_SPIKE[name](shape)


def draw_slab(name, shape):
    """Draws weights `(nodes, m)` from a slab without its spike."""
    return slab("w", shape, scale=SCALE[name](*shape))


# %% [markdown]
# **A layer drawn from each prior.** A row is a node. Without a spike every node is there: the Gaussian's are all
# alike, the group lasso's differ a little, and the horseshoe's by orders of magnitude, with many rows close to zero
# but none at zero. The spike takes whole rows away, and leaves the others as they were.

# %%
figure = new_figure(10.5, 5.6)
grid = figure.subplots(2, 3, sharex=True, sharey=True)
norm = TwoSlopeNorm(0, -3, 3)
for column, name in enumerate(PRIORS):
    pictures = {"slab alone": draw_slab(name, (36, 24)), "spike and slab": draw_with_spike(name, (36, 24))}
    for row, (kind, weights) in enumerate(pictures.items()):
        axes = grid[row, column]
        picture = np.ma.masked_equal(weights.numpy(), 0.0)
        image = axes.imshow(picture, cmap="RdBu_r", norm=norm, aspect="auto", interpolation="nearest")
        axes.set_facecolor(REMOVED)
        axes.set(xticks=[], yticks=[])
        axes.set_title(f"{name}, {kind}", loc="left", fontsize="medium", color=PRIORS[name])
        axes.spines[:].set_visible(False)
        if kind == "spike and slab":
            axes.set_xlabel(f"{int((weights.abs().sum(1) > 0).sum())} of 36 nodes (absent: grey)", fontsize="small")
grid[0, 0].set_ylabel("nodes")
grid[1, 0].set_ylabel("nodes")
ticks = [-3, -1.5, 0, 1.5, 3]
bar = figure.colorbar(image, ax=grid, label="weight", fraction=0.03, pad=0.01, aspect=35, extend="both", ticks=ticks)
bar.outline.set_visible(False)
show(figure, "01_layers", "One layer of 36 nodes with 24 weights each, drawn from the prior")

# %% [markdown]
# **Norms of many groups**, on a logarithmic axis, with exact zeros in a bar of their own. Shaded: the slab alone.
# Line: spike and slab, which is the slab's picture times $\lambda$, plus the bar.

# %%
NODES, GROUP_SIZE = 5_000 if SMOKE else 50_000, 10
edges = np.geomspace(1e-2, 20, 61)
AT_ZERO = (4e-4, 1.3e-3)


def shares(norms):
    """Returns the share of groups in each bin."""
    return np.histogram(norms, edges)[0] / len(norms)


figure = new_figure(10.5, 3.7)
panels = figure.subplots(1, 3, sharey=True)
for axes, (name, color) in zip(panels, PRIORS.items(), strict=True):
    alone = draw_slab(name, (NODES, GROUP_SIZE)).norm(dim=1).numpy()
    spiked = draw_with_spike(name, (NODES, GROUP_SIZE)).norm(dim=1).numpy()
    axes.stairs(shares(alone), edges, fill=True, color=color, alpha=0.3, label="slab alone")
    axes.stairs(shares(spiked), edges, color=color, linewidth=1.8, label="spike and slab")
    zeros = (spiked == 0).mean()
    axes.fill_between(AT_ZERO, 0.2, facecolor="white", edgecolor=color, linewidth=1.4)
    axes.fill_between(AT_ZERO, 0.2 * zeros, facecolor=color, linewidth=0)
    middle_of_bar = math.sqrt(AT_ZERO[0] * AT_ZERO[1])
    axes.text(middle_of_bar, 0.2 * zeros + 0.004, f"{zeros:.0%}", ha="center", color=color, fontsize="small")
    axes.set_xscale("log")
    axes.set_xticks([middle_of_bar, 0.01, 0.1, 1, 10], ["exactly 0", "0.01", "0.1", "1", "10"])
    axes.set_xticks([], minor=True)
    axes.set(xlim=(2.5e-4, 25), ylim=(0, 0.24), xlabel=r"norm of the group, $\Vert w_j \Vert$")
    axes.set_title(name, loc="left", fontsize="medium", color=color)
    axes.legend(loc=(0.3, 0.72), frameon=False, fontsize="small")
panels[0].set_ylabel("share of groups a bin")
show(figure, "01_norms", f"Norms of groups of {GROUP_SIZE} weights under each prior")

# %% [markdown]
# **What a prior does to an estimate.** Observe one weight with unit noise, $y = w + \varepsilon$. Given the scale, the
# posterior mean is $\frac{r^2}{1 + r^2} y$ and the evidence $N(y; 0, 1 + r^2)$, so draws of the scale from our own
# prior functions give $E[w \mid y]$ to high accuracy. With a spike,
#
# $$P(z = 1 \mid y) = \frac{\lambda\, p_{\mathrm{slab}}(y)}{\lambda\, p_{\mathrm{slab}}(y) + (1 - \lambda) N(y; 0, 1)}$$
#
# multiplies it. The Gaussian slab shrinks everything by one factor, noise and signal alike. The lasso takes off the
# same amount from every large signal. The horseshoe presses small signals together and would leave large ones alone
# (dashed: unregularised, $c = \infty$); regularised, it treats those like a Gaussian, which keeps a network's weights
# bounded. None of them sets anything to zero. The spike does what no slab can: it decides.

# %%
SIGMA, LAMBDA, y_grid = 2.0, 0.1, torch.linspace(0, 8, 161)
CURVES = {name: (SCALE[name], color, "-") for name, color in PRIORS.items()}
CURVES["SS-GHS, c = ∞"] = (lambda n, m: group_horseshoe_scale("w", n, global_scale=GLOBAL, slab_width=None), RED, "--")


def evidence_and_mean(draw_scale, draws=20_000):
    """Returns p(y) and E[w | y] under a slab, for each y of the grid."""
    scale = SIGMA * draw_scale(draws, 1)
    variance = 1 + scale.square()
    log_density = dist.Normal(0, variance.sqrt()).log_prob(y_grid[:, None])
    factor = (torch.softmax(log_density, 1) * (scale.square() / variance)).sum(1)
    return log_density.exp().mean(1), factor * y_grid


figure = new_figure(10.5, 3.8)
left, middle, right = figure.subplots(1, 3)
spike = dist.Normal(0.0, 1.0).log_prob(y_grid).exp()
for name, (draw_scale, color, style) in CURVES.items():
    evidence, mean = evidence_and_mean(draw_scale)
    inclusion = LAMBDA * evidence / (LAMBDA * evidence + (1 - LAMBDA) * spike)
    for axes, curve in ((left, mean), (middle, inclusion * mean), (right, inclusion)):
        axes.plot(y_grid.numpy(), curve.numpy(), style, color=color, linewidth=2 if style == "-" else 1.4, label=name)
for axes, title in ((left, "slab alone"), (middle, "spike and slab")):
    axes.plot((0, 8), (0, 8), color=MUTED, linewidth=1, linestyle=":")
    axes.set(xlim=(0, 8), ylim=(0, 8), xlabel="observation y")
    axes.set_title(title, loc="left", fontsize="medium")
left.set_ylabel("posterior mean of the weight")
right.axhline(0.5, color=MUTED, linewidth=1, linestyle=":")
right.set(xlim=(0, 8), ylim=(0, 1.02), xlabel="observation y", ylabel="inclusion probability")
right.set_title("the gate", loc="left", fontsize="medium")
left.legend(loc="upper left", frameon=False, fontsize="small")
show(figure, "01_shrinkage", rf"Shrinkage of one weight, $\sigma_0 = {SIGMA:g}$, $\lambda = {LAMBDA:g}$")

# %% [markdown]
# ## 2. A sparse regression whose posterior is known
#
# Eight orthonormal columns, a Gaussian slab, known noise. There are $2^8$ supports; given one, $y$ is Gaussian, so the
# posterior probability of every support, and with it every inclusion probability, can be written down.

# %%
COLUMNS, ROWS, NOISE, PRIOR_INCLUSION = 8, 40, 0.5, 0.3
torch.set_default_dtype(torch.float64)
pyro.set_rng_seed(1)
x = torch.linalg.qr(torch.randn(ROWS, COLUMNS)).Q
truth = torch.tensor([0.0, 0.45, 0.8, 0.95, 1.1, 1.35, 1.55, 1.9])
residual = NOISE * torch.randn(ROWS)
y = x @ truth + residual - x @ (x.T @ residual)  # the least-squares fit is the truth, so that the columns differ evenly


def exact_inclusion():
    """Returns the inclusion probabilities and the evidence by enumeration of all supports."""
    supports = torch.tensor(list(itertools.product((0.0, 1.0), repeat=COLUMNS)))
    covariance = NOISE**2 * torch.eye(ROWS) + torch.einsum("sj,nj,mj->snm", supports, x, x)
    log_evidence = dist.MultivariateNormal(torch.zeros(ROWS), covariance).log_prob(y)
    log_prior = dist.Bernoulli(PRIOR_INCLUSION).log_prob(supports).sum(1)
    return torch.softmax(log_evidence + log_prior, 0) @ supports, torch.logsumexp(log_evidence + log_prior, 0)


exact, evidence = exact_inclusion()
print("exact inclusion probabilities:", [round(p, 3) for p in exact.tolist()])

# %% [markdown]
# The model is the theory's, line by line. The one thing that is ours is the hint `gates={"gate": -1}`: it says that
# gate `j` multiplies entry `j` of the slab's last dimension. The guide then weights that entry's divergence by the
# gate's inclusion probability, as it must: a weight whose gate is closed is not seen by the likelihood and keeps its
# prior, which costs nothing.


# %%
def regression(x, y=None):
    """A sparse linear regression with a Gaussian slab and known noise."""
    z = gate("gate", torch.tensor(PRIOR_INCLUSION), size=COLUMNS)
    w = slab("weight", (COLUMNS,), scale=torch.tensor(1.0), gates={"gate": -1})
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(x @ (z * w), NOISE), obs=y)


# %% [markdown]
# Here the variational family contains the posterior (orthonormal columns make it factorise), so whatever differs from
# the exact answer is the *gradient's* doing. A hard gate has none of its own, and there are three ways out:
#
# * **ReinMax** takes the mean of the slopes at 0 and at 1, the trapezoid rule: cheap, exact where the log-likelihood is
#   quadratic in each gate, as here;
# * **straight-through** pretends in the backward pass that the gate was a sigmoid of temperature $T$: cheap, biased;
# * **DisARM** runs the model twice, with antithetic gates: unbiased, twice the price.
#
# One draw a step is enough to train. To compare to two decimals we want less noise, so each step averages many draws,
# side by side under `torch.vmap`. Otherwise this is `pyro.infer.SVI` as everyone knows it.


# %%
class ManyDraws(SparseELBO):
    """The bound averaged over draws that are made side by side."""

    def differentiable_loss(self, model, guide, *args, **kwargs):
        def one(_):
            return elbo_terms(model, guide, *args, **kwargs).loss()

        return torch.vmap(one, randomness="different")(torch.arange(1024)).mean()


def fitted_inclusion(gate_gradient, temperature, steps=140 if SMOKE else 600):
    """Fits the regression by SVI and returns inclusion probabilities, averaged over the second half of the steps."""
    pyro.set_rng_seed(0)
    pyro.clear_param_store()
    options = {"gate_gradient": gate_gradient, "temperature": temperature}
    guide = AutoSpikeSlab(regression, x, y, init_inclusion=0.5, init_scale=0.5, **options)
    optimiser = ClippedAdam({"lr": 0.4, "lrd": 0.03 ** (1 / steps), "betas": (0.9, 0.99)})
    svi = SVI(regression, guide, optimiser, ManyDraws())
    seen = []
    with pyro.validation_enabled(False):
        for _ in range(steps):
            svi.step(x, y)
            seen.append(guide.inclusion()["gate"])
    return torch.stack(seen[steps // 2 :]).mean(0)


found = {
    "ReinMax": fitted_inclusion("reinmax", 0.5),
    "DisARM": fitted_inclusion("disarm", 0.5),
    "straight-through, T = 0.1": fitted_inclusion("straight-through", 0.1),
    "straight-through, T = 0.5": fitted_inclusion("straight-through", 0.5),
}
error = {name: (gamma - exact).abs().max().item() for name, gamma in found.items()}
for name, value in error.items():
    print(f"{name:<26} largest error of an inclusion probability {value:.3f}")

# %% [markdown]
# ReinMax and DisARM find the exact probabilities. Straight-through does not, and more steps would not help: at
# $T = 0.5$ it is wrong by up to 0.16 here, with one weight behind each gate. With many the bias is larger, and pulls
# needed gates across 1/2. ReinMax is the guides' default; DisARM, at twice the price, is unbiased for any likelihood.

# %%
STYLES = {
    "ReinMax": ("D", INK),
    "DisARM": ("o", GREEN),
    "straight-through, T = 0.1": ("s", BLUE),
    "straight-through, T = 0.5": ("^", RED),
}
figure = new_figure(9.5, 5.4)
above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
place = np.arange(COLUMNS)
above.bar(place, exact.numpy(), width=0.78, color=GRID, label="exact, all 256 supports")
below.axhspan(-0.02, 0.02, color=GRID, linewidth=0)
for number, (name, gamma) in enumerate(found.items()):
    marker, color = STYLES[name]
    at = place + 0.2 * (number - 1.5)
    above.plot(at, gamma.numpy(), marker, color=color, markersize=7, label=f"{name} (off by {error[name]:.3f})")
    below.vlines(at, 0, (gamma - exact).numpy(), color=color, linewidth=2.5)
    below.plot(at, (gamma - exact).numpy(), marker, color=color, markersize=5)
above.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
above.set(ylim=(0, 1.04), ylabel="inclusion probability")
above.legend(loc="upper left", frameon=False, fontsize="small")
below.axhline(0, color=INK, linewidth=0.8)
below.set(ylabel="error (band: ±0.02)", xlabel="column, with its least-squares coefficient")
below.set_xticks(place, [f"$x_{j + 1}$: {b:g}" for j, b in enumerate(truth.tolist())])
show(figure, "01_exact", "Inclusion probabilities: exact enumeration and four gradients")

# %%
assert error["ReinMax"] < 0.02, error
assert error["DisARM"] < 0.02, error
assert error["straight-through, T = 0.1"] < error["straight-through, T = 0.5"], error
assert error["straight-through, T = 0.5"] > 0.1, error

# %% [markdown]
# ## 3. What cannot be enumerated
#
# Thirty columns, neighbours correlated by 0.7, four that matter; the noise and the slab's scales unknown. The model is
# as short as before. `half_cauchy` is drawn as the root of a Gamma times an inverse Gamma, each of which a LogNormal
# fits well and for which the divergence has a closed form; the noise is any Pyro site, and the guide answers that too.

# %%
WIDE, ACTIVE = 30, {3: 1.5, 11: -1.0, 12: 0.8, 24: -2.0}
pyro.set_rng_seed(2)
correlation = 0.7 ** (torch.arange(WIDE)[:, None] - torch.arange(WIDE)).abs()
x_wide = dist.MultivariateNormal(torch.zeros(WIDE), correlation).sample((150,))
true_weights = torch.zeros(WIDE)
true_weights[list(ACTIVE)] = torch.tensor(list(ACTIVE.values()))
y_wide = x_wide @ true_weights + 0.7 * torch.randn(150)


def horseshoe_regression(x, y=None):
    """A sparse linear regression with a horseshoe slab and unknown noise."""
    s = half_cauchy("s", torch.tensor(1.0))
    w = spike_slab_group_horseshoe("x", (WIDE,), global_scale=s, slab_width=2.0, inclusion=0.05)
    noise = pyro.sample("noise", dist.HalfCauchy(torch.tensor(1.0)))
    with pyro.plate("data", len(x)):
        return pyro.sample("y", dist.Normal(x @ w, noise), obs=y)


# %% [markdown]
# The gates start open, and are *held* open at first: a gate that moves before its slab has settled judges a weight
# that is not there yet, and closes. (For networks `fit` does this by `Schedule(hold=...)`.)

# %%
pyro.clear_param_store()
guide = AutoSpikeSlab(horseshoe_regression, x_wide, y_wide)
steps, hold = (380, 60) if SMOKE else (1500, 200)
optimiser = ClippedAdam({"lr": 0.15, "lrd": 0.05 ** (1 / steps)})
svi = SVI(horseshoe_regression, guide, optimiser, SparseELBO())
with pyro.validation_enabled(False):
    for step in range(steps):
        guide.gate_mode = "open" if step < hold else "free"
        svi.step(x_wide, y_wide)

# %% [markdown]
# `SparseELBO` runs model and guide in one pass, and knows DisARM and KL weights. Without those, Pyro's own
# `TraceMeanField_ELBO` is the same number under the same noise:

# %%
for elbo in (SparseELBO(), TraceMeanField_ELBO()):
    pyro.set_rng_seed(3)
    print(f"{type(elbo).__name__:<20} loss {elbo.loss(horseshoe_regression, guide, x_wide, y_wide):.6f}")

# %% [markdown]
# `Predictive` draws from the guide as from any other. A weight is its gate times its slab, so a draw is exactly zero
# where the gate is closed.

# %%
draws = Predictive(horseshoe_regression, guide=guide, num_samples=100 if SMOKE else 1000)(x_wide)
gates, slabs = (draws[name].reshape(-1, WIDE) for name in ("x.gate", "x.weight"))
weight = (gates * slabs).mean(0).tolist()
gamma = guide.inclusion()["x.gate"].tolist()
kept = {j for j in range(WIDE) if gamma[j] > 0.5}
print("kept:", sorted(kept), "noise:", round(draws["noise"].mean().item(), 3))

figure = new_figure(9.5, 5.0)
above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
colors = [RED if j in kept else MUTED for j in range(WIDE)]
above.axhline(0, color=INK, linewidth=0.6)
above.scatter(range(WIDE), weight, s=18, color=colors, zorder=3)
for j in kept:
    low, high = slabs[gates[:, j] > 0.5, j].quantile(torch.tensor([0.05, 0.95])).tolist()
    above.vlines(j, low, high, color=RED, linewidth=5, alpha=0.45)
above.plot(list(ACTIVE), list(ACTIVE.values()), "_", color=INK, markersize=18, markeredgewidth=1.6, label="truth")
above.plot([], [], "o", color=RED, label="kept: posterior mean, and 90 % interval given an open gate")
above.plot([], [], "o", color=MUTED, label="not kept: posterior mean")
above.set_ylabel("weight")
above.legend(loc="lower left", frameon=False, fontsize="small")
below.bar(range(WIDE), gamma, color=colors)
below.axhline(0.5, color=MUTED, linewidth=1, linestyle="--")
below.set(ylim=(0, 1.04), ylabel="inclusion", xlabel="column", xlim=(-0.8, WIDE - 0.2))
show(figure, "01_horseshoe", "Thirty correlated columns, four of them active")

# %%
assert kept == set(ACTIVE), sorted(kept)

# %% [markdown]
# The support is right. The inclusion probabilities are not to be read to the second decimal: with one draw a step they
# are noisy, and with correlated columns a fully factorised family settles on *one* support, more surely than it should.
#
# The next tutorial does the same to the nodes of a network: `02_mnist_svi.py`.
