"""The page that a person reads about a run: its numbers as text, in the words of ``templates/report.md.j2``."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict, cast

from bnn_pyro.posterior.tempering import Temperature, tempering
from bnn_pyro.reports.input_tables import input_values, trial_text
from bnn_pyro.reports.interval_tables import interval_header, interval_rows, noise_text
from bnn_pyro.reports.markdown import render
from bnn_pyro.reports.path_files import Records, path_summary, path_table
from bnn_pyro.reports.refined_measures import SCORED_DRAWS
from bnn_pyro.reports.refined_page import is_refined, program_rows, refined_values
from bnn_pyro.reports.run_warnings import run_warnings
from bnn_pyro.reports.score_text import INTERVAL, SCORES, is_classification, main_score, percent, score_text

_TITLE = ("data", "net", "prior")


class _Metrics(TypedDict, total=False):
    """What the page reads of ``metrics.json`` besides scores; pairs are of the pruned and of the dense network."""

    nodes_kept: Mapping[str, Sequence[int]]
    params: Sequence[int]
    flops: Sequence[int]
    latency_ms: Mapping[str, Sequence[float]]
    params_kept: float
    params_kept_one_sided: float
    flops_kept: float
    pruned_max_abs_diff: float
    kl_weight: float
    tempered: bool
    temperature: Temperature
    seconds: float


def summary_header(metrics: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the columns of `summary_rows`.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    return ("", "dense", "pruned", *(["refined"] if is_refined(metrics) else []), "kept")


def summary_rows(metrics: Mapping[str, object]) -> list[tuple[str, ...]]:
    """Return the main numbers of a run as rows of text: name, dense, pruned and their ratio.

    Args:
        metrics: The numbers of ``metrics.json``.

    Returns:
        Rows ``(name, dense, pruned, kept)``, of a refined run ``(name, dense, pruned, refined, kept)``; cells that say
        nothing are empty.
    """
    score = main_score(metrics)
    costs = _cost_rows(cast(_Metrics, metrics))
    if not is_refined(metrics):
        return [*_summary_scores(metrics, ("dense_test_", "pruned_test_"), (score,)), *costs]
    prefixes = ("dense_test_", "pruned_test_", "refined_test_")
    rows = _summary_scores(metrics, prefixes, (score, "nll"))
    programs = {name: cells for name, *cells in program_rows(metrics)}
    if len(programs) == len(prefixes):
        for number, name in ((0, "bytes of the program"), (2, "its latency, batch 256")):
            rows.append((name, *(cells[number] for cells in programs.values()), ""))
    return [*rows, *((name, dense, pruned, "", kept) for name, dense, pruned, kept in costs)]


def _summary_scores(
    metrics: Mapping[str, object], prefixes: Sequence[str], names: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return rows of scores, and of a regression those of its distribution that all have, as older runs may not."""
    titles = {name: f"test {SCORES[name]}" for name in (*names, "crps")} | INTERVAL
    shown = [name for name in titles if name in names or all(f"{prefix}{name}" in metrics for prefix in prefixes)]
    return [(titles[name], *(score_text(metrics, prefix, name) for prefix in prefixes), "") for name in shown]


def _cost_rows(metrics: _Metrics) -> list[tuple[str, str, str, str]]:
    counts = {f"nodes: {group}": count for group, count in metrics["nodes_kept"].items()}
    counts |= {"parameters": metrics["params"], "FLOPs per row": metrics["flops"]}
    rows = [
        (name, f"{total:,}", f"{kept:,}", percent(kept / total) if total else "")
        for name, (kept, total) in counts.items()
    ]
    for size, (pruned, dense) in metrics["latency_ms"].items():
        rows.append((f"latency, batch {size}", f"{dense:.3g} ms", f"{pruned:.3g} ms", f"{pruned / dense:.2f} x"))
    return rows


