"""What the commands share: their options, how torch is set up, which recipe is meant, what is printed in the end."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bnn_pyro.cli.choices import NetName, NoiseName, TaskName

if TYPE_CHECKING:
    from bnn_pyro.data import Dataset
    from bnn_pyro.recipes import Recipe
    from bnn_pyro.reports.measures import Metrics

MOST_THREADS = 4  # per core; torch fails without a message where there are too many


def folder_or_file(text: str) -> Path:
    """Return a path given on the command line.

    Args:
        text: The path.

    Raises:
        typer.BadParameter: If it is empty.
    """
    if not text.strip():
        raise typer.BadParameter(f"must be the name of a file or folder, got {text!r}")
    return Path(text)


# What needs torch is imported inside the functions, so that `--help` and a mistyped option answer at once.

Data = Annotated[str, typer.Argument(help="Name of a data set, or path of a .csv, .tsv, .txt or .npz file.")]
DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the data; digits needs none.", rich_help_panel="Data"),
]
Target = Annotated[
    str | None,
    typer.Option(help="Column of a .csv to predict; the last by default.", rich_help_panel="Data"),
]
Task = Annotated[
    TaskName | None,
    typer.Option(help="What the target of a table is; its type tells by default.", rich_help_panel="Data"),
]
Drop = Annotated[
    str | None,
    typer.Option(help="Columns of a .csv to leave out, with commas between.", rich_help_panel="Data"),
]
Net = Annotated[
    NetName,
    typer.Option(help="The net; see below.", rich_help_panel="Model"),
]
SelectInputs = Annotated[
    bool | None,
    typer.Option(
        help="Whether inputs can be pruned too; fit and path let rows of a table decide.", rich_help_panel="Model"
    ),
]
Noise = Annotated[
    NoiseName | None,
    typer.Option(
        help="A regression's noise: one number, following the predicted mean, or an output; auto for tables.",
        rich_help_panel="Model",
    ),
]
Inclusion = Annotated[
    float | None,
    typer.Option(help="Prior probability that a node is needed.", rich_help_panel="Model"),
]
Seed = Annotated[
    int,
    typer.Option(help="Seed of all that is random.", rich_help_panel="Run"),
]
Device = Annotated[
    str,
    typer.Option(help="Where to compute: cpu, cuda, or one of several such as cuda:1.", rich_help_panel="Run"),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Resume a run that was stopped; begin it where there is none.", rich_help_panel="Run"
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(help="Threads on the CPU; 1 for small nets, else torch's choice.", rich_help_panel="Run"),
]


def resumed_by_option(folder: Path) -> str | None:
    """Return in words how a run that was stopped is resumed; None where nothing was saved.

    Args:
        folder: The run's folder.
    """
    from bnn_pyro.reports.claim import is_resumable

    return "the same command with --resume resumes it" if is_resumable(folder) else None


def set_up_torch(threads: int | None, widths: Sequence[int] = ()) -> None:
    """Set torch up for the run to come.

    Args:
        threads: Threads on the CPU; None for one where all layers are narrow, and else torch's choice.
        widths: Those of the hidden layers, once they are known.

    Raises:
        ValueError: If threads is below 1, or more than 4 per core.
    """
    import torch

    from bnn_pyro.networks.named import is_narrow

    if threads is not None:
        most = MOST_THREADS * (os.cpu_count() or 1)
        if not 1 <= threads <= most:
            raise ValueError(f"threads must be from 1 to {most}, {MOST_THREADS} per core, got {threads}")
    if threads is None and widths and is_narrow(widths):
        threads = 1
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # the weights of dying nodes would pass through numbers that are slow on a CPU


def load_data(
    data: str,
    data_dir: Path | None,
    target: str | None = None,
    task: TaskName | None = None,
    drop: str | Sequence[str] | None = None,
) -> "Dataset":
    """Load the data that a command was given.

    Args:
        data: Name of a data set, or path of a file.
        data_dir: Folder of the data.
        target: Column to predict; None for the last one.
        task: What the target of a table is; None tells it by its type.
        drop: Columns to leave out, as a sequence or with commas between.

    Raises:
        ValueError: If they cannot be loaded so.
    """
    from bnn_pyro.data import load

    columns = [name.strip() for name in drop.split(",")] if isinstance(drop, str) else drop
    return load(data, data_dir=data_dir, target=target, task=task, drop=columns or [])


def recipe_of(
    dataset: "Dataset",
    net: str,
    prior: str,
    method: str,
    epochs: int | None,
    hidden: str | None,
    changes: Mapping[str, float | str | None],
) -> "Recipe":
    """Return the default recipe with what was given on the command line in its place.

    Args:
        dataset: The data.
        net: The net.
        prior: The prior.
        method: The method.
        epochs: Epochs of inference; None for the recipe's.
        hidden: Widths of the hidden layers, with commas between; None for the recipe's.
        changes: Other settings; those that are None are the recipe's.

    Raises:
        ValueError: If a setting is out of range, or belongs to another method.
    """
    from dataclasses import replace

    from bnn_pyro.recipes import recipe

    given: dict[str, Any] = {name: value for name, value in changes.items() if value is not None}
    if hidden is not None:
        given["hidden"] = widths_of(hidden)
    size = {"rows": len(dataset.train), "inputs": dataset.train.x[0].numel()}
    default = recipe(dataset.name, prior, dataset.task, net=net, **size, method=method)
    if method == "sghmc" and "kl_weight" in given:
        raise ValueError(f"kl_weight is of method svi, got {given['kl_weight']} with method sghmc")
    if "kl_weight" in given:  # what was asked for is the weight of the posterior in the end
        default = default.with_kl_weight(given.pop("kl_weight"))
    settings = replace(default, **given)
    return settings if epochs is None else settings.with_epochs(epochs)


def widths_of(text: str) -> tuple[int, ...]:
    """Return widths given with commas between.

    Args:
        text: Such as ``400,400``.

    Raises:
        ValueError: If they are no whole numbers.
    """
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError as error:
        raise ValueError(f"hidden must be whole numbers with commas between, such as 400,400, got {text!r}") from error


def announce_data(dataset: "Dataset") -> None:
    """Print what the data are, and what was done to a table.

    Args:
        dataset: The data.
    """
    inputs = " x ".join(str(size) for size in dataset.input_shape if size > 1) or "1"
    outputs = "regression" if dataset.num_classes is None else f"{dataset.num_classes} classes"
    rows = f"{len(dataset.train):,} training rows, {len(dataset.test):,} test rows"
    typer.echo(f"{dataset.name}: {rows}, {inputs} inputs, {outputs}")
    for note in dataset.notes:
        typer.echo(f"  {note}")


def conclude(metrics: "Metrics", folder: Path, seconds: float | None = None) -> None:
    """Print the main numbers of a run, dense beside pruned, and refined where it is, and what the run warns of.

    Args:
        metrics: The numbers of ``metrics.json``.
        folder: The run's folder.
        seconds: What the command took; None for what the run took.
    """
    from bnn_pyro.reports.input_tables import trial_text
    from bnn_pyro.reports.page import summary_header, summary_rows, tempered_by
    from bnn_pyro.reports.path_files import path_summary, path_table, read_path
    from bnn_pyro.reports.refined_page import is_refined
    from bnn_pyro.reports.run_warnings import run_warnings
    from bnn_pyro.reports.terminal import print_table

    typer.echo()
    print_table(summary_header(metrics), summary_rows(metrics))
    if path := read_path(folder):
        typer.echo()
        print_table(*path_table(path), title="Sparsity path")
        typer.echo(f"{path_summary(path)}.")
    note = tempered_by(metrics)
    but = " The refined network's is not." if note and is_refined(metrics) else ""
    typer.echo(f"\n{note[:1].upper()}{note[1:]}.{but}" if note else "")
    if trial := trial_text(metrics):
        typer.echo(f"{trial}.")
    if "not_refined" in metrics:
        typer.echo(f"Not refined: {metrics['not_refined']}.")
    for warning in run_warnings(metrics):
        typer.echo(f"Warning: {warning}.")
    took = metrics["seconds"] if seconds is None else seconds
    typer.echo(f"Report: {shown(folder / 'report.md')} ({took:.0f} s)")


def shown(path: Path) -> str:
    """Return a path as short as it can be told from here.

    Args:
        path: The path.
    """
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
