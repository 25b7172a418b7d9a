# %% [markdown]
# # From MNIST to a small network, step by step
#
# This is what `bnn-pyro fit mnist` does (in three times as many epochs), taken apart:
#
# 1. train a dense network;
# 2. put a spike-and-slab prior on it, which makes it a Pyro model with a gate on every node and every pixel;
# 3. fit the posterior, which starts from the dense network and closes the gates of nodes that do not pay;
# 4. look at it: predictions, calibration, inclusion probabilities;
# 5. cut the closed nodes away, and measure what is left: a plain, smaller `nn.Module`.
#
# The data are expected in the folder `BNN_PYRO_DATA` (default `data`) and are downloaded there if absent. On one core
# it takes a few minutes; `SMOKE=1` does the same on the small digits that scikit-learn brings along, in seconds.
# Figures and files are written to the folder named by `TUTORIAL_OUT`, by default `tutorials/figures`.

# %%
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import torch

from bnn_pyro import (
    Categorical,
    GroupHorseshoe,
    LearningRates,
    Schedule,
    SparseNetwork,
    SpikeSlab,
    data,
    fit,
    load_posterior,
    networks,
    prune,
    save_posterior,
    train_dense,
)
from bnn_pyro.evaluation import classification_metrics, compare_cost, measure_latency, nodes_kept, reliability_curve
from bnn_pyro.reports.figures import COLORS, SHADES, new_figure, style_axes
from bnn_pyro.reports.plots import plot_calibration, plot_first_layer, plot_inclusion, plot_training
from guides import AutoSpikeSlab

SMOKE = os.environ.get("SMOKE") == "1"
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
OUT = Path(os.environ.get("TUTORIAL_OUT", HERE / "figures"))
OUT.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)


def show(figure, name):
    """Saves a figure and returns it for the notebook to draw."""
    figure.savefig(OUT / f"{name}.png")
    return figure


# %%
MNIST = SimpleNamespace(
    data="mnist",
    hidden=(400, 400),
    dense_epochs=5,
    dense_batch=128,
    epochs=20,
    batch=512,
    hold=2,
    freeze=6,
    kl_weight=0.12,
    kl_warmup=1.5,
    rates=LearningRates(slab_locs=3e-3, slab_scales=3e-2, scales=3e-2, gates=8e-2),
)
DIGITS = SimpleNamespace(  # a rushed run: few epochs at large learning rates
    data="digits",
    hidden=(50, 50),
    dense_epochs=20,
    dense_batch=64,
    epochs=18,
    batch=128,
    hold=2,
    freeze=4,
    kl_weight=0.2,
    kl_warmup=2.0,
    rates=LearningRates(slab_locs=5e-3, slab_scales=3e-2, scales=3e-2, gates=1e-1),
)
settings = DIGITS if SMOKE else MNIST

# %% [markdown]
# ## 1. Data and a dense network
#
# `load` returns tensors in splits, pixels in [0, 1]. A twelfth of the training rows is held out, to watch.

# %%
dataset = data.load(settings.data, data_dir=os.environ.get("BNN_PYRO_DATA", "data"), flatten=True, validation=1 / 12)
train, validation, test = ((part.x, part.y) for part in (dataset.train, dataset.validation, dataset.test))
inputs, side = train[0].shape[1], math.isqrt(train[0].shape[1])
print(f"{settings.data}: {len(train[1])} rows to train on, {len(validation[1])} to watch, {len(test[1])} to test")

# %% [markdown]
# A trained dense net is the best place for the posterior to start: training a sparse one from scratch costs accuracy,
# because nodes are judged before they have learnt anything.

# %%
likelihood = Categorical()
net = networks.mlp(inputs, settings.hidden, dataset.num_classes)
dense = train_dense(
    net,
    train,
    likelihood=likelihood,
    epochs=settings.dense_epochs,
    batch_size=settings.dense_batch,
    learning_rate=3e-3,
    seed=0,
)
with torch.no_grad():
    dense_probabilities = dense(test[0]).softmax(-1)
print("dense:", classification_metrics(dense_probabilities, test[1]))

# %% [markdown]
# ## 2. The Bayesian network
#
# `SparseNetwork` reads the net's dependency graph, finds what can be removed as one piece (a row of one layer with the
# columns of the next that read it), and draws for each such node a gate, a scale and its weights. `select_inputs` gives
# the pixels gates too. The net is copied, not changed, and the result is an ordinary Pyro model: it can be given to
# `Predictive`, to `pyro.infer.SVI`, to a custom guide.

