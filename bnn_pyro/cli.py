"""The command line: `bnn-pyro fit digits` trains, prunes and reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from bnn_pyro.data import Dataset
    from bnn_pyro.recipes import Recipe

# What needs torch is imported inside the commands, so that `--help` and a mistyped option answer at once.

_HELP = """\
Train a sparse Bayesian network, prune it, and write a report.

First a dense network is trained. The posterior starts from it and learns which nodes are needed; \
the others are cut away, and a smaller plain PyTorch network is left. \
The defaults depend on the data set and are good ones.

The folder gets report.md, metrics.json, config.json, plots, pruned.pt2 (the network, for torch.export.load) \
and checkpoint.pt (the posterior, for bnn_pyro.recipes.load_run).
"""
# At most 78 columns wide, so that lines do not break in a small terminal; \b keeps typer from joining them.
_EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro fit                                           [dim]8 x 8 digits[/dim]
  bnn-pyro fit mnist --data-dir data                     [dim]784-400-400-10[/dim]
  bnn-pyro fit mnist --data-dir data --kl-weight 1       [dim]not tempered[/dim]
  bnn-pyro fit mnist --data-dir data --method sghmc      [dim]sampled[/dim]
  bnn-pyro fit yacht --data-dir data --prior ss-gl       [dim]regression[/dim]
  bnn-pyro fit my.csv --target price --hidden 100,100    [dim]your own table[/dim]

\b
[bold]Data[/bold]
  digits          [dim]1,797 images of 8 x 8 pixels; needs no files (default)[/dim]
  mnist           [dim]70,000 digits of 28 x 28 pixels, in --data-dir; what is[/dim]
                  [dim]missing there is downloaded[/dim]
  fashion-mnist   [dim]70,000 pieces of clothing of 28 x 28 pixels; likewise[/dim]
  cifar10         [dim]60,000 colour images of 32 x 32 pixels; likewise[/dim]
  cifar10-jpeg    [dim]a lossy copy of it, cifar10_jpeg.npz in --data-dir[/dim]
  boston-housing, concrete, energy, kin8nm, naval, power-plant, protein,
  wine-red, yacht
                  [dim]UCI regression; uci/NAME.npz or NAME.npz in --data-dir[/dim]
  PATH.csv        [dim]a table with a header; its last column, or --target, is[/dim]
                  [dim]what to predict[/dim]
  PATH.npz        [dim]arrays X (rows, ...), y (rows,), perhaps test_index[/dim]

\b
[bold]Priors[/bold]
  ss-ig           [dim]spike and slab on every node, Gaussian slab[/dim]
  ss-gl           [dim]spike and slab on every node, group-lasso slab[/dim]
  ss-ghs          [dim]spike and slab on every node, group-horseshoe slab (default)[/dim]
  ig, gl, ghs     [dim]the slab alone: baselines, in which nothing is pruned[/dim]

\b
[bold]Methods[/bold]
  svi             [dim]stochastic variational inference, from the dense network[/dim]
                  [dim](default)[/dim]
  sghmc           [dim]sampling with one-shot pruning, from scratch; prior ss-ig[/dim]

\b
[bold]Nets[/bold]
  mlp             [dim]fully connected; --hidden 400,400 are its widths (default)[/dim]
  residual-mlp    [dim]residual blocks; --hidden 64,32,32 are 64 shared channels[/dim]
                  [dim]and two blocks of 32 nodes[/dim]
  lenet           [dim]LeNet-5 for images of 16 x 16 pixels or more; --hidden[/dim]
                  [dim]20,50,800,500 are its filters and then its widths[/dim]
  resnet18, resnet20, resnet32, resnet44, resnet50, resnet56, resnet110
                  [dim]residual nets for images of about 32 x 32 pixels;[/dim]
                  [dim]--hidden 16 is the width of the first stage[/dim]
"""

SMALL = 100  # nodes a layer, up to which a second thread costs more time than it saves

app = typer.Typer(
    name="bnn-pyro",
    help="Spike-and-slab Bayesian neural networks that prune themselves to smaller PyTorch modules.",
    epilog="Try [bold]bnn-pyro fit[/bold] for a first run, [bold]bnn-pyro fit --help[/bold] for all it can do.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line."""
    app()


@contextmanager
def _user_errors() -> Iterator[None]:
    """Turn what the user can mend into one line on stderr and the exit code 2."""
    try:
        yield
    except ValueError as error:
        typer.echo(f"error: {' '.join(str(error).split())}", err=True)
        raise typer.Exit(2) from error


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"bnn-pyro {version('bnn_pyro')}")
        except PackageNotFoundError:
            typer.echo("bnn-pyro, not installed")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """Hold the options that belong to no command; a callback also keeps `fit` a command of its own."""


