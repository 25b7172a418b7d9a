"""What a run's page says of the inputs that have gates: their inclusion probabilities."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

_GROUPS = ("network_inputs", "inputs")  # the latter is a layer where there is the former
_MOST_ROWS = 20


def input_values(metrics: Mapping[str, object], names: Sequence[str] = ()) -> dict[str, object] | None:
    """Return what the template of a run's page refers to as ``inputs``.

    Args:
        metrics: The numbers of ``metrics.json``.
        names: Name of each input; empty for their numbers, from 1.

    Returns:
        ``rows``, name and inclusion probability of at most 20 inputs, the most certain first; how many of ``total`` are
        ``kept``; ``rest``, how many are not shown, and ``largest_rest``, the largest probability among them. None
        where inputs have no gates.

    Raises:
        ValueError: If there are names, and not one per input.
    """
    inclusion = cast(Mapping[str, Sequence[float]], metrics.get("inclusion", {}))
    group = next((group for group in _GROUPS if group in inclusion), None)
    if group is None:
        return None
    found = inclusion[group]
    if names and len(names) != len(found):
        raise ValueError(f"names must hold one per input, {len(found)}, got {len(names)}")
    order = sorted(range(len(found)), key=lambda number: -found[number])  # stable: equals by their numbers
    rest = order[_MOST_ROWS:]
    kept, total = cast(Mapping[str, Sequence[int]], metrics["nodes_kept"])[group]
    return {
        "rows": [(names[i] if names else f"input {i + 1}", f"{found[i]:.3f}") for i in order[:_MOST_ROWS]],
        "kept": kept,
        "total": total,
        "rest": len(rest),
        "largest_rest": f"{found[rest[0]]:.3f}" if rest else "",
    }


def trial_text(metrics: Mapping[str, object]) -> str:
    """Return what held-out rows said of gates on inputs, as a sentence without its full stop; empty if not asked.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    trial = cast(Mapping[str, Any] | None, metrics.get("input_trial"))
    if trial is None:
        return ""
    given = f"so inputs {'have' if trial['select_inputs'] else 'have no'} gates"
    if trial["gain"] is None:
        kept = f"all {trial['inputs']} inputs are kept" if trial["kept"] else "a layer ends without a node"
        return f"With gates on inputs {kept}; {given}"
    what = "gain" if trial["gain"] >= 0 else "lose"
    return (
        f"With gates on inputs {trial['rows']:,} held-out rows {what} {abs(trial['gain']):.3f} (standard error "
        f"{trial['gain_error']:.3f}) in log score, and {trial['kept']} of {trial['inputs']} inputs are kept; {given}"
    )
