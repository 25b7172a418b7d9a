"""The command line: `bnn-pyro fit digits` trains, prunes and reports."""

import os
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

The folder gets report.md, metrics.json, config.json, plots, pruned.pt2 (the network, for torch.export.load), \
its weights with a description of their sizes (for bnn_pyro.recipes.load_pruned) \
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
  torchrun --nproc-per-node 2 -m bnn_pyro fit mnist      [dim]two processes[/dim]

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

_EXPORT_HELP = """\
Write the pruned network of a run in another form.

The network is pruned again from the posterior of the run, and so can be given numbers of channels \
that a device likes: --multiple 8 fills each layer up by channels that nobody reads.
"""
_EXPORT_EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro export runs/digits-ss-ghs-0 --format onnx
  bnn-pyro export runs/cifar10-ss-ghs-0 --multiple 8

\b
[bold]Formats[/bold]
  pt2             [dim]a program for torch.export.load, which needs torch alone[/dim]
                  [dim](default)[/dim]
  onnx            [dim]for runtimes that read ONNX; needs the extra "export"[/dim]
  weights         [dim]a folder with the weights and a description of their[/dim]
                  [dim]sizes, for bnn_pyro.saving.load_net[/dim]
"""

_COMPARE_HELP = """\
Compare variational inference with samplers on one data set and one small network.

The same rows, the same network, KL weight 1: variational inference with several guides, NUTS, ChEES (many chains as \
one batch) and exact spikes (gates drawn by Gibbs). Tables tell how good the predictions are, how far the methods \
agree, and whether the chains have met. A method that fails is told as such, and the others go on.

The folder gets comparison.md, comparison.json and pictures.
"""
_COMPARE_EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro compare yacht --data-dir data
  bnn-pyro compare yacht --data-dir data --hidden 50 --minutes 30
  bnn-pyro compare digits --methods svi,chees            [dim]no input is pruned[/dim]
  bnn-pyro compare my.csv --target price --draws 500 --warmup 500

\b
[bold]Methods[/bold]
  svi             [dim]AutoSpikeSlab, the default of bnn-pyro fit[/dim]
  centered        [dim]AutoCentered, which does not take scales out of weights[/dim]
  relaxed         [dim]AutoSpikeSlab for the relaxed gates that NUTS samples[/dim]
  normal          [dim]AutoNormal, Pyro's own, on relaxed gates[/dim]
  chees           [dim]many chains as one batch, on relaxed gates[/dim]
  nuts            [dim]Pyro's NUTS, on relaxed gates[/dim]
  exact           [dim]gates that are 0 or 1, drawn by Gibbs: the true posterior[/dim]

\b
[bold]Data, priors and nets[/bold]
  [dim]as in bnn-pyro fit --help[/dim]
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


@contextmanager
def _processes(device: str) -> Iterator[str]:
    """Join the processes of torchrun where it has started this one, and yield the device of this one."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    import torch
    from torch import distributed

    if device == "cuda" and torch.cuda.is_available():
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield device
    finally:
        distributed.destroy_process_group()


def _is_first() -> bool:
    """Return whether this process is the only one, or the first of torchrun's, which alone writes and prints."""
    return os.environ.get("RANK", "0") == "0"


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
    with _user_errors(), _processes(device) as place:
        from bnn_pyro.data import load
        from bnn_pyro.evaluation.report import check_run_folder
        from bnn_pyro.recipes import check_data, check_names, default_prior, run

        prior = default_prior(method) if prior is None else prior
        check_data(data)
        check_names(net=net, prior=prior, method=method)
        label = prior if method == "svi" else method
        folder = check_run_folder(out or Path("runs", f"{Path(data).stem}-{label}-{seed}"))
        _set_up_torch(threads)
        dataset = load(data, data_dir=data_dir, target=target)
        changes = {"kl_weight": kl_weight, "inclusion": inclusion, "select_inputs": select_inputs}
        settings = _settings(dataset, net, prior, method, epochs, hidden, changes)
        if threads is None and max(settings.hidden) <= SMALL:
            _set_up_torch(1)
        if _is_first():
            _announce(dataset, settings)
        metrics = run(dataset, settings, seed=seed, device=place, out=folder)
    if _is_first():
        _conclude(metrics, folder)


@app.command(help=_EXPORT_HELP, epilog=_EXPORT_EPILOG)
def export(
    run: Annotated[Path, typer.Argument(help="Folder that bnn-pyro fit wrote.")],
    form: Annotated[str, typer.Option("--format", help="pt2, onnx or weights; see below.")] = "pt2",
    multiple: Annotated[int, typer.Option(help="Round numbers of channels up to a multiple of this.")] = 1,
    out: Annotated[Path | None, typer.Option(help="File to write, or folder for weights; in RUN by default.")] = None,
) -> None:
    """Write the pruned network of a run in another form; `_EXPORT_HELP` says more to the user."""
    with _user_errors():
        import torch

        from bnn_pyro import prune
        from bnn_pyro.export import FORMS, check_target, export_net
        from bnn_pyro.recipes import load_run

        if form not in FORMS:
            raise ValueError(f"format must be one of {', '.join(FORMS)}, got {form!r}")
        rounded = f"-x{multiple}" if multiple > 1 else ""
        target = out or run / f"pruned{rounded}{'' if form == 'weights' else f'.{form}'}"
        check_target(target)
        posterior = load_run(run)
        net = prune(posterior, multiple=multiple)
        export_net(net, torch.zeros(1, *posterior.model.input_shape), target, form=form)
    typer.echo(f"{sum(parameter.numel() for parameter in net.parameters()):,} parameters: {_shown(target.resolve())}")


