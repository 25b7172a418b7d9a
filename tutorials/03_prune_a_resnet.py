# %% [markdown]
# # A torchvision net, made smaller
#
# Any `nn.Module` can be pruned, with no line of it changed. Here it is torchvision's ResNet-18:
#
# 1. what can be removed from it, and what cannot and why;
# 2. train it as usual;
# 3. put a gate on every channel, and let the data decide which ones stay;
# 4. see which channels are left;
# 5. cut the others away: a plain ResNet with fewer channels and the same outputs, beside the dense one.
#
# The images are scikit-learn's digits, enlarged, which need no download; on one core it takes a few minutes. With
# `TUTORIAL_DATA=cifar10` they are those of CIFAR-10, expected in the folder `BNN_PYRO_DATA` (default `data`) and
# downloaded there if absent: a task for a GPU, which is used where there is one. `SMOKE=1` does the same with a thin
# net on few digits, in seconds. Figures and files are written to the folder named by `TUTORIAL_OUT`, by default
# `tutorials/figures`.

# %%
import os
from pathlib import Path
from types import SimpleNamespace

import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from bnn_pyro import (
    Categorical,
    GroupHorseshoe,
    LearningRates,
    Schedule,
    SparseNetwork,
    SpikeSlab,
    data,
    find_nodes,
    fit,
    prune,
    train_dense,
)
from bnn_pyro.evaluation import compare_cost, measure_latency, nodes_kept
from bnn_pyro.evaluation.memory import peak_activations
from bnn_pyro.export import load_net, save_net
from bnn_pyro.pruning.cutting import cut
from bnn_pyro.reports.plots import plot_nodes_kept, plot_training

SMOKE = os.environ.get("SMOKE") == "1"
HERE = Path(__file__).parent if "__file__" in globals() else Path.cwd()
OUT = Path(os.environ.get("TUTORIAL_OUT", HERE / "figures"))
OUT.mkdir(parents=True, exist_ok=True)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
torch.manual_seed(0)
torch.set_flush_denormal(True)  # weights on their way to 0 are slow on a CPU otherwise


def show(figure, name):
    """Saves a figure and returns it for the notebook to draw."""
    figure.savefig(OUT / f"{name}.png")
    return figure


# %% [markdown]
# ## 1. What can be removed
#
# A **node** of a convolutional net is a channel: the filter that writes it, its BatchNorm, and all columns that read
# it. `find_nodes` reads that from the net's dependency graph, and tries out each group on a copy with random weights.
# A skip connection adds channels, so those that it adds can only go together: one group of a ResNet runs through all
# blocks of a stage.

# %%
net = torchvision.models.resnet18(num_classes=10)
example = torch.randn(2, 3, 32, 32)
nodes = find_nodes(net, example)
for group in nodes.groups:
    layers = [axis.parameter.removesuffix(".weight") for axis in group.writers if axis.parameter.endswith("weight")]
    convolutions = [name for name in layers if isinstance(net.get_submodule(name), nn.Conv2d)]
    print(f"{group.name:<22} {group.size:>4} channels, written by {', '.join(convolutions)}")
for name, reason in nodes.dense.items():
    print(f"{name:<22} stays: {reason}")

# %% [markdown]
# Only the output stays. Not every layer can lose a channel without changing what the others compute, and what cannot
# is left dense and says why:

# %%
awkward = nn.Sequential(
    *(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.ReLU()),
    *(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2), nn.ReLU()),
    *(nn.Conv2d(8, 12, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 2)),
)
found = find_nodes(awkward, example)
for group in found.groups:
    print(f"layer {group.name}: {group.size} channels")
for name, reason in found.dense.items():
    print(f"layer {name} stays: {reason}")

# %%
assert [group.name for group in found.groups] == ["8"] and list(nodes.dense) == ["fc"]

# %% [markdown]
# ## 2. Data and a dense net
#
# The digits are grey and small, so they are enlarged and given three channels. They do not need eleven million weights
# either: to save time the net is made thin first, by the same cut that pruning ends with, to every fourth channel
# (CIFAR-10 has the whole net, the smoke run every eighth channel).

# %%
DIGITS = SimpleNamespace(
    rows=None,
    size=32,
    every=4,
    dense_epochs=6,
    dense_rate=2e-3,
    epochs=12,
    batch=96,
    hold=1,
    freeze=4,
    kl_weight=0.004,
    shrink_below=0.03,
    rates=LearningRates(slab_locs=2e-3, slab_scales=5e-2, scales=5e-2, gates=1.5e-1),
)
CIFAR = SimpleNamespace(
    rows=None,
    size=32,
    every=1,
    dense_epochs=15,
    dense_rate=1e-3,
    epochs=40,
    batch=128,
    hold=2,
    freeze=10,
    kl_weight=0.05,
    shrink_below=0.03,
    rates=LearningRates(slab_locs=1e-3, slab_scales=1e-2, scales=1e-2, gates=2e-2),
)
THIN = SimpleNamespace(  # a rushed run: few steps at large learning rates
    rows=768,
    size=16,
    every=8,
    dense_epochs=12,
    dense_rate=3e-3,
    epochs=15,
    batch=128,
    hold=1,
    freeze=6,
    kl_weight=0.01,
    shrink_below=None,
    rates=LearningRates(slab_locs=3e-3, slab_scales=5e-2, scales=5e-2, gates=2e-1),
)
DATA = "digits" if SMOKE else os.environ.get("TUTORIAL_DATA", "digits")
settings = THIN if SMOKE else DIGITS if DATA == "digits" else CIFAR
dataset = data.load(DATA, data_dir=os.environ.get("BNN_PYRO_DATA", "data"))


