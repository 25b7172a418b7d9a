"""What a run's page says of the intervals of its predictive distributions."""

from collections.abc import Mapping
from typing import Any, cast

from bnn_pyro.evaluation.intervals import LEVELS

_SHOWN = {"posterior": "posterior", "refined": "refined network"}  # prefixes in metrics.json -> what they are called


def interval_header(metrics: Mapping[str, object]) -> tuple[str, ...]:
    """Return the names of the columns of `interval_rows`.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    columns = (f"{name}: {what}" for name in _found(metrics).values() for what in ("covers", "width"))
    return ("central interval", *columns)


def interval_rows(metrics: Mapping[str, object]) -> list[tuple[str, ...]]:
    """Return coverage and mean width of central intervals as rows of text, one per level.

    Args:
        metrics: The numbers of ``metrics.json``; there are no rows of classes, or of runs from before these were
            measured.

    Returns:
        Rows ``(level, covers, width)`` of the posterior, of a refined run with both cells of the refined network after
        them.
    """
    found, rows = _found(metrics), []
    for level in LEVELS if found else ():
        percent = round(100 * level)
        cells = [f"{percent} %"]
        for prefix in found:
            covered = cast(float, metrics[f"{prefix}_test_coverage{percent}"])
            width = cast(float, metrics[f"{prefix}_test_width{percent}"])
            cells += [f"{100 * covered:.1f} %", f"{width:.4g}"]
        rows.append(tuple(cells))
    return rows


def noise_text(metrics: Mapping[str, object]) -> str:
    """Return what held-out rows said of a noise that varies, as a sentence without its full stop; empty if not asked.

    Args:
        metrics: The numbers of ``metrics.json``.
    """
    trial = cast(Mapping[str, Any] | None, metrics.get("noise_trial"))
    if trial is None:
        return ""
    what = "gain" if trial["gain"] >= 0 else "lose"
    noise = "the noise of the sampled network does" if trial["noise"] == "mean" else "the noise is one number"
    return (
        f"With a noise that depends on the prediction {trial['rows']:,} held-out rows {what} {abs(trial['gain']):.3f} "
        f"(standard error {trial['gain_error']:.3f}) in log score; so {noise}"
    )


def _found(metrics: Mapping[str, object]) -> dict[str, str]:
    """Return those whose intervals were measured, by their prefixes."""
    shown = _SHOWN | ({"posterior": "tempered posterior"} if metrics.get("tempered") else {})
    return {prefix: name for prefix, name in shown.items() if f"{prefix}_test_width90" in metrics}
