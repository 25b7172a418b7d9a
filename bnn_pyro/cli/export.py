"""`bnn-pyro export`: the pruned network of a run in another form."""

from pathlib import Path
from typing import Annotated

import typer

from bnn_pyro.cli.choices import FormName
from bnn_pyro.cli.endings import user_errors
from bnn_pyro.cli.options import folder_or_file, shown

HELP = """\
Write the pruned network of a run in another form.

Programs of a run on a table take raw rows and give predictions in the target's units, as its report.md says.

The network is pruned again from the posterior of the run, and so can be given numbers of channels \
that a device likes: --multiple 8 fills each layer up by channels that nobody reads.
"""
EPILOG = """\
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
                  [dim]sizes, for bnn_pyro.export.load_net[/dim]
"""


def export(
    run: Annotated[Path, typer.Argument(help="Folder that bnn-pyro fit wrote.")],
    form: Annotated[FormName, typer.Option("--format", help="The form; see below.")] = "pt2",
    multiple: Annotated[int, typer.Option(help="Round numbers of channels up to a multiple of this.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write, or folder for weights; in RUN by default.",
            parser=folder_or_file,
            metavar="<path>",
        ),
    ] = None,
) -> None:
    """Write the pruned network of a run in another form; `HELP` says more to the user."""
    with user_errors():
        import torch

        from bnn_pyro import prune
        from bnn_pyro.export import check_target, export_net
        from bnn_pyro.recipes import load_run
        from bnn_pyro.reports.tables import example_rows, find_table, point_program

        rounded = f"-x{multiple}" if multiple > 1 else ""
        name = f"pruned{rounded}{'' if form == 'weights' else f'.{form}'}"
        target = out or run / ("exported.pt2" if name == "pruned.pt2" else name)  # the run has written that itself
        check_target(target)
        posterior = load_run(run)
        net = prune(posterior, multiple=multiple)
        table = None if form == "weights" else find_table(run)
        if table is None:
            export_net(net, torch.zeros(1, *posterior.model.input_shape, device="cpu"), target, form=form)
        else:
            export_net(point_program(net, posterior, table), example_rows(table), target, form=form)
    typer.echo(f"{sum(parameter.numel() for parameter in net.parameters()):,} parameters: {shown(target.resolve())}")
