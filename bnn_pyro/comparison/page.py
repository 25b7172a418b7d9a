"""The page that a person reads about a comparison, in the words of ``templates``; and its tables for a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

from bnn_pyro.reports.markdown import render
from bnn_pyro.reports.terminal import print_table

Row = tuple[str, ...]
CONVERGED = 1.05  # largest R-hat of chains that are said to have converged; stricter readers take 1.01

_PACKAGE = "bnn_pyro.comparison"
_SCORES = {"accuracy": "accuracy", "rmse": "RMSE", "nll": "NLL", "ece": "ECE", "coverage95": "95 % int."}
_IN_PERCENT = ("accuracy", "coverage95")

_Agreement = TypedDict("_Agreement", {"with": str, "total_variation": float, "wasserstein": float, "r_hat": float})


class MethodRow(TypedDict, total=False):
    """The row of a method in ``comparison.json``: why it failed, or what it found; by group where there are gates."""

    failed: str
    gates: str
    scores: Mapping[str, float]
    seconds: float
    nodes_open: Mapping[str, float]
    inclusion: Mapping[str, Sequence[float]]
    at_least: Mapping[str, Sequence[float]]
    chains: Mapping[str, float]
    agreement: _Agreement
    details: Mapping[str, object]


class _Metrics(TypedDict):
    """The numbers of ``comparison.json`` that are read here."""

    task: str
    hidden: Sequence[int]
    train_rows: int
    test_rows: int
    compared_rows: int
    seconds: float
    groups: Mapping[str, int]
    methods: Mapping[str, MethodRow]


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: What it shows.
        header: Names of its columns.
        rows: Its cells.
    """

    title: str
    header: Row
    rows: tuple[Row, ...]


def comparison_tables(metrics: Mapping[str, object]) -> tuple[Table, ...]:
    """Return the tables of a comparison: scores, agreement and chains.

    Args:
        metrics: The numbers of ``comparison.json``.
    """
    known = cast(_Metrics, metrics)
    done = {title: row for title, row in known["methods"].items() if "failed" not in row}
    tables = [_scores(known, done)]
    if any(row["agreement"] for row in done.values()):
        tables.append(_agreement(known, done))
    if any(row["chains"] for row in done.values()):
        tables.append(_chains(known, {title: row for title, row in done.items() if row["chains"]}))
    return tuple(tables)


def comparison_notes(metrics: Mapping[str, object]) -> str:
    """Return what must not be overlooked, one line each: failures, runs cut short, and whether the chains converged.

    Args:
        metrics: The numbers of ``comparison.json``.
    """
    methods = cast(_Metrics, metrics)["methods"]
    r_hats = {title: row["chains"]["r_hat"] for title, row in methods.items() if row.get("chains")}
    return render(
        _PACKAGE,
        "notes.j2",
        failed={title: " ".join(row["failed"].split()) for title, row in methods.items() if "failed" in row},
        problems=[(title, problem) for title, row in methods.items() for problem in _problems(row)],
        unconverged={title: _ratio(value) for title, value in r_hats.items() if not value <= CONVERGED},
        largest_r_hat=_ratio(max(r_hats.values())) if r_hats else None,
    ).rstrip()


def print_comparison(metrics: Mapping[str, object]) -> None:
    """Print the tables and the notes of a comparison.

    Args:
        metrics: The numbers of ``comparison.json``.
    """
    for table in comparison_tables(metrics):
        print_table(table.header, table.rows, title=table.title)
        print()
    print(comparison_notes(metrics))


def comparison_page(metrics: Mapping[str, object], *, pictures: Sequence[str] = ()) -> str:
    """Return the page of a comparison as Markdown.

    Args:
        metrics: The numbers of ``comparison.json``.
        pictures: Stems of the ``.png`` files beside the page.
    """
    known = cast(_Metrics, metrics)
    text = render(
        _PACKAGE,
        "comparison.md.j2",
        **{name: metrics[name] for name in ("data", "net", "prior", "seed", "threads")},
        widths="-".join(map(str, known["hidden"])),
        train_rows=f"{known['train_rows']:,}",
        test_rows=f"{known['test_rows']:,}",
        seconds=f"{known['seconds']:.0f}",
        tables=comparison_tables(metrics),
        notes=comparison_notes(metrics).splitlines(),
        is_regression=known["task"] == "regression",
        has_gates=bool(known["groups"]),
        pictures=pictures,
    )
    return text.rstrip() + "\n"


def _problems(row: MethodRow) -> Sequence[str]:
    """Return the problems of a method that was fitted; those of chains are reported by R-hat."""
    details = row.get("details", {})
    return cast(Sequence[str], details.get("problems", ())) if details.get("epochs") else ()


# ---- the tables ------------------------------------------------------------------------------------------------------


def _scores(metrics: _Metrics, done: Mapping[str, MethodRow]) -> Table:
    names = [name for name in _SCORES if any(name in row["scores"] for row in done.values())]
    gates = {"gates"} if metrics["groups"] else set()
    groups = metrics["groups"]
    header = ("method", *gates, *(_SCORES[name] for name in names), *_group_names(groups), "seconds")
    rows = []
    for title, row in metrics["methods"].items():
        if "failed" in row:
            rows.append((title, "failed", *[""] * (len(header) - 2)))
            continue
        cells = [_score(name, row["scores"][name]) for name in names]
        nodes = [f"{row['nodes_open'][group]:.1f}" for group in groups]
        rows.append((title, *([row["gates"]] if gates else []), *cells, *nodes, f"{row['seconds']:.0f}"))
    return Table("Scores on the test rows", header, tuple(rows))


def _agreement(metrics: _Metrics, done: Mapping[str, MethodRow]) -> Table:
    groups = metrics["groups"]
    header = ("method", "compared with", "TV", "W1", "R-hat", *(f"W1 {name}" for name in groups))
    rows = []
    for title, row in done.items():
        found = row["agreement"]
        if found:
            numbers = (f"{found['total_variation']:.3f}", _short(found["wasserstein"]), _ratio(found["r_hat"]))
            gaps = cast(Mapping[str, float], found)
            nodes = (f"{gaps[key]:.2f}" if (key := f"nodes {name}") in gaps else "" for name in groups)
            rows.append((title, found["with"], *numbers, *nodes))
    return Table(f"Agreement at {metrics['compared_rows']} test rows", header, tuple(rows))


def _chains(metrics: _Metrics, done: Mapping[str, MethodRow]) -> Table:
    header = ("method", "chains", "warm-up", "draws", "leapfrogs", "diverged", "R-hat", "min ESS", "ESS/s")
    rows = []
    for title, row in done.items():
        found, chains = row["details"], row["chains"]
        counts = (str(found[name]) for name in ("chains", "warmup", "draws"))
        numbers = (_ratio(chains["r_hat"]), f"{chains['ess']:.0f}", _short(chains["ess_per_second"]))
        rows.append((title, *counts, f"{found['leapfrogs']:.0f}", str(found["divergences"]), *numbers))
    return Table(f"Chains, judged by the network's output at {metrics['compared_rows']} test rows", header, tuple(rows))


def _group_names(groups: Mapping[str, int]) -> list[str]:
    return [f"{name}/{size}" for name, size in groups.items()]


# ---- cells -----------------------------------------------------------------------------------------------------------


def _score(name: str, value: float) -> str:
    if name in _IN_PERCENT:
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if name == "rmse" else f"{value:.3f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= CONVERGED else f"{value:.3f}"
