"""The page that a person reads about a comparison: its tables, for a terminal and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = tuple[str, ...]
CONVERGED = 1.05  # largest R-hat of chains that are called to have met; stricter ones take 1.01

_SCORES = {"accuracy": "accuracy", "rmse": "RMSE", "nll": "NLL", "ece": "ECE", "coverage95": "95 % int."}
_IN_PERCENT = ("accuracy", "coverage95")
_PICTURES = {
    "predictions": "Predictions of each method on the test rows",
    "inclusion": "Inclusion probabilities and numbers of open nodes",
    "agreement": "Agreement of the methods",
}


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

    def text(self) -> str:
        """Return it for a terminal, the columns but the first aligned to the right."""
        lines = [self.header, *self.rows]
        first, *others = (max(len(cell) for cell in column) for column in zip(*lines, strict=True))
        body = [
            name.ljust(first) + "".join(cell.rjust(width + 2) for cell, width in zip(cells, others, strict=True))
            for name, *cells in lines
        ]
        return "\n".join([self.title, *(f"  {line.rstrip()}" for line in body)])

    def markdown(self) -> str:
        """Return it as Markdown, below a heading."""
        marks = ("---", *("---:" for _ in self.header[1:]))
        lines = ["| " + " | ".join(row) + " |" for row in (self.header, marks, *self.rows)]
        return "\n".join([f"## {self.title}", "", *lines])


def comparison_tables(metrics: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the tables of a comparison: scores, agreement, and how the chains went.

    Args:
        metrics: The numbers of `comparison.json`.
    """
    done = {title: row for title, row in metrics["methods"].items() if "failed" not in row}
    tables = [_scores(metrics, done)]
    if any(row["agreement"] for row in done.values()):
        tables.append(_agreement(metrics, done))
    if any(row["chains"] for row in done.values()):
        tables.append(_chains(metrics, {title: row for title, row in done.items() if row["chains"]}))
    return tuple(tables)


def comparison_text(metrics: Mapping[str, Any]) -> str:
    """Return the tables and what is to be said beside them, for a terminal.

    Args:
        metrics: The numbers of `comparison.json`.
    """
    parts = [table.text() for table in comparison_tables(metrics)]
    return "\n\n".join([*parts, "\n".join(_notes(metrics))])


def comparison_page(metrics: Mapping[str, Any], *, pictures: Sequence[str] = ()) -> str:
    """Return the page of a comparison as Markdown.

    Args:
        metrics: The numbers of `comparison.json`.
        pictures: Stems of the `.png` files beside the page.
    """
    widths = "-".join(map(str, metrics["hidden"]))
    head = (
        f"# {metrics['data']}: {metrics['net']} {widths}, prior {metrics['prior']}, seed {metrics['seed']}\n\n"
        f"{metrics['train_rows']:,} training rows, {metrics['test_rows']:,} test rows; KL weight 1 throughout. "
        f"The comparison took {metrics['seconds']:.0f} seconds on {_count(metrics['threads'], 'thread')}."
    )
    sections = [head, *(table.markdown() for table in comparison_tables(metrics))]
    sections += ["## How to read it", "\n".join(f"* {note}" for note in [*_notes(metrics), *_meanings(metrics)])]
    sections += [f"![{_PICTURES[name]}]({name}.png)" for name in pictures]
    return "\n\n".join(sections) + "\n"


# ---- the tables ------------------------------------------------------------------------------------------------------


def _scores(metrics: Mapping[str, Any], done: Mapping[str, Any]) -> Table:
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
    return Table("On the test rows", header, tuple(rows))


def _agreement(metrics: Mapping[str, Any], done: Mapping[str, Any]) -> Table:
    groups = metrics["groups"]
    header = ("method", "compared with", "TV", "W1", "R-hat", *(f"W1 {name}" for name in groups))
    rows = []
    for title, row in done.items():
        found = row["agreement"]
        if found:
            numbers = (f"{found['total_variation']:.3f}", _short(found["wasserstein"]), _ratio(found["r_hat"]))
            nodes = (f"{found[key]:.2f}" if (key := f"nodes {name}") in found else "" for name in groups)
            rows.append((title, found["with"], *numbers, *nodes))
    return Table(f"How far they agree, at {metrics['compared_rows']} test rows", header, tuple(rows))


