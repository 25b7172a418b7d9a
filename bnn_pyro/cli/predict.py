"""`bnn-pyro predict`: what a run predicts for the rows of a table."""

from pathlib import Path
from typing import Annotated

import typer

from bnn_pyro.cli.endings import user_errors
from bnn_pyro.cli.options import Threads, folder_or_file, set_up_torch, shown

HELP = """\
Predict the rows of a table by a run on such a table.

The table has the columns that the run's had, in any order, with any separator; others are not read. \
The predictions are in the target's units: mean, standard deviation, 5, 50 and 95 % quantiles, noise included, \
or the most probable class and the probability of each. They come from draws of the refined network, or of the \
posterior where the run is not refined.

Where the table has the target too, the predictions are scored.
"""
EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro predict runs/my-ss-ghs-0 new.csv --out predictions.csv
  bnn-pyro predict runs/my-ss-ghs-0 new.csv --out predictions.csv --force
"""


def predict(
    run: Annotated[Path, typer.Argument(help="Folder that bnn-pyro fit wrote.")],
    rows: Annotated[Path, typer.Argument(help="Table of the rows to predict: a .csv, .tsv or .txt file.")],
    out: Annotated[
        Path, typer.Option(help="File to write, as .csv with commas.", parser=folder_or_file, metavar="<path>")
    ],
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    threads: Threads = None,
) -> None:
    """Predict rows of a table; `HELP` says more to the user."""
    with user_errors():
        from bnn_pyro.recipes.config_file import read_config
        from bnn_pyro.recipes.prediction import predict_rows
        from bnn_pyro.storage import whole_file

        _check_out(out, force)
        _, recipe = read_config(run)
        set_up_torch(threads, recipe.hidden)
        found = predict_rows(run, rows)
        with whole_file(out) as partial:
            found.frame.to_csv(partial, index=False)
    for note in found.notes:
        typer.echo(f"  {note}")
    typer.echo(f"{len(found.frame):,} rows predicted from {found.draws}: {shown(out.resolve())}")
    if found.scores is not None:
        scores = ", ".join(f"{name} {value:.4g}" for name, value in found.scores.items())
        typer.echo(f"Of {found.scored_rows:,} rows with a target: {scores}")


def _check_out(out: Path, force: bool) -> None:
    if out.is_dir() or not out.resolve().parent.is_dir():
        raise ValueError(f"out must be a file in a folder that exists, got '{out}'")
    if out.exists() and not force:
        raise ValueError(f"out must not exist yet, got '{out}': name another file, or replace it with --force")
