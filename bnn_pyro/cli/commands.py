"""The commands of `bnn-pyro`, and what it answers without one."""

from typing import Annotated

import typer

from bnn_pyro.cli import compare, export, fit, path, predict, refine

app = typer.Typer(
    name="bnn-pyro",
    help="Spike-and-slab Bayesian neural networks that prune themselves to smaller PyTorch modules.",
    epilog="Try [bold]bnn-pyro fit[/bold] for a first run, [bold]bnn-pyro fit --help[/bold] for all it can do.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command(help=fit.HELP, epilog=fit.EPILOG)(fit.fit)
app.command(help=path.HELP, epilog=path.EPILOG)(path.path)
app.command(help=refine.HELP, epilog=refine.EPILOG)(refine.refine)
app.command(help=predict.HELP, epilog=predict.EPILOG)(predict.predict)
app.command(help=export.HELP, epilog=export.EPILOG)(export.export)
app.command(help=compare.HELP, epilog=compare.EPILOG)(compare.compare)


def main() -> None:
    """Run the command line."""
    app()


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