def _chains(metrics: Mapping[str, Any], done: Mapping[str, Any]) -> Table:
    header = ("method", "chains", "warm-up", "draws", "leapfrogs", "diverged", "R-hat", "min ESS", "ESS/s")
    rows = []
    for title, row in done.items():
        found, chains = row["details"], row["chains"]
        counts = (str(found[name]) for name in ("chains", "warmup", "draws"))
        numbers = (_ratio(chains["r_hat"]), f"{chains['ess']:.0f}", _short(chains["ess_per_second"]))
        rows.append((title, *counts, f"{found['leapfrogs']:.0f}", str(found["divergences"]), *numbers))
    return Table(f"The chains, by the function at {metrics['compared_rows']} test rows", header, tuple(rows))


def _group_names(groups: Mapping[str, int]) -> list[str]:
    return [f"{name}/{size}" for name, size in groups.items()]


# ---- what is said beside them ----------------------------------------------------------------------------------------


def _notes(metrics: Mapping[str, Any]) -> list[str]:
    """Return what nobody should overlook: failures, and chains that have not met."""
    notes = [f"{title} failed: {row['failed']}" for title, row in metrics["methods"].items() if "failed" in row]
    for title, row in metrics["methods"].items():
        if row.get("details", {}).get("epochs"):
            notes += [f"{title}: {problem}." for problem in row["details"].get("problems", ())]
    met = {title: row["chains"]["r_hat"] for title, row in metrics["methods"].items() if row.get("chains")}
    apart = {title: value for title, value in met.items() if not value <= CONVERGED}
    if apart:
        told = ", ".join(f"{title} (R-hat {_ratio(value)})" for title, value in apart.items())
        notes.append(
            f"Chains have not met: {told}. Their draws are no ground truth; the posterior has several modes, or the "
            "run was too short."
        )
    elif met:
        notes.append(f"All chains have met: R-hat at most {_ratio(max(met.values()))}.")
    return notes


def _meanings(metrics: Mapping[str, Any]) -> list[str]:
    """Return what the columns mean."""
    is_regression = metrics["task"] == "regression"
    scale = " RMSE and NLL are on the target's original scale." if is_regression else ""
    moved = "in the target's units" if is_regression else "of the draws of the probability of a row's label"
    notes = [
        f"Scores are averages over draws of the posterior, NLL in nats a row.{scale}",
        "TV is the total variation distance of the predictive distributions, between 0 and 1, and W1 their "
        f"1-Wasserstein distance, {moved}: means over the rows.",
        "R-hat of two methods takes each for a chain: 1 where they give the function the same distribution; the "
        "largest over the rows.",
        "A reference is compared with itself, one half of its chains with the other: nobody can be expected to agree "
        "with it better.",
        "Min ESS is the smallest effective sample size over the rows; seconds contain warm-up and compiling.",
    ]
    if metrics["groups"]:
        notes += [
            "Gates are exactly 0 or 1 (the spike-and-slab posterior), or relaxed to numbers between (the model that "
            "NUTS and ChEES can sample): two models, whose answers differ by more than the method's error.",
            "The columns of groups, such as inputs or hidden1, are the expected number of open nodes, of so many; and "
            "the 1-Wasserstein distance of its distribution, in nodes.",
        ]
    return notes


# ---- cells -----------------------------------------------------------------------------------------------------------


def _score(name: str, value: float) -> str:
    if name in _IN_PERCENT:
        return f"{100 * value:.1f} %"
    return f"{value:.3g}" if name == "rmse" else f"{value:.3f}"


def _short(value: float) -> str:
    return f"{value:.3g}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= CONVERGED else f"{value:.3f}"


def _count(number: int, name: str) -> str:
    return f"{number} {name}{'' if number == 1 else 's'}"