# %%
model = SparseNetwork(
    dense,
    train[0][:2],
    prior=SpikeSlab(GroupHorseshoe(), inclusion=1e-3),
    likelihood=likelihood,
    num_data=len(train[1]),
    select_inputs=True,
)
for group in model.nodes.groups:
    print(f"group {group.name!r}: {group.size} nodes")
for name, reason in model.nodes.dense.items():
    print(f"stays dense: {name!r}, because {reason}")

# %% [markdown]
# `AutoSpikeSlab` answers the model's sites: a hard gate for a gate, a LogNormal for a scale, and for the weights a
# Normal *in units of their node's scale*. Its parameters exist from the start, and start at the dense net.

# %%
guide = AutoSpikeSlab(model.prior)
print({role: sum(p.numel() for p in group) for role, group in guide.parameter_groups().items()})

# %% [markdown]
# ## 3. Fitting
#
# Three phases. The gates are first **held** open, so that the weights' uncertainty settles before any node is judged;
# then they are **free**; at the end they are **frozen** at their more probable value, and the weights that are left
# settle down.
#
# `kl_weight` below 1 makes the posterior a **tempered** (cold) one: the data count for more than Bayes' rule says. It
# is the knob between size and accuracy. With 1 the posterior is the true one, which keeps fewer nodes at less accuracy.
# `shrink_below` leaves nodes out of the computation once they have settled closed, which makes the rest of the run
# cheaper.

# %%
posterior = fit(
    model,
    train,
    guide=guide,
    epochs=settings.epochs,
    batch_size=settings.batch,
    kl_weight=settings.kl_weight,
    schedule=Schedule(hold=settings.hold, freeze=settings.freeze, kl_warmup=settings.kl_warmup, shrink_below=0.03),
    rates=settings.rates,
    validation=validation,
    seed=0,
)
totals = {group.name: group.size for group in model.nodes.groups}
show(plot_training(posterior.history, totals), "02_training")

# %% [markdown]
# ## 4. What the posterior says
#
# A prediction is the mean of the class probabilities over draws of gates and weights. The **median-probability model**
# (gates at γ > 1/2, weights at their means) is a single network, and the one that is pruned.

# %%
probabilities = posterior.predict(test[0])
scores = {
    "dense": classification_metrics(dense_probabilities, test[1]),
    "posterior, 32 draws": classification_metrics(probabilities, test[1]),
    "median model": posterior.evaluate_median(*test),
}
print(f"tempered: {posterior.tempered}")
for name, score in scores.items():
    print(f"{name:<20} " + "  ".join(f"{key} {value:.4f}" for key, value in score.items()))

# %%
with torch.no_grad():
    median_probabilities = posterior.median_model()(test[0]).softmax(-1)
curves = {
    "dense": reliability_curve(dense_probabilities, test[1]),
    "posterior": reliability_curve(probabilities, test[1]),
    "median model": reliability_curve(median_probabilities, test[1]),
}
show(plot_calibration(curves), "02_calibration")

# %% [markdown]
# The test images that the posterior is least sure of, with the share of each class over the draws. It is unsure where a
# reader would be.

# %%
unsure = probabilities.max(1).values.argsort()[:8]
figure = new_figure(10.5, 2.6)
pictures = figure.subplots(2, len(unsure), height_ratios=(1.8, 1))
top = 1.05 * probabilities[unsure].max().item()
for column, row in enumerate(unsure.tolist()):
    above, below = pictures[:, column]
    above.imshow(test[0][row].reshape(side, side).numpy(), cmap="gray_r", interpolation="nearest")
    above.set(xticks=[], yticks=[], title=f"a {int(test[1][row])}")
    colors = [COLORS[1] if c == int(test[1][row]) else COLORS[0] for c in range(dataset.num_classes)]
    below.bar(range(dataset.num_classes), probabilities[row].numpy(), color=colors)
    below.set(ylim=(0, top), yticks=[], xticks=range(dataset.num_classes))
    below.tick_params(labelsize=6, length=0)
    below.spines[["top", "right", "left"]].set_visible(False)
figure.suptitle("Least sure test images (orange: the true class)", x=0.01, ha="left", fontweight="bold")
show(figure, "02_unsure")

# %% [markdown]
# The gates. Most end near 0 or 1, so that little hangs on the threshold.

# %%
show(plot_inclusion(posterior.inclusion()), "02_inclusion")

# %% [markdown]
# What the first layer looks at: which pixels are read, and how. The frame, where no digit ever comes, is gone.