def images(split, rows=None):
    """Colour images of the wanted size and their labels."""
    x = F.interpolate(split.x[:rows], size=(settings.size,) * 2, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    return x.to(device), split.y[:rows].to(device)


train, test = images(dataset.train, settings.rows), images(dataset.test)
net = cut(net, nodes.groups, {group.name: torch.arange(group.size) % settings.every == 0 for group in nodes.groups})
dense = train_dense(
    net,
    train,
    likelihood=Categorical(),
    epochs=settings.dense_epochs,
    batch_size=64,
    learning_rate=settings.dense_rate,
    seed=0,
)


@torch.no_grad()
def accuracy(net):
    """The part of the test rows that a net gets right."""
    right = [(net(x).argmax(1) == y).float() for x, y in zip(test[0].split(256), test[1].split(256), strict=True)]
    return torch.cat(right).mean().item()


print(f"{DATA}: {len(train[1])} images to train on, {len(test[1])} to test; dense net {accuracy(dense):.4f}")

# %% [markdown]
# ## 3. A prior, and its posterior
#
# `SparseNetwork` gives every group a gate a channel and every filter a slab: what the net computes is a Pyro model.
# `fit` starts from the dense net. The gates are **held** open at first, **free** in between and **frozen** at the
# end, when BatchNorm's running statistics are taken anew for the net that is left. With few images and millions of
# weights the prior would outweigh the data: `kl_weight` below 1 makes a **tempered** (cold) posterior, and is said
# wherever it is used.

# %%
model = SparseNetwork(
    dense,
    train[0][:2],
    prior=SpikeSlab(GroupHorseshoe(sigma=0.2), inclusion=1e-3),
    likelihood=Categorical(),
    num_data=len(train[1]),
)
posterior = fit(
    model,
    train,
    epochs=settings.epochs,
    batch_size=settings.batch,
    kl_weight=settings.kl_weight,
    schedule=Schedule(hold=settings.hold, freeze=settings.freeze, kl_warmup=1.0, shrink_below=settings.shrink_below),
    rates=settings.rates,
    seed=0,
)
totals = {group.name: group.size for group in model.nodes.groups}
show(plot_training(posterior.history, totals), "03_training")

# %% [markdown]
# ## 4. The channels that are left
#
# A group named `conv1` is the stream of the first stage, `layer2.0.conv2` that of the second, and so on; the others
# are inside of a block. One that loses all its channels adds no more than a constant to its skip connection.

# %%
kept = nodes_kept(posterior.keep())
show(plot_nodes_kept(kept), "03_nodes_kept")

# %% [markdown]
# ## 5. The smaller net
#
# `prune` returns the median-probability model without its closed channels. It is torchvision's own class with smaller
# layers; nothing in it is Bayesian, and its outputs are those of the whole net with its gates closed.

# %%
small = prune(posterior)
with torch.no_grad():
    whole = posterior.median_model()
    difference = ((small(test[0][:256]) - whole(test[0][:256])).abs().max() / whole(test[0][:256]).abs().max()).item()
print(type(small).__name__, small.layer4[0])
print(f"largest difference of an output, relative to the largest output: {difference:.1e}")

# %% [markdown]
# What it costs beside the dense net. The latency of both is measured in turns; it falls less than the FLOPs, because
# the work around the products (BatchNorm, activations, moving numbers about) falls with the number of channels and
# not with its square. `prune(posterior, multiple=8)` rounds the channels up for devices that like it.

# %%
batch = test[0][torch.arange(256) % len(test[0])]
rounded = prune(posterior, multiple=8)
nets = {"dense": dense, "pruned": small, "pruned, channels in eights": rounded}
latency = {rows: measure_latency(nets, batch[:rows], repeats=11 if SMOKE else 31, warmup=3) for rows in (1, len(batch))}
print(f"{'':<28}{'accuracy':>10}{'parameters':>12}{'MFLOPs':>10}{'MB held':>10}{'ms':>8}{'ms, batch 256':>16}")
for name, one in nets.items():
    cost, times = compare_cost(dense, one, batch[:1]).pruned, [latency[rows][name].median * 1e3 for rows in latency]
    held = peak_activations(one, batch) / 1e6
    line = f"{accuracy(one):>10.4f}{cost.parameters:>12,}{cost.flops / 1e6:>10.2f}{held:>10.1f}"
    print(f"{name:<28}{line}{times[0]:>8.2f}{times[1]:>16.1f}")

# %% [markdown]
# To ship it: `torch.export` gives a program that needs torch alone, and `save_net` writes its weights with a
# description of their sizes, to which any new ResNet-18 is cut.

# %%
save_net(small, OUT / "pruned_resnet18")
again = load_net(OUT / "pruned_resnet18", torchvision.models.resnet18(num_classes=10).to(device))

# %%
cost = compare_cost(dense, small, batch[:1])
assert difference < 1e-4, difference
assert torch.equal(again(batch[:4]), small(batch[:4]))
assert cost.flops_kept < 0.7, cost
assert accuracy(small) > (0.8 if SMOKE else 0.9) or DATA != "digits", accuracy(small)