def tempered_by(metrics: Mapping[str, object]) -> str:
    """Return the label of a tempered run's results; empty if it is not tempered.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    known = cast(_Metrics, metrics)
    return tempering(known["kl_weight"], known.get("temperature"))


def page(
    metrics: Mapping[str, object],
    config: Mapping[str, object],
    *,
    pictures: Sequence[str] = (),
    input_shape: Sequence[int] = (),
    num_samples: int = 32,
    path: Records | None = None,
    has_checkpoint: bool = False,
    input_names: Sequence[str] = (),
    table: Mapping[str, object] | None = None,
) -> str:
    """Return the report of a run as Markdown.

    Args:
        metrics: The numbers of ``metrics.json``.
        config: The settings of the run; ``data``, ``net``, ``prior`` and ``seed`` stand in the title.
        pictures: Stems of the ``.png`` files beside the page.
        input_shape: Shape of one input of the networks.
        num_samples: Draws that the posterior's predictions were averaged over.
        path: Points of the sparsity path that chose the KL weight; None if there was none.
        has_checkpoint: Whether the posterior is beside the page, to be loaded by `bnn_pyro.recipes.load_run`.
        input_names: Name of each input, for the table of those that have gates; empty for their numbers.
        table: What `bnn_pyro.reports.tables.table_values` says of the table; None where the run was on none.
    """
    scores = [name for name in SCORES if f"test_{name}" in metrics]
    known = cast(_Metrics, metrics)
    return render(
        "bnn_pyro.reports",
        "report.md.j2",
        title=_title(config),
        **_headline(known),
        tempered=tempered_by(metrics) if known["tempered"] else "",
        is_sampled=_is_sampled(metrics),
        is_adapted=metrics.get("temperature") == "adapted",
        chains=metrics.get("chains", 1),
        warnings=run_warnings(metrics),
        refined=refined_values(metrics) if is_refined(metrics) else None,
        not_refined=metrics.get("not_refined", ""),
        others=_untempered(metrics),
        path=None if path is None else _path_values(path),
        is_classification=is_classification(metrics),
        score_header=["", *(SCORES[name] for name in scores)],
        score_rows=_score_rows(metrics, scores, num_samples),
        interval_header=interval_header(metrics),
        interval_rows=interval_rows(metrics),
        noise_trial=noise_text(metrics),
        inputs=input_values(metrics, input_names),
        input_trial=trial_text(metrics),
        cost_rows=_cost_rows(known),
        params_kept_one_sided=percent(known["params_kept_one_sided"]),
        difference=f"{known['pruned_max_abs_diff']:.1e}",
        pictures=pictures,
        input_columns=", ".join(map(str, input_shape)),
        num_samples=num_samples,
        has_checkpoint=has_checkpoint,
        settings=list(_settings({name: value for name, value in config.items() if name != "notes"})),
        notes=config.get("notes", []),
        columns=table,
    )


def _path_values(path: Records) -> dict[str, object]:
    header, rows = path_table(path)
    return {"header": header, "rows": rows, "summary": path_summary(path)}


def _title(config: Mapping[str, object]) -> str:
    title = ", ".join(str(config[name]) for name in _TITLE if name in config) or "Run"
    return f"{title}, seed {config['seed']}" if "seed" in config else title


def _headline(metrics: _Metrics) -> dict[str, object]:
    name = main_score(metrics)
    return {
        "has_gates": bool(metrics["nodes_kept"]),
        "params_kept": percent(metrics["params_kept"]),
        "flops_kept": percent(metrics["flops_kept"]),
        "score": SCORES[name],
        "pruned_score": score_text(metrics, "pruned_test_", name),
        "dense_score": score_text(metrics, "dense_test_", name),
        "seconds": f"{metrics['seconds']:.0f}" if "seconds" in metrics else None,
    }


def _score_rows(metrics: Mapping[str, object], scores: Sequence[str], num_samples: int) -> list[tuple[str, ...]]:
    tempered = "tempered " if metrics["tempered"] else ""
    names = {
        "dense_test_": "dense network",
        "pruned_test_": "pruned network",
        "test_": "median model",
        "posterior_test_": f"{tempered}posterior, {num_samples} draws",
    }
    if is_refined(metrics):
        names["refined_test_"] = f"refined network, {_draws(metrics, 'refined')}"
    if "reference_draws" in metrics:
        names = {"reference_test_": f"whole network, sampled, {_draws(metrics, 'reference')}", **names}
    return [(name, *(score_text(metrics, prefix, score) for score in scores)) for prefix, name in names.items()]


def _draws(metrics: Mapping[str, object], prefix: str) -> str:
    draws = cast(int, metrics[f"{prefix}_draws"])
    scored = cast(int, metrics.get(f"{prefix}_scored_draws", min(draws, SCORED_DRAWS)))
    return f"{draws:,} draws" if draws == scored else f"{scored:,} of {draws:,} draws"


def _untempered(metrics: Mapping[str, object]) -> str:
    """Return whose results are not of a tempered posterior."""
    sampled = {"refined_draws": "the refined network's", "reference_draws": "those of the whole network, sampled"}
    return " and ".join(["the dense network's", *(name for key, name in sampled.items() if key in metrics)])


def _settings(config: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield name and value of each setting, those of an object one by one."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value)


def _is_sampled(metrics: Mapping[str, object]) -> bool:
    return "temperature" in metrics
