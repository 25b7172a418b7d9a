"""What can be removed from networks: the classification nets of torchvision, and others, with seconds of the search.

    python benchmarks/networks.py
    python benchmarks/networks.py --nets resnet18 swin_t
    python benchmarks/networks.py --all
    python benchmarks/networks.py --page

Of each net `find_nodes` is asked with one image of 64 x 64 pixels; a random third of the nodes is closed, the net is
cut, and the largest difference between its output and that of the whole net with those nodes closed, over the largest
output, is the `error`, in float64. Nets are untrained, with some noise on all weights. `seconds` are processor
seconds of `find_nodes` on one thread. Without `--all` it is the smallest net of each family of torchvision; rows that
are there already are skipped unless a net is asked for by name. The page `docs/networks.md` is written from the rows.
"""

import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timing
import torch
import torchvision
from torch import Tensor, nn

from bnn_pyro import networks
from bnn_pyro.evaluation.cost import count_parameters
from bnn_pyro.nodes import find_nodes
from bnn_pyro.pruning.cutting import cut
from bnn_pyro.reports.markdown import markdown_table

PAGE = Path(__file__).parent.parent / "docs" / "networks.md"
FAMILIES = (
    "alexnet",
    "vgg11_bn",
    "resnet18",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "densenet121",
    "googlenet",
    "inception_v3",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "convnext_tiny",
    "vit_b_32",
    "swin_t",
    "swin_v2_t",
    "maxvit_t",
)
"""The smallest net of each family."""

OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False, "aux_logits": False},
    "inception_v3": {"init_weights": False, "aux_logits": False},
    **{name: {"image_size": 64} for name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")},
}
SIZES = {"inception_v3": 96, "maxvit_t": 224}  # of images, where the net takes none of 64 pixels
SECONDS = 15.0
"""What a search may take at most, of processor time."""


class Recurrent(nn.Module):
    """A recurrent layer before linear ones."""

    def __init__(self, kind: type[nn.LSTM | nn.GRU]) -> None:
        super().__init__()
        self.rnn: nn.Module = kind(3, 16, batch_first=True)
        self.hidden, self.out = nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        output: Tensor = self.out(torch.relu(self.hidden(self.rnn(x)[0][:, -1])))
        return output


OTHERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "networks.mlp": (lambda: networks.mlp(64, (50, 50), 10), (64,)),
    "networks.residual_mlp": (lambda: networks.residual_mlp(64, 50, 2, 10), (64,)),
    "networks.lenet": (networks.lenet, (1, 28, 28)),
    "networks.resnet(20)": (lambda: networks.resnet(20), (3, 32, 32)),
    "LSTM, Linear": (lambda: Recurrent(nn.LSTM), (12, 3)),
    "GRU, Linear": (lambda: Recurrent(nn.GRU), (12, 3)),
}


def main() -> None:
    """Measure the nets that the command line asks for, one row at a time, and write the page."""
    parsed = timing.parser(__doc__, "networks")
    parsed.add_argument("--nets", nargs="+", default=[], help="names; those whose rows are there are measured again")
    parsed.add_argument("--all", action="store_true", help="every net of the zoo")
    parsed.add_argument("--page", action="store_true", help="write the page alone")
    options = parsed.parse_args()
    timing.prepare(options.threads)
    rows: dict[str, Any] = {row["net"]: row for row in timing.read(options.out)}
    for name in _wanted(options):
        if name in options.nets or name not in rows:
            rows[name] = {"net": name, **measure(name), **timing.origin()}
            print(rows[name], flush=True)
            timing.write(options.out, [rows[known] for known in sorted(rows, key=_rank)], {})
    if options.out == timing.RESULTS / "networks.json":
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page(sorted(rows.values(), key=lambda row: _rank(row["net"]))), encoding="utf-8")


def _wanted(options: Namespace) -> list[str]:
    if options.page or options.nets:
        return list(options.nets)
    if options.quick:
        return ["networks.mlp", "LSTM, Linear"]
    zoo = torchvision.models.list_models(module=torchvision.models) if options.all else FAMILIES
    return [*zoo, *OTHERS]


def _rank(name: str) -> tuple[bool, int, str]:
    return name in OTHERS, list(OTHERS).index(name) if name in OTHERS else 0, name


