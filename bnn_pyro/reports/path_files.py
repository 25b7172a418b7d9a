"""The files that a sparsity path adds to a run's folder, and its points as rows of a table."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bnn_pyro.fields import FLAG, NUMBER, POSITIVE, RECORDS, VALUES, WHOLE, check_fields, one_of, optional
from bnn_pyro.posterior.tempering import tempering
from bnn_pyro.storage import read_json, whole_file

PATH_FILES = ("path.json", "path.png")
"""The names of the files."""

_POINTS = PATH_FILES[0]

Records = Sequence[Mapping[str, Any]]
"""Points as `bnn_pyro.sparsity_path.SparsityPath.records` gives them."""


_FIELDS = {
    "kl_weight": POSITIVE,
    "weights": WHOLE,
    "nodes": VALUES,
    "refined": FLAG,
    "nll": NUMBER,
    "nll_error": optional(NUMBER),
    "loss": NUMBER,
    "loss_error": optional(NUMBER),
    "chosen": FLAG,
}


def write_path(records: Records, folder: str | Path) -> None:
    """Write the points of a path into a run's folder, one line each.

    Args:
        records: The points.
        folder: The folder.
    """
    lines = ",\n".join(f"  {json.dumps(record)}" for record in records)
    with whole_file(Path(folder) / _POINTS) as partial:
        partial.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read_path(folder: str | Path) -> Records | None:
    """Return the points of the path in a run's folder; None where there is none.

    Args:
        folder: The folder.
    """
    file = Path(folder) / _POINTS
    if not file.is_file():
        return None
    records: Records = read_json(file, what="the path.json of a run")
    check_fields({"points": records}, {"points": RECORDS}, f"'{file}'")
    for record in records:
        check_fields(record, _FIELDS, f"'{file}'")
    check_fields({"chosen": any(record["chosen"] for record in records)}, {"chosen": one_of(True)}, f"'{file}'")
    return records


def path_table(records: Records) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the header and the rows of a path's table, as text.

    Args:
        records: The points.
    """
    groups = list(records[0]["nodes"])
    header = ("KL weight", *(f"nodes: {group}" for group in groups), "parameters", "NLL", "loss", "s.e.", "")
    rows = [
        (
            f"{record['kl_weight']:g}",
            *(f"{record['nodes'][group]:,}" for group in groups),
            f"{record['weights']:,}",
            f"{record['nll']:.4f}",
            f"{record['loss']:.4f}",
            "" if record["loss_error"] is None else f"{record['loss_error']:.4f}",
            "chosen" if record["chosen"] else "",
        )
        for record in records
    ]
    return header, rows


def path_summary(records: Records) -> str:
    """Return in a sentence, without its full stop, which point is chosen, and how it is tempered if it is.

    Args:
        records: The points.
    """
    chosen = next(record for record in records if record["chosen"])
    words = tempering(chosen["kl_weight"])
    scored = "the sampled posteriors of the pruned networks" if chosen["refined"] else "draws of the guides"
    return (
        f"KL weight {chosen['kl_weight']:g} is chosen{f', a {words}' if words else ''}: "
        "the smallest network that loses at most one standard error against the best, "
        f"by the held-out scores of {scored}"
    )
