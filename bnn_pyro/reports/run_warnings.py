"""What a run warns of, each time with what to do: in the terminal, on top of the page and in ``metrics.json``."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

from bnn_pyro.evaluation.scale import scale_warnings
from bnn_pyro.posterior.empty_groups import empty_warning
from bnn_pyro.reports.refined_page import mixing_warning
from bnn_pyro.reports.score_text import SCORES, main_score, score_text


class _Metrics(TypedDict, total=False):
    """What is read of ``metrics.json`` here, besides scores; older runs have not all of it."""

    nodes_kept: Mapping[str, Sequence[int]]
    kl_weight: float
    temperature: object
    input_rms: float
    target_mean_sd: Sequence[float]


def run_warnings(metrics: Mapping[str, object]) -> list[str]:
    """Return all that a run warns of, as sentences without their full stop.

    Inputs or targets far from unit scale, groups without a node, a pruned network that is clearly worse than the dense
    one or than the mean over draws, and chains that have not mixed.

    Args:
        metrics: The numbers of ``metrics.json``, also of a run from before there were such warnings.
    """
    known = cast(_Metrics, metrics)
    target = known.get("target_mean_sd")
    empty = [name for name, (kept, total) in known["nodes_kept"].items() if total and not kept]
    found = [
        *scale_warnings(known.get("input_rms"), None if target is None else (target[0], target[1])),
        empty_warning(empty, known["kl_weight"]),
        worse_than_dense(metrics),
        worse_than_draws(metrics),
        mixing_warning(metrics),
    ]
    return [warning for warning in found if warning]


def worse_than_dense(metrics: Mapping[str, object]) -> str:
    """Return a warning where the pruned network is worse than the dense one by more than one standard error.

    Normals are judged by the squared error of each row, other targets by its log score; by the validation rows where
    there are some, else by the test rows.

    Args:
        metrics: The numbers of ``metrics.json``.

    Returns:
        The warning, with the difference and its standard error; empty if the network is no worse, or if that was not
        measured.
    """
    name = "nll" if any(key.endswith("pruned_minus_dense_nll") for key in metrics) else "mse"
    keys = {"validation": f"validation_pruned_minus_dense_{name}", "test": f"pruned_minus_dense_{name}"}
    rows = next((rows for rows, key in keys.items() if key in metrics), None)
    if rows is None:
        return ""
    mean, error = cast(Sequence[float | None], metrics[keys[rows]])
    if mean is None or error is None or not mean > error:
        return ""
    score = "negative log score" if name == "nll" else "squared error"
    known = cast(_Metrics, metrics)
    is_sampled = "temperature" in known
    less = "a lower threshold of removal" if is_sampled else "a lower KL weight (--kl-weight, or auto)"
    return (
        f"the pruned network is clearly worse than the dense one on the {rows} rows: its {score} is larger by "
        f"{mean:.3g} per row, with a standard error of {error:.2g}; {less} or more epochs keep more of it"
    )


def worse_than_draws(metrics: Mapping[str, object]) -> str:
    """Return a warning where the network pruned from several chains, a single draw, scores worse than their mean.

    Args:
        metrics: The numbers of ``metrics.json``.

    Returns:
        The warning with both scores; empty if the network is no worse, or the draws are not of several chains.
    """
    score = main_score(metrics)
    pruned, draws = (cast(float, metrics[f"{prefix}_test_{score}"]) for prefix in ("pruned", "posterior"))
    is_worse = pruned < draws if score == "accuracy" else pruned > draws
    shown = [score_text(metrics, prefix, score) for prefix in ("pruned_test_", "posterior_test_")]
    if not is_worse or shown[0] == shown[1] or metrics.get("chains", 1) == 1:
        return ""
    return (
        f"the pruned network is a single draw of {metrics['chains']} chains and is worse than the mean over draws: "
        f"test {SCORES[score]} {shown[0]} instead of {shown[1]}; predict with the posterior's draws"
    )
