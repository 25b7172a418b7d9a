"""What the page of a run says of its refined network: rows of its tables, and warnings."""

from collections.abc import Mapping, Sequence
from typing import TypedDict, cast

from bnn_pyro.posterior.diagnostics import MIXED_MEDIAN, MIXED_TAIL

_OTHERS = {
    "dense": "dense network",
    "reference": "whole network, sampled",
    "pruned": "pruned network",
    "posterior": "posterior",
}
_PROGRAMS = {"dense": "dense", "pruned": "pruned.pt2", "ensemble": "ensemble.pt2"}


class _Metrics(TypedDict, total=False):
    """What is read of ``metrics.json`` here, besides scores and differences."""

    refined_r_hat: Sequence[float | None]
    refined_seconds: float
    refined_chains: int
    refined_weights: str
    refined_largest_weight: float
    refined_unreliable_rows: Sequence[int]
    refined_draws: int
    ensemble_draws: int
    program_bytes: Mapping[str, int]
    program_latency_ms: Mapping[str, Mapping[str, float]]


def is_refined(metrics: Mapping[str, object]) -> bool:
    """Return whether a run's pruned network has been sampled.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    return "refined_draws" in metrics


def refined_values(metrics: Mapping[str, object]) -> dict[str, object]:
    """Return what the template ``refined.md.j2`` refers to.

    Args:
        metrics: The numbers of ``metrics.json`` of a refined run.
    """
    known = cast(_Metrics, metrics)
    return {
        "draws": f"{known['refined_draws']:,}",
        "chains": known["refined_chains"],
        "sampling_seconds": f"{known['refined_seconds']:.0f}",
        "ensemble_draws": known["ensemble_draws"],
        "mixing": _mixing(known["refined_r_hat"]),
        "has_mixed": _has_mixed(known["refined_r_hat"]),
        "weights": _weights(known),
        "differences": _differences(metrics),
        "programs": program_rows(metrics),
    }


def program_rows(metrics: Mapping[str, object]) -> list[tuple[str, ...]]:
    """Return the cost of the programs as rows of text: name, bytes, and milliseconds of batches of 1 and of 256 rows.

    Args:
        metrics: The numbers of ``metrics.json``; there are no rows where programs were not measured.
    """
    known = cast(_Metrics, metrics)
    sizes, times = known.get("program_bytes", {}), known.get("program_latency_ms", {})
    return [
        (label, f"{sizes[name]:,}", *(f"{by_name[name]:.3g} ms" for by_name in times.values()))
        for name, label in _PROGRAMS.items()
        if name in sizes
    ]


def mixing_warning(metrics: Mapping[str, object]) -> str:
    """Return a warning where the chains of a refined network have not mixed; empty if they have, or if there are none.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    r_hat = cast(_Metrics, metrics).get("refined_r_hat")
    if r_hat is None or _has_mixed(r_hat):
        return ""
    return (
        f"the chains of the refined network have not mixed: {_mixing(r_hat)}; "
        f"it should be at most {MIXED_MEDIAN:g} and {MIXED_TAIL:g}; sample for longer, as by bnn-pyro refine with "
        "--force and more --seconds"
    )


def _weights(known: _Metrics) -> str:
    """Return how the chains are weighted, as a sentence; older runs do not say it, and weigh them equally."""
    if (kind := known.get("refined_weights", "equal")) == "equal":
        return "Its chains weigh the same."
    how = "by stacking of PSIS-LOO" if kind == "stacking" else "as given"
    sentence = f"Its chains are weighted {how}: the largest weight is {known['refined_largest_weight']:.3f}"
    if "refined_unreliable_rows" not in known:
        return f"{sentence}."
    above, rows = known["refined_unreliable_rows"]
    return f"{sentence}, and Pareto k is above 0.7 in {above:,} of {rows:,} training rows."


def _has_mixed(r_hat: Sequence[float | None]) -> bool:
    median, tail = r_hat
    return median is not None and tail is not None and median <= MIXED_MEDIAN and tail <= MIXED_TAIL


def _mixing(r_hat: Sequence[float | None]) -> str:
    median, tail = r_hat
    if median is None or tail is None:
        return "R-hat of the predictions on test rows is unknown"
    return f"R-hat of the predictions on test rows is {median:.3f} in the median and {tail:.3f} at 95 %"


def _differences(metrics: Mapping[str, object]) -> list[tuple[str, str, str]]:
    """Return name, mean difference and standard error of each network that the refined one is compared with."""
    found = {name: metrics.get(f"refined_minus_{name}_nll") for name in _OTHERS}
    pairs = {name: cast(Sequence[float], pair) for name, pair in found.items() if pair is not None}
    return [(_OTHERS[name], f"{mean:+.4f}", f"{error:.4f}") for name, (mean, error) in pairs.items()]
