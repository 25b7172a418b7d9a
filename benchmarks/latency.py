"""Latency of pruned nets beside the dense ones, and whether it follows their FLOPs.

    python benchmarks/latency.py
    python benchmarks/latency.py --quick --nets lenet

Each net is cut to several sizes by random masks (each group of nodes keeps a part of its own around `--keep`), to the
nodes that are kept and again with their numbers rounded up to a multiple of 8; of LeNet there are also the node numbers
of the method's authors. Nothing is trained, as the cost of a net does not depend on what its weights are. All sizes of
a net and the dense one take turns in one process; ratios are those of medians. Beside the time stand the parameters,
the FLOPs and the bytes of activations that a pass holds at most. A net that is not asked for keeps the rows of its last
run.

The nets: `lenet` (1 x 28 x 28), `resnet20` (3 x 32 x 32) and torchvision's `resnet50`. That one reads a single image of
ImageNet's size (3 x 224 x 224), but batches of small ones (3 x 64 x 64) and in fewer turns (`--large-rounds`), as a
thread takes many seconds for a pass even so.
"""

import json
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timing
import torch
import torchvision
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from torch import Tensor, nn

from bnn_pyro.evaluation.cost import count_flops, count_parameters
from bnn_pyro.evaluation.memory import peak_activations
from bnn_pyro.networks import lenet, resnet
from bnn_pyro.nodes import NodeGroup, find_nodes
from bnn_pyro.pruning.cutting import cut
from bnn_pyro.reports.figures import COLORS, GRID, MUTED, style_axes
from bnn_pyro.reports.markdown import markdown_table

MULTIPLE = 8
TURN = 0.2
"""Seconds that a turn of the dense net takes at least: as long as some slices of a machine that others use."""
AUTHORS = {"conv1": 14, "conv2": 7, "hidden1": 13, "hidden2": 15}
"""Nodes of LeNet in the log of the method's authors on MNIST, 98.98 % accurate."""


@dataclass(frozen=True)
class Case:
    """A net, and size of a batch -> shape of an image; whether large batches have fewer turns."""

    net: Callable[[], nn.Module]
    shapes: dict[int, tuple[int, ...]]
    is_large: bool = False


CASES = {
    "lenet": Case(lenet, dict.fromkeys((1, 256), (1, 28, 28))),
    "resnet20": Case(lambda: resnet(20), dict.fromkeys((1, 256), (3, 32, 32))),
    "resnet50": Case(torchvision.models.resnet50, {1: (3, 224, 224), 256: (3, 64, 64)}, is_large=True),
}
_PADDED = f" x{MULTIPLE}"
_COLORS = dict(zip((1, 256), COLORS, strict=False))
_STYLES: dict[str, dict[str, Any]] = {
    "as many channels as are kept": {"marker": "o", "markersize": 5, "linewidth": 1.2},
    f"up to a multiple of {MULTIPLE}": {"marker": "D", "markersize": 5, "linestyle": "", "fillstyle": "none"},
}


def main() -> None:
    """Time the nets that the command line asks for; print the tables, write the JSON and the picture."""
    options = _options()
    timing.prepare(options.threads)
    rows = _of_other_nets(options)
    for name in options.nets:
        rows += timed_net(name, options)
        timing.write(options.out, rows, timing.ratios_of(rows, "dense"), device=options.device)
    _plot(rows, options)


def _options() -> Namespace:
    parser = timing.parser(__doc__, "latency")
    parser.add_argument("--nets", nargs="+", default=list(CASES), choices=CASES)
    parser.add_argument("--keep", nargs="+", type=float, default=[0.1, 0.25, 0.5, 0.75], help="parts of the nodes")
    parser.add_argument("--rounds", type=int, default=11, help="turns of each size")
    parser.add_argument(
        "--large-rounds", type=int, default=3, help="turns of each size in large batches of a ResNet-50"
    )
    options = parser.parse_args()
    if options.quick:
        options.keep, options.rounds, options.large_rounds = options.keep[:2], 3, 1
    return options


def _of_other_nets(options: Namespace) -> list[timing.Row]:
    """Return the rows of the nets that are not run now, from the last run."""
    if not options.out.exists():
        return []
    rows = json.loads(options.out.read_text(encoding="utf-8"))["rows"]
    return [row for row in rows if row["net"] not in options.nets]


# ---- timings ---------------------------------------------------------------------------------------------------------


def timed_net(name: str, options: Namespace) -> list[timing.Row]:
    """Time all sizes of a net, side by side.

    Args:
        name: One of `CASES`.
        options: The command line's.

    Returns:
        A row a size of the net and of the batch.
    """
    case, device = CASES[name], torch.device(options.device)
    torch.manual_seed(0)
    net = case.net().to(device).eval()
    x = torch.randn(2, *min(case.shapes.values()), device=device)
    nets = {"dense": net, **dict(_smaller(net, find_nodes(net, x).groups, options.keep))}
    found: list[timing.Row] = []
    for size, shape in case.shapes.items():
        x = torch.randn(size, *shape, device=device)
        costs = {key: _cost(one, x) for key, one in nets.items()}
        rounds = options.large_rounds if case.is_large and size > 1 else options.rounds
        calls = _calls(nets, x)
        repeats = max(1, round(TURN / timing.timed(calls["dense"], repeats=1, device=device)))
        seconds = timing.interleaved(calls, rounds=rounds, repeats=repeats, device=device)
        rows = timing.timed_rows(f"{name}-batch{size}", seconds)
        dense = next(row["median"] for row in rows if row["contestant"] == "dense")
        for row in rows:
            ratios = {f"{what}_kept": value / costs["dense"][what] for what, value in costs[row["contestant"]].items()}
            extra = {"net": name, "batch": size, "shape": shape, **costs[row["contestant"]], **ratios}
            found.append({**row, **extra, "latency_kept": row["median"] / dense})
        print(table(found[-len(rows) :]), flush=True)
    return found


