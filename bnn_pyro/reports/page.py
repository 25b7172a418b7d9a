"""The page that a person reads about a run: its figures as text."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bnn_pyro.posterior.tempering import tempering

_PICTURES = {
    "training": "Loss, score and nodes kept over the epochs",
    "inclusion": "Inclusion probabilities of the nodes",
    "calibration": "Calibration on the test rows",
    "first_layer": "Weights of the first layer",
}
_SCORES = {
    "accuracy": "accuracy",
    "rmse": "RMSE",
    "nll": "NLL",
    "ece": "ECE",
    "brier": "Brier",
    "coverage95": "95 % interval covers",
}
_IN_PERCENT = ("accuracy", "coverage95")
_PRUNED_USAGE = """\
The pruned network needs torch alone:

```python
import torch

net = torch.export.load("pruned.pt2").module()
output = net(x)  # x: (rows, {columns}); {output}
```"""
_RUN_USAGE = """\
The same as a module, to train on or to look into, and the whole posterior, to predict by draws:

```python
from bnn_pyro.recipes import load_pruned, load_run

net = load_pruned(".")  # this folder
posterior = load_run(".")
mean = posterior.predict(x, num_samples={num_samples})
```"""


def summary_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the main figures of a run as rows of text: what it is, dense, pruned, and their ratio.

    Args:
        metrics: The numbers of `metrics.json`.

    Returns:
        Rows `(name, dense, pruned, kept)`; the last is empty where a ratio says nothing.
    """
    score = "accuracy" if _is_classification(metrics) else "rmse"
    dense, pruned = (_score(metrics, prefix, score) for prefix in ("dense_test_", "pruned_test_"))
    return [(f"test {_SCORES[score]}", dense, pruned, ""), *_cost_rows(metrics)]