@app.command(help=_HELP, epilog=_EPILOG)
def fit(
    data: Annotated[str, typer.Argument(help="Name of a data set, or path of a .csv or .npz file.")] = "digits",
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data; digits needs none.", rich_help_panel="Data")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column of a .csv to predict; the last by default.", rich_help_panel="Data")
    ] = None,
    net: Annotated[str, typer.Option(help="The net; see below.", rich_help_panel="Model")] = "mlp",
    hidden: Annotated[
        str | None, typer.Option(help="Widths of hidden layers, such as 400,400.", rich_help_panel="Model")
    ] = None,
    prior: Annotated[
        str | None,
        typer.Option(help="The prior of the weights; see below. ss-ghs, or the method's.", rich_help_panel="Model"),
    ] = None,
    method: Annotated[str, typer.Option(help="The method; see below.", rich_help_panel="Model")] = "svi",
    select_inputs: Annotated[
        bool | None, typer.Option(help="Whether inputs can be pruned too.", rich_help_panel="Model")
    ] = None,
    inclusion: Annotated[
        float | None, typer.Option(help="Prior probability that a node is needed.", rich_help_panel="Model")
    ] = None,
    kl_weight: Annotated[
        float | None,
        typer.Option(help="1 gives the posterior, less a tempered (cold) one.", rich_help_panel="Model"),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of inference.", rich_help_panel="Run")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the whole run.", rich_help_panel="Run")] = 0,
    device: Annotated[str, typer.Option(help="Where to train: cpu or cuda.", rich_help_panel="Run")] = "cpu",
    threads: Annotated[
        int | None,
        typer.Option(help="Threads on the CPU; 1 for small nets, else torch's choice.", rich_help_panel="Run"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; runs/DATA-PRIOR-SEED by default.", rich_help_panel="Run")
    ] = None,
) -> None:
    """Do the main job, from data to a report; `_HELP` says more to the user."""
    with _user_errors():
        from bnn_pyro.data import load
        from bnn_pyro.evaluation.report import check_run_folder
        from bnn_pyro.recipes import check_names, default_prior, run

        prior = default_prior(method) if prior is None else prior
        check_names(data=data, net=net, prior=prior, method=method)
        label = prior if method == "svi" else method
        folder = check_run_folder(out or Path("runs", f"{Path(data).stem}-{label}-{seed}"))
        _set_up_torch(threads)
        dataset = load(data, data_dir=data_dir, target=target)
        changes = {"kl_weight": kl_weight, "inclusion": inclusion, "select_inputs": select_inputs}
        settings = _settings(dataset, net, prior, method, epochs, hidden, changes)
        if threads is None and max(settings.hidden) <= SMALL:
            _set_up_torch(1)
        _announce(dataset, settings)
        metrics = run(dataset, settings, seed=seed, device=device, out=folder)
    _conclude(metrics, folder)


def _set_up_torch(threads: int | None) -> None:
    import torch

    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # the weights of dying nodes would pass through numbers that are slow on a CPU


def _settings(
    dataset: "Dataset",
    net: str,
    prior: str,
    method: str,
    epochs: int | None,
    hidden: str | None,
    changes: dict[str, Any],
) -> "Recipe":
    """Return the default recipe with what was given on the command line in its place."""
    from dataclasses import replace

    from bnn_pyro.recipes import recipe

    given = {name: value for name, value in changes.items() if value is not None}
    if hidden is not None:
        given["hidden"] = _widths(hidden)
    if "kl_weight" in given:
        given["frozen_kl_weight"] = None  # what was asked for is the weight of the posterior in the end
    default = recipe(dataset.name, prior, dataset.task, net=net, rows=len(dataset.train), method=method)
    if method == "sghmc" and "kl_weight" in given:
        raise ValueError(f"kl_weight is of method svi, got {given['kl_weight']} with method sghmc")
    settings = replace(default, **given)
    return settings if epochs is None else settings.with_epochs(epochs)


def _widths(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(width) for width in text.split(","))
    except ValueError as error:
        raise ValueError(f"hidden must be whole numbers with commas between, such as 400,400, got {text!r}") from error


def _announce(dataset: "Dataset", settings: "Recipe") -> None:
    inputs = " x ".join(str(size) for size in dataset.input_shape if size > 1) or "1"
    outputs = "regression" if dataset.num_classes is None else f"{dataset.num_classes} classes"
    rows = f"{len(dataset.train):,} training rows, {len(dataset.test):,} test rows"
    typer.echo(f"{dataset.name}: {rows}, {inputs} inputs, {outputs}")
    widths = "-".join(map(str, settings.hidden))
    typer.echo(
        f"{settings.net} {widths}, prior {settings.prior}: {settings.pretrain_epochs} epochs dense, "
        + (
            f"then {settings.epochs} of variational inference"
            if settings.method == "svi"
            else f"to compare with, and {settings.epochs} of sampling"
        )
    )


def _conclude(metrics: dict[str, Any], folder: Path) -> None:
    """Print the main figures, dense beside pruned."""
    from bnn_pyro.evaluation.page import summary_rows, tempered_by

    rows = [("", "dense", "pruned", "kept"), *summary_rows(metrics)]
    first, *others = (max(len(cell) for cell in column) for column in zip(*rows, strict=True))
    typer.echo()
    for name, *cells in rows:
        line = name.ljust(first) + "".join(cell.rjust(width + 3) for cell, width in zip(cells, others, strict=True))
        typer.echo(line.rstrip())
    note = tempered_by(metrics)
    typer.echo(f"\n{note[:1].upper()}{note[1:]}." if note else "")
    typer.echo(f"Report: {_shown(folder / 'report.md')} ({metrics['seconds']:.0f} s)")


def _shown(path: Path) -> str:
    """Return a path as short as it can be told from here."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