def measure(name: str) -> dict[str, Any]:
    """Return what can be removed from a net, and at what cost that is found.

    Args:
        name: Its name in torchvision, or in `OTHERS`.
    """
    torch.manual_seed(0)
    if name in OTHERS:
        make, shape = OTHERS[name]
        net = make()
    else:
        net = torchvision.models.get_model(name, num_classes=5, **OPTIONS.get(name, {}))
        shape = (3, *2 * (SIZES.get(name, 64),))
    x = torch.randn(1, *shape)
    start = time.process_time()
    found = find_nodes(net, x)
    seconds = time.process_time() - start
    net = net.double().eval()
    with torch.no_grad():
        for parameter in net.parameters():  # the last layers of some nets begin with zeros
            parameter.add_(0.02 * torch.randn_like(parameter))
    whole, error, share = _cut(net, found.groups, x.double())
    layers = Counter(_short(reason) for reason in found.dense.values())
    return {
        "input": list(shape),
        "parameters": whole,
        "groups": len(found.groups),
        "nodes": sum(group.size for group in found.groups),
        "seconds": round(seconds, 2),
        "error": error,
        "parameters_left": share,
        "dense": dict(layers.most_common()),
    }


@torch.no_grad()
def _cut(net: nn.Module, groups: Any, x: Tensor) -> tuple[int, float | None, float | None]:
    """Return the parameters of a net, and the error and the part of them that is left when a third of nodes is cut."""
    whole = count_parameters(net)
    if not groups:
        return whole, None, None
    keep = {group.name: torch.rand(group.size) > 1 / 3 for group in groups}
    for group in groups:
        for axis in group.readers:
            closed = (~axis.spread(keep[group.name])).nonzero().flatten()
            net.get_parameter(axis.parameter).index_fill_(axis.dim, closed, 0.0)
    small, expected = cut(net, groups, keep), net(x)
    error = float((small(x) - expected).abs().max() / expected.abs().max())
    return whole, float(f"{error:.2g}"), round(count_parameters(small) / whole, 3)


def _short(reason: str) -> str:
    """Return a reason without the names of layers, so that equal ones are counted together."""
    return reason.partition("), which ")[2] or reason.partition(" channels: ")[2] or reason


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page as Markdown.

    Args:
        rows: Those of the results.
    """
    head = ("net", "input", "groups", "nodes", "parameters left", "error of the cut net", "seconds of `find_nodes`")
    lines = [
        (
            f"`{row['net']}`",
            " x ".join(map(str, row["input"])),
            f"{row['groups']}",
            f"{row['nodes']:,}",
            "" if row["parameters_left"] is None else f"{row['parameters_left']:.3f}",
            "" if row["error"] is None else f"{row['error']:.0e}",
            f"{row['seconds']:.1f}",
        )
        for row in rows
    ]
    dense = [(f"`{row['net']}`", "; ".join(f"{count} x {why}" for why, count in row["dense"].items())) for row in rows]
    slow = [f"`{row['net']}`" for row in rows if row["seconds"] > SECONDS]
    missing = [f"`{name}`" for name in FAMILIES if name not in {row["net"] for row in rows}]
    notes = [f"Above {SECONDS:g} s: {', '.join(slow)}."] if slow else []
    notes += [f"Not measured yet: {', '.join(missing)}."] if missing else []
    larger = [f"`{row['net']}` ({row['input'][-1]})" for row in rows if row["net"] in SIZES]
    notes += [f"With more than 64 x 64 pixels, the fewest that they take: {', '.join(larger)}."] if larger else []
    return f"""# What can be removed from a network

`find_nodes` says which nodes of a network can be removed without changing what the others compute, and why the rest
stays. This page is written by `benchmarks/networks.py` from [its results](../benchmarks/results/networks.json): the
smallest net of each family of torchvision's classification nets, and a few others, all untrained.

A random third of the nodes of every group is closed and cut out. The error is the largest difference between the
output of the smaller net and that of the whole net with those nodes closed, over the largest output, in float64, where
rounding is about 1e-15. Seconds are processor seconds on one thread. {" ".join(notes)}

{markdown_table(head, lines)}

## What stays dense, and why

The number of layers for each reason; the output of a net always stays.

{markdown_table(("net", "layers and reason"), dense)}
"""


if __name__ == "__main__":
    main()
