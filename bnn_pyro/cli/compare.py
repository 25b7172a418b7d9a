"""`bnn-pyro compare`: variational inference and samplers on one data set."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

import typer

from bnn_pyro.cli.choices import ComparedName, PriorName
from bnn_pyro.cli.endings import user_errors
from bnn_pyro.cli.options import (
    Data,
    DataDir,
    Device,
    Drop,
    Inclusion,
    Net,
    Seed,
    SelectInputs,
    Target,
    Task,
    Threads,
    announce_data,
    folder_or_file,
    load_data,
    recipe_of,
    set_up_torch,
    shown,
)

HELP = """\
Compare variational inference with samplers on one data set and one small network.

The same rows, the same network, KL weight 1: variational inference with several guides, NUTS, ChEES (many chains as \
one batch) and exact spikes (gates drawn by Gibbs). Tables show how good the predictions are, how far the methods \
agree, and whether the chains have converged. A method that fails is reported, and the others continue.

The folder gets comparison.md, comparison.json and pictures.
"""
EPILOG = """\
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


METHODS: tuple[ComparedName, ...] = get_args(ComparedName)


def _checked_methods(methods: str | None) -> str | None:
    """Refuse names of methods that are none, as Typer does for options with one name."""
    for name in methods.split(",") if methods else ():
        if name not in METHODS:
            raise typer.BadParameter(f"{name!r} is not one of {', '.join(map(repr, METHODS))}.")
    return methods


def compare(
    data: Data,
    data_dir: DataDir = None,
    target: Target = None,
    task: Task = None,
    drop: Drop = None,
    net: Net = "mlp",
    hidden: Annotated[
        str, typer.Option(help="Widths of hidden layers, such as 10,10.", rich_help_panel="Model")
    ] = "10",
    prior: Annotated[PriorName, typer.Option(help="The prior of the weights.", rich_help_panel="Model")] = "ss-ghs",
    select_inputs: SelectInputs = None,
    inclusion: Inclusion = None,
    methods: Annotated[
        str | None,
        typer.Option(
            help="Names with commas between; see below. All.",
            callback=_checked_methods,
            metavar=f"<{'|'.join(METHODS)}>",
            rich_help_panel="Run",
        ),
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
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; runs/compare-DATA-PRIOR-SEED by default.",
            parser=folder_or_file,
            metavar="<path>",
            rich_help_panel="Run",
        ),
    ] = None,
) -> None:
    """Set methods side by side; `HELP` says more to the user."""
    with user_errors():
        from bnn_pyro.comparison import Comparison, check_comparison_folder, write_comparison
        from bnn_pyro.comparison import compare as run_comparison
        from bnn_pyro.comparison.page import print_comparison
        from bnn_pyro.networks.named import reads_images
        from bnn_pyro.recipes import check_data
        from bnn_pyro.reports.claim import claimed

        check_data(data)
        folder = check_comparison_folder(out or Path("runs", f"compare-{Path(data).stem}-{prior}-{seed}"))
        set_up_torch(threads)
        dataset = load_data(data, data_dir, target, task, drop)
        if select_inputs is None and prior.startswith("ss-") and not reads_images(net):
            select_inputs = len(dataset.input_shape) == 1
        changes = {"inclusion": inclusion, "select_inputs": select_inputs, "noise": "constant"}
        settings = recipe_of(dataset, net, prior, "svi", epochs, hidden, changes)
        if epochs is None:  # methods are fitted at larger rates than usual
            settings = settings.with_epochs(min(settings.epochs, max(100, 2 * settings.epochs // 5)))
        set_up_torch(threads, settings.hidden)
        chosen = tuple(methods.split(",")) if methods else ()
        plan = Comparison(settings, chosen, minutes=minutes, warmup=warmup, draws=draws)
        announce_data(dataset)
        widths = "-".join(map(str, settings.hidden))
        typer.echo(f"{settings.net} {widths}, prior {settings.prior}, KL weight 1, in about {minutes:g} min")
        with claimed(folder):
            with _without_warnings("bnn_pyro.inference.mcmc.sample"):  # the page says how the chains went
                found = run_comparison(dataset, plan, seed=seed, device=device, announce=typer.echo)
            write_comparison(folder, found)
    typer.echo()
    print_comparison(found.metrics)
    typer.echo(f"\nReport: {shown(folder / 'comparison.md')} ({found.metrics['seconds']:.0f} s)")


@contextmanager
def _without_warnings(name: str) -> Iterator[None]:
    """Let a logger tell of errors alone."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
