"""What a prediction costs: draws of the posterior, by ours and by Pyro's `Predictive`, the dense net, the pruned one.

    python benchmarks/predict.py
    python benchmarks/predict.py --quick

784-400-400-10 with the SS-GHS prior, of whose hidden nodes a part (`--kept`) is open; nothing is trained, as the cost
of a prediction does not depend on what the weights are. `ours` is `posterior.predict`, `ours-shrunk` the same once
closed nodes are left out (`posterior.shrink()`), `pruned` and `dense` are one pass of a plain module. All contestants
of a case take turns in one process; ratios are those of medians.
"""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence

import pyro
import timing
import torch
from contestants import Case
from matplotlib.axes import Axes
from pyro.infer import Predictive
from torch import Tensor

from bnn_pyro import prune
from bnn_pyro.posterior.guide import GuidePosterior

CASE = Case("mlp400")
SHOWN = {"rows": 1024, "draws": 16}
"""What is held at which value while the other one grows in the picture."""


def main() -> None:
    """Time every pair of draws and rows; print the table, write the JSON and the picture."""
    options = _options()
    timing.prepare(options.threads)
    pyro.enable_validation(False)
    device = torch.device(options.device)
    posterior = posterior_of(CASE, options.kept, device)
    rows: list[timing.Row] = []
    for size in options.rows:
        x = _inputs(size, device)
        for draws in options.draws:
            rows += timed_case(posterior, x, draws, options)
    print(timing.table(rows))
    timing.write(options.out, rows, timing.ratios_of(rows), kept=options.kept, device=options.device)
    _plot(rows, options)


def _options() -> Namespace:
    parser = timing.parser(__doc__, "predict")
    parser.add_argument("--draws", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--rows", nargs="+", type=int, default=[1, 64, 1024, 10_000])
    parser.add_argument("--kept", type=float, default=0.1, help="part of each hidden layer's nodes that is open")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each contestant")
    options = parser.parse_args()
    if options.quick:
        options.draws, options.rows, options.rounds = options.draws[:2], options.rows[:2], 3
    return options


def posterior_of(case: Case, kept: float, device: torch.device) -> GuidePosterior:
    """Return an untrained posterior of which some nodes are surely open and the others surely closed.

    Args:
        case: The net.
        kept: Part of each group's nodes that is open.
        device: Where it lives.
    """
    model, guide = case.posterior(device)
    with torch.no_grad():
        for logits in guide.parameter_groups()["gates"]:
            opened = torch.arange(len(logits), device=device) < max(1, round(kept * len(logits)))
            logits.copy_(torch.where(opened, 10.0, -10.0))
    return GuidePosterior(model, guide)


def _inputs(rows: int, device: torch.device) -> Tensor:
    return torch.rand(rows, CASE.inputs, generator=torch.Generator().manual_seed(1)).to(device)


def timed_case(posterior: GuidePosterior, x: Tensor, draws: int, options: Namespace) -> list[timing.Row]:
    """Time all contestants on one batch of inputs.

    Args:
        posterior: The posterior to predict by.
        x: The inputs.
        draws: Draws of the posterior.
        options: The command line's.

    Returns:
        A row a contestant.
    """
    case = f"rows{len(x)}-draws{draws}"
    calls = dict(_calls(posterior, x, draws))
    seconds = timing.interleaved(calls, rounds=options.rounds, repeats=1, device=options.device)
    return [{**row, "rows": len(x), "draws": draws} for row in timing.timed_rows(case, seconds)]


def _calls(posterior: GuidePosterior, x: Tensor, draws: int) -> Iterator[tuple[str, Callable[[], object]]]:
    small, shrunk = prune(posterior), posterior.shrink()
    dense = CASE.net().to(x.device).eval()
    predictive = Predictive(posterior.model, guide=posterior.guide, num_samples=draws, return_sites=("obs",))
    yield "ours", lambda: posterior.predict(x, num_samples=draws)
    yield "ours-shrunk", lambda: shrunk.predict(x, num_samples=draws)
    yield "pyro-predictive", lambda: predictive(x)
    yield "dense", torch.inference_mode()(lambda: dense(x).softmax(-1))
    yield "pruned", torch.inference_mode()(lambda: small(x).softmax(-1))


def _plot(rows: Sequence[timing.Row], options: Namespace) -> None:
    """Draw the cost over the draws and over the rows, the other one held."""
    share = f"{options.kept:.0%} of its hidden nodes open"
    figure, panels = timing.figure(f"A prediction of 784-400-400-10, {share}", panels=2)
    held = {"rows": max(v for v in options.rows if v <= SHOWN["rows"] or v == min(options.rows))}
    held["draws"] = max(v for v in options.draws if v <= SHOWN["draws"] or v == min(options.draws))
    for axes, grows, still in zip(panels, ("draws", "rows"), ("rows", "draws"), strict=True):
        _panel(axes, [row for row in rows if row[still] == held[still]], grows)
        axes.set_title(f"{held[still]} {still}", loc="left", fontsize="medium")
    panels[0].set_ylabel("milliseconds")
    panels[0].legend(frameon=False, fontsize="small")
    figure.savefig(options.out.with_suffix(".png"))


def _panel(axes: Axes, rows: Sequence[timing.Row], grows: str) -> None:
    lines = {}
    for name in dict.fromkeys(row["contestant"] for row in rows):
        some = [row for row in rows if row["contestant"] == name]
        lines[name] = ([row[grows] for row in some], [row["median"] for row in some])
    timing.curves(axes, lines, grows)


if __name__ == "__main__":
    main()