@app.command(help=_COMPARE_HELP, epilog=_COMPARE_EPILOG)
def compare(
    data: Annotated[str, typer.Argument(help="Name of a data set, or path of a .csv or .npz file.")],
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of the data; digits needs none.", rich_help_panel="Data")
    ] = None,
    target: Annotated[
        str | None, typer.Option(help="Column of a .csv to predict; the last by default.", rich_help_panel="Data")
    ] = None,
    net: Annotated[str, typer.Option(help="The net.", rich_help_panel="Model")] = "mlp",
    hidden: Annotated[
        str, typer.Option(help="Widths of hidden layers, such as 10,10.", rich_help_panel="Model")
    ] = "10",
    prior: Annotated[str, typer.Option(help="The prior of the weights.", rich_help_panel="Model")] = "ss-ghs",
    select_inputs: Annotated[
        bool | None, typer.Option(help="Whether inputs have gates too; those of a table do.", rich_help_panel="Model")
    ] = None,
    inclusion: Annotated[
        float | None, typer.Option(help="Prior probability that a node is needed.", rich_help_panel="Model")
    ] = None,
    methods: Annotated[
        str | None, typer.Option(help="Names with commas between; see below. All.", rich_help_panel="Run")
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="About how long; samplers share what SVI leaves.", rich_help_panel="Run")
    ] = 8.0,
    epochs: Annotated[int | None, typer.Option(help="Epochs of variational inference.", rich_help_panel="Run")] = None,
    warmup: Annotated[
        int | None, typer.Option(help="Transitions to adapt in; what there is time for.", rich_help_panel="Run")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(help="Draws of each chain; what there is time for.", rich_help_panel="Run")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the whole comparison.", rich_help_panel="Run")] = 0,
    threads: Annotated[
        int | None,
        typer.Option(help="Threads on the CPU; 1 for small nets, else torch's choice.", rich_help_panel="Run"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write; runs/compare-DATA-PRIOR-SEED by default.", rich_help_panel="Run"),
    ] = None,
) -> None:
    """Set methods side by side; `_COMPARE_HELP` says more to the user."""
    with _user_errors():
        import logging

        from bnn_pyro.comparison import Comparison, check_comparison_folder, write_comparison
        from bnn_pyro.comparison import compare as run_comparison
        from bnn_pyro.data import load
        from bnn_pyro.evaluation.comparison_page import comparison_text
        from bnn_pyro.networks.named import reads_images
        from bnn_pyro.recipes import check_data, check_names

        check_data(data)
        check_names(net=net, prior=prior)
        folder = check_comparison_folder(out or Path("runs", f"compare-{Path(data).stem}-{prior}-{seed}"))
        _set_up_torch(threads)
        dataset = load(data, data_dir=data_dir, target=target)
        if select_inputs is None and prior.startswith("ss-") and not reads_images(net):
            select_inputs = len(dataset.input_shape) == 1
        changes = {"inclusion": inclusion, "select_inputs": select_inputs}
        settings = _settings(dataset, net, prior, "svi", epochs, hidden, changes)
        if epochs is None:  # methods are fitted at larger rates than usual
            settings = settings.with_epochs(min(settings.epochs, max(100, 2 * settings.epochs // 5)))
        if threads is None and max(settings.hidden) <= SMALL:
            _set_up_torch(1)
        chosen = tuple(methods.split(",")) if methods else ()
        plan = Comparison(settings, chosen, minutes=minutes, warmup=warmup, draws=draws)
        logging.getLogger("bnn_pyro.inference.hmc").setLevel(logging.ERROR)  # the page says how the chains went
        _announce_data(dataset)
        widths = "-".join(map(str, settings.hidden))
        typer.echo(f"{settings.net} {widths}, prior {settings.prior}, KL weight 1, in about {minutes:g} min")
        found = run_comparison(dataset, plan, seed=seed, announce=typer.echo)
        write_comparison(folder, found)
    typer.echo(f"\n{comparison_text(found.metrics)}\n")
    typer.echo(f"Report: {_shown(folder / 'comparison.md')} ({found.metrics['seconds']:.0f} s)")


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


def _announce_data(dataset: "Dataset") -> None:
    inputs = " x ".join(str(size) for size in dataset.input_shape if size > 1) or "1"
    outputs = "regression" if dataset.num_classes is None else f"{dataset.num_classes} classes"
    rows = f"{len(dataset.train):,} training rows, {len(dataset.test):,} test rows"
    typer.echo(f"{dataset.name}: {rows}, {inputs} inputs, {outputs}")


def _announce(dataset: "Dataset", settings: "Recipe") -> None:
    _announce_data(dataset)
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