def _cost_rows(metrics: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    counts = {f"nodes: {group}": count for group, count in metrics["nodes_kept"].items()}
    counts |= {"parameters": metrics["params"], "FLOPs a row": metrics["flops"]}
    rows = [
        (name, f"{total:,}", f"{kept:,}", _percent(kept / total) if total else "")
        for name, (kept, total) in counts.items()
    ]
    for size, (pruned, dense) in metrics["latency_ms"].items():
        rows.append((f"latency, batch {size}", f"{dense:.3g} ms", f"{pruned:.3g} ms", f"{pruned / dense:.2f} x"))
    return rows


def tempered_by(metrics: Mapping[str, Any]) -> str:
    """Return what is to be said wherever the results of a run stand that is tempered; nothing if it is not.

    Args:
        metrics: The numbers of `metrics.json`.
    """
    return tempering(metrics["kl_weight"], metrics.get("temperature"))


def page(
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    *,
    pictures: Sequence[str] = (),
    input_shape: Sequence[int] = (),
    num_samples: int = 32,
    has_checkpoint: bool = False,
) -> str:
    """Return the report of a run as Markdown.

    Args:
        metrics: The numbers of `metrics.json`.
        config: The settings of the run; `data`, `net`, `prior` and `seed` stand in the title.
        pictures: Stems of the `.png` files beside the page.
        input_shape: Shape of one input of the networks.
        num_samples: Draws that the posterior's predictions were averaged over.
        has_checkpoint: Whether the posterior is beside the page, to be loaded by `bnn_pyro.recipes.load_run`.
    """
    title = ", ".join(str(config[name]) for name in ("data", "net", "prior") if name in config)
    seed = f", seed {config['seed']}" if "seed" in config else ""
    sections = [
        f"# {title or 'Run'}{seed}",
        _headline(metrics),
        *([_tempered_note(metrics)] if metrics["tempered"] else []),
        "## On the test rows",
        _quality_table(metrics, num_samples),
        _quality_note(metrics),
        "## What is left",
        _table(("", "dense", "pruned", "kept"), _cost_rows(metrics)),
        _cost_note(metrics),
        "## Pictures",
        *(f"![{_PICTURES.get(name, name)}]({name}.png)" for name in pictures),
        "## Use it",
        _PRUNED_USAGE.format(columns=", ".join(map(str, input_shape)), output=_output(metrics)),
        *([_RUN_USAGE.format(num_samples=num_samples)] if has_checkpoint else []),
        "## Settings",
        _table(("setting", "value"), [(name, _setting(value)) for name, value in config.items()]),
    ]
    return "\n\n".join(sections) + "\n"


def _headline(metrics: Mapping[str, Any]) -> str:
    score = "accuracy" if _is_classification(metrics) else "rmse"
    pruned, dense = (_score(metrics, f"{prefix}test_", score) for prefix in ("pruned_", "dense_"))
    kept = f"{_percent(metrics['params_kept'])} of the parameters and {_percent(metrics['flops_kept'])} of the FLOPs"
    what = "The pruned network keeps" if metrics["nodes_kept"] else "The prior has no gates, so nothing is pruned:"
    took = f" The run took {metrics['seconds']:.0f} seconds." if "seconds" in metrics else ""
    baseline = "the dense network beside it" if "temperature" in metrics else "the dense network it started from"
    quality = f"Its test {_SCORES[score]} is {pruned}; {baseline} has {dense}."
    return f"**{what} {kept}. {quality}**{took}"


def _tempered_note(metrics: Mapping[str, Any]) -> str:
    if "temperature" in metrics:
        return (
            f"> All figures but the dense network's are of {tempered_by(metrics)}: they vary less than draws of the "
            "posterior would, which is at temperature 1."
        )
    return (
        f"> All figures but the dense network's are of a {tempering(metrics['kl_weight'])}: its divergence from the "
        "prior counts less than in Bayes' rule, which would be weight 1."
    )


def _quality_note(metrics: Mapping[str, Any]) -> str:
    models = (
        "The median model is the last draw; the pruned network is the same model in less space."
        if "temperature" in metrics
        else "The median model keeps the nodes whose inclusion probability is above ½, at their posterior means; "
        "the pruned network is the same model in less space."
    )
    if _is_classification(metrics):
        return f"{models} NLL is in nats a row; ECE has 15 bins. Lower is better, but for accuracy."
    return (
        f"{models} RMSE and NLL (nats a row) are on the target's original scale; ECE is the mean gap between predicted "
        "and observed quantile levels. Lower is better; an interval is right if it covers 95 %."
    )


def _quality_table(metrics: Mapping[str, Any], num_samples: int) -> str:
    scores = [name for name in _SCORES if f"test_{name}" in metrics]
    tempered = "tempered " if metrics["tempered"] else ""
    names = {
        "dense_test_": "dense network",
        "pruned_test_": "pruned network",
        "test_": "median model",
        "posterior_test_": f"{tempered}posterior, {num_samples} draws",
    }
    rows = [(name, *(_score(metrics, prefix, score) for score in scores)) for prefix, name in names.items()]
    return _table(("", *(_SCORES[score] for score in scores)), rows)


def _cost_note(metrics: Mapping[str, Any]) -> str:
    one_sided, difference = _percent(metrics["params_kept_one_sided"]), metrics["pruned_max_abs_diff"]
    return (
        "Parameters and FLOPs are counted two-sided: those of the pruned network itself, where a weight is left if "
        f"both its nodes are. One-sided, where a weight counts if the node that it writes is left, {one_sided} of the "
        "parameters are kept. Latencies are medians of passes in turns, on the machine of the run; their ratio is what "
        "to compare. An output of the pruned network differs from the median model's by "
        f"{difference:.1e} at most."
    )


def _output(metrics: Mapping[str, Any]) -> str:
    return "logits" if _is_classification(metrics) else "the target, scaled as in training"


def _is_classification(metrics: Mapping[str, Any]) -> bool:
    return "test_accuracy" in metrics


def _score(metrics: Mapping[str, Any], prefix: str, name: str) -> str:
    value = metrics[f"{prefix}{name}"]
    if name in _IN_PERCENT:
        return _percent(value, 2)
    return f"{value:.4g}" if name == "rmse" else f"{value:.4f}"


def _percent(fraction: float, digits: int = 1) -> str:
    return f"{100 * fraction:.{digits}f} %"


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns but the first are aligned to the right."""
    marks = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, marks, *rows))