def _smaller(net: nn.Module, groups: Sequence[NodeGroup], parts: Sequence[float]) -> Iterator[tuple[str, nn.Module]]:
    """Yield the net with fewer nodes, under the name of the part that is kept."""
    masks = {f"{part:g}": random_masks(groups, part, seed) for seed, part in enumerate(parts)}
    if {group.name for group in groups} == set(AUTHORS):
        nodes = "-".join(map(str, AUTHORS.values()))
        masks[nodes] = {group.name: torch.arange(group.size) < AUTHORS[group.name] for group in groups}
    for name, keep in masks.items():
        yield name, cut(net, groups, keep)
        yield f"{name}{_PADDED}", cut(net, groups, keep, multiple=MULTIPLE)


def random_masks(groups: Sequence[NodeGroup], part: float, seed: int) -> dict[str, Tensor]:
    """Draw which nodes stay; each group keeps a part of its own, which is drawn evenly around the given one.

    Args:
        groups: The groups.
        part: Part of the nodes that stays, on average.
        seed: Seed of the draw.

    Returns:
        Group -> bool mask with at least a node, shape ``(size,)``.
    """
    generator = torch.Generator().manual_seed(seed)
    width = min(part, 1 - part) / 2
    masks = {}
    for group in groups:
        own = part + width * (2 * torch.rand((), generator=generator).item() - 1)
        order = torch.randperm(group.size, generator=generator)
        masks[group.name] = order < max(1, round(own * group.size))
    return masks


def _cost(net: nn.Module, x: Tensor) -> dict[str, int]:
    return {
        "parameters": count_parameters(net),
        "flops": count_flops(net, x[:1]),
        "activations": peak_activations(net, x),
    }


def _calls(nets: Mapping[str, nn.Module], x: Tensor) -> dict[str, timing.Call]:
    def call(net: nn.Module) -> timing.Call:
        return torch.inference_mode()(lambda: net(x))

    return {name: call(net) for name, net in nets.items()}


# ---- what is reported ------------------------------------------------------------------------------------------------


def table(rows: Sequence[timing.Row]) -> str:
    """Return the sizes of one net in one size of batch as a Markdown table; all but the first are parts of the dense.

    Args:
        rows: The rows.
    """
    header = (f"{rows[0]['case']}: nodes kept", "parameters", "FLOPs", "activations", "latency", "milliseconds")
    lines = []
    for row in rows:
        parts = [f"{row[f'{what}_kept']:.3f}" for what in ("parameters", "flops", "activations", "latency")]
        lines.append((row["contestant"], *parts, f"{row['median']:.3g}"))
    return markdown_table(header, lines)


def _plot(rows: Sequence[timing.Row], options: Namespace) -> None:
    """Draw the part of the latency that is left over the part of the FLOPs that is left, a panel a net."""
    nets = [name for name in CASES if any(row["net"] == name for row in rows)]
    figure, panels = timing.figure(
        "Latency of a pruned net over its FLOPs, both as parts of the dense net's", panels=len(nets)
    )
    figure.set_size_inches(3.6 * len(nets), 4.1)
    for axes, name in zip(panels, nets, strict=True):
        _panel(axes, [row for row in rows if row["net"] == name])
        images = dict.fromkeys(" x ".join(map(str, shape)) for shape in CASES[name].shapes.values())
        axes.set_title(f"{name}: {', '.join(images)}", loc="left", fontsize="medium")
    panels[0].set_ylabel("latency, part of dense")
    handles = [
        *(Line2D([], [], color=color, label=f"batch {size}") for size, color in _COLORS.items()),
        *(Line2D([], [], color="black", label=label, **{**style, "linestyle": ""}) for label, style in _STYLES.items()),
        Line2D([], [], color=MUTED, linestyle="--", label="as the FLOPs"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    figure.savefig(options.out.with_suffix(".png"))


def _panel(axes: Axes, rows: Sequence[timing.Row]) -> None:
    for size, color in _COLORS.items():
        for is_padded, style in enumerate(_STYLES.values()):
            some = [row for row in rows if (row["batch"], row["contestant"].endswith(_PADDED)) == (size, is_padded)]
            some.sort(key=lambda row: row["flops_kept"])
            axes.plot(*([row[key] for row in some] for key in ("flops_kept", "latency_kept")), color=color, **style)
    lowest = min(row["flops_kept"] for row in rows)
    axes.plot([lowest, 1], [lowest, 1], color=MUTED, linestyle="--", linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="FLOPs, part of dense")
    style_axes(axes)
    axes.grid(axis="x", color=GRID, linewidth=0.7)


if __name__ == "__main__":
    main()