# %%
keep = posterior.keep()
reads_pixels, first_hidden = model.nodes.groups[0].name, model.nodes.groups[1].name
weights = posterior.median_model().hidden1.weight
figure = plot_first_layer(weights, (side, side), keep_inputs=keep[reads_pixels], keep_nodes=keep[first_hidden])
show(figure, "02_first_layer")

# %% [markdown]
# ## 5. Pruning
#
# `prune` cuts the median-probability model: closed nodes are gone, with their rows, biases and readers. What comes out
# is a plain module with smaller layers, which gives the same outputs as the median model up to rounding; exported
# (`torch.export`), it runs where there is only torch. (`posterior.shrink()` gives a smaller *posterior* instead, which
# can be trained on.)

# %%
small = prune(posterior)
print(small)
with torch.no_grad():
    difference = (small(test[0]) - posterior.median_model()(test[0])).abs().max().item()
    accuracy = (small(test[0]).argmax(1) == test[1]).float().mean().item()
cost = compare_cost(dense, small, train[0][:1])
latency = measure_latency({"dense": dense, "pruned": small}, test[0][:256])
ratio = latency["pruned"].median / latency["dense"].median
print("nodes kept:", nodes_kept(keep))
print(f"parameters {cost.pruned.parameters} of {cost.dense.parameters} ({cost.params_kept:.1%})")
print(f"FLOPs {cost.pruned.flops} of {cost.dense.flops} ({cost.flops_kept:.1%})")
print(f"latency at batch 256: {ratio:.2f} of the dense net's")
print(f"test accuracy {accuracy:.4f}; largest difference of an output from the median model {difference:.1e}")

# %% [markdown]
# ## 6. Saving and loading
#
# A posterior is saved as tensors and plain values, and loaded into a model and guide of the same make. The pruned net
# is any other module: save its `state_dict`, or export it.

# %%
save_posterior(posterior, OUT / "02_posterior.pt")
again = load_posterior(OUT / "02_posterior.pt", model, guide=guide)
torch.manual_seed(1)
before = posterior.predict(test[0][:100], num_samples=8)
torch.manual_seed(1)
after = again.predict(test[0][:100], num_samples=8)

# %%
assert torch.equal(before, after)
assert difference < 1e-4, difference
assert accuracy > (0.85 if SMOKE else 0.97), accuracy
assert cost.params_kept < (0.6 if SMOKE else 0.1), cost.params_kept

# %% [markdown]
# ## 7. Why the guide is non-centred, and what it costs
#
# The model says $w \sim N(0, r^2)$ with a random scale $r$. A **centred** family gives $w$ a Normal of its own; ours
# gives $w / r$ one (**non-centred**), so that when a scale shrinks its whole group shrinks with it. `AutoCentered` is
# the other one; to try it, pass `guide=AutoCentered(model.prior)` above. `benchmarks/centered.py` fits both to SS-GL on
# digits, from the same start with the same batches:

# %%
RESULTS = HERE.parent / "benchmarks" / "results" / "centered.json"
if RESULTS.exists():
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]
    figure = new_figure(9.6, 3.7)
    left, right = figure.subplots(1, 2)
    for row in rows:
        color = {"non-centred": COLORS[0], "centred": COLORS[1]}[row["guide"]]
        label = row["guide"] if row["seed"] == rows[0]["seed"] else None
        hold, epochs = row["settings"]["hold"], range(1, len(row["bound"]) + 1)
        left.plot(epochs, row["bound"], color=color, label=label)
        right.plot(epochs[hold:], row["bound"][hold:], color=color)
        print(
            f"seed {row['seed']} {row['guide']:<12} bound {row['final_bound']:.3f} accuracy {row['test_accuracy']:.4f}"
        )
    left.axvspan(0, hold, color=SHADES[0], linewidth=0, zorder=0, label="gates held open")
    left.set(ylabel="tempered bound, nats per datum")
    left.legend(frameon=False, loc="lower right")
    right.set_title("once the gates are free", loc="left", fontsize="medium")
    for axes in (left, right):
        style_axes(axes)
        axes.set(xlabel="epoch")
    figure.suptitle("SS-GL on digits, three seeds", x=0.01, ha="left", fontweight="bold")
    show(figure, "02_centered")

# %% [markdown]
# The centred family is the quicker one while the gates are held open: its weights need not wait for their scales. Once
# the gates move it is the other way round. The non-centred bound passes after some 45 epochs and is the higher one at
# the end in all three seeds, by 0.06 nats per datum, with fewer nodes (14 and 18 of 50 on average, against 20 and 32)
# at half a point less accuracy (96.7 % against 97.2 %). So non-centring is what prunes; a net as small as this one
# also works without, whereas in deep residual nets the method's authors logged the centred group lasso failing
# outright.
