"""What a run's page says of the inputs that have gates: their inclusion probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from bnn_pyro.reports.score_text import is_classification

_GROUPS = ("network_inputs", "inputs")  # the latter is a layer where there is the former
_MOST_ROWS = 20


def input_values(metrics: Mapping[str, object], names: Sequence[str] = ()) -> dict[str, object] | None:
    """Return what the template of a run's page refers to as ``inputs``.

    Args:
        metrics: The numbers of ``metrics.json``.
        names: Name of each input; empty for their numbers, from 1.

    Returns:
        ``rows``, name and inclusion probability of at most 20 inputs, the most certain first; how many of ``total`` are
        ``kept``; ``rest``, how many are not shown, and ``largest_rest``, the largest probability among them; and
        whether they are ``tried``, by the shorter fit of a trial. None where inputs had no gates.

    Raises:
        ValueError: If there are names, and not one per input.
    """
    inclusion = cast(Mapping[str, Sequence[float]], metrics.get("inclusion", {}))
    group, trial = next((group for group in _GROUPS if group in inclusion), None), _trial(metrics)
    if group is None and trial is None:
        return None
    found: Sequence[float] = inclusion[group] if group is not None else cast(Any, trial)["inclusion"]
    if names and len(names) != len(found):
        raise ValueError(f"names must hold one per input, {len(found)}, got {len(names)}")
    order = sorted(range(len(found)), key=lambda number: -found[number])  # stable: equals by their numbers
    rest = order[_MOST_ROWS:]
    return {
        "rows": [(names[i] if names else f"input {i + 1}", f"{found[i]:.3f}") for i in order[:_MOST_ROWS]],
        "kept": _open(found) if group is None else cast(Any, metrics["nodes_kept"])[group][0],
        "total": len(found),
        "rest": len(rest),
        "largest_rest": f"{found[rest[0]]:.3f}" if rest else "",
        "tried": group is None,
    }


def _trial(metrics: Mapping[str, object]) -> Mapping[str, Any] | None:
    return cast(Mapping[str, Any] | None, metrics.get("input_trial"))


def _open(inclusion: Sequence[float]) -> int:
    return sum(gamma > 0.5 for gamma in inclusion)


def trial_text(metrics: Mapping[str, object]) -> str:
    """Return what held-out rows said of dropping inputs, as a sentence without its full stop; empty if not asked.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    trial = _trial(metrics)
    if trial is None:
        return ""
    total, kept = len(trial["inclusion"]), _open(trial["inclusion"])
    if trial["gain"] is None:
        found = "a layer ends without a node" if trial["is_empty"] else f"{kept} of {total} inputs are kept"
        return f"In a shorter fit with gates on inputs {found}; so the network reads all inputs"
    what = "gain" if trial["gain"] >= 0 else "lose"
    score = "log score" if is_classification(metrics) else "CRPS, in standard deviations of the target"
    which = "these inputs alone" if trial["drops_inputs"] else "all inputs"
    return (
        f"A shorter fit with gates on inputs keeps {kept} of {total} of them. By sampled networks that read these "
        f"alone {trial['rows']:,} held-out rows {what} {abs(trial['gain']):.3f} (standard error "
        f"{trial['gain_error']:.3f}) in {score}; so the network reads {which}"
    )
