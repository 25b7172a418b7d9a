"""`bnn-pyro path`: fit networks from dense to sparse, choose one on held-out rows, and report it."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bnn_pyro.cli.choices import PathRefineName, PriorName
from bnn_pyro.cli.endings import user_errors
from bnn_pyro.cli.kl_weights import path_plan_of
from bnn_pyro.cli.options import (
    Data,
    DataDir,
    Device,
    Drop,
    Inclusion,
    Net,
    Noise,
    Resume,
    Seed,
    SelectInputs,
    Target,
    Task,
    Threads,
    announce_data,
    conclude,
    folder_or_file,
    load_data,
    recipe_of,
    resumed_by_option,
    set_up_torch,
)

HELP = """\
Fit networks from dense to sparse, choose one on held-out rows, and write a report.

The KL weight says how much a node has to tell to be kept. A network is fitted at each of several weights, from the \
smallest on, each from where the one before ended, and scored on a fifth of the training rows, which none of them has \
seen. The smallest network that loses at most one standard error against the best is chosen; its KL weight is then \
used as by bnn-pyro fit --kl-weight, on all training rows.

The folder gets all that bnn-pyro fit writes, path.json (the points) and path.png (scores and nodes along the path). \
The same is done by bnn-pyro fit --kl-weight auto.

A run that is stopped, or killed, is resumed by the same command with --resume.
"""
EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro path concrete --data-dir data
  bnn-pyro path my.csv --target price                    [dim]your own table[/dim]
  bnn-pyro path my.csv --kl-weights .01,.02,.05,.1,.2,.5,1
  bnn-pyro path my.csv --refine yes                      [dim]each point sampled[/dim]

\b
[bold]Refining[/bold]
  no              [dim]points are scored by draws of variational inference,[/dim]
                  [dim]at no cost (default)[/dim]
  yes             [dim]the pruned network of each point is sampled, and scored by[/dim]
                  [dim]its draws: 2 minutes a point; the chosen one is, too[/dim]

\b
[bold]Data, priors and nets[/bold]
  are those of bnn-pyro fit --help; the prior needs gates: ss-ig, ss-gl, ss-ghs
"""


def path(
    data: Data = "digits",
    data_dir: DataDir = None,
    target: Target = None,
    task: Task = None,
    drop: Drop = None,
    net: Net = "mlp",
    hidden: Annotated[
        str | None, typer.Option(help="Widths of hidden layers, such as 400,400.", rich_help_panel="Model")
    ] = None,
    prior: Annotated[PriorName, typer.Option(help="The prior of the weights.", rich_help_panel="Model")] = "ss-ghs",
    select_inputs: SelectInputs = None,
    noise: Noise = None,
    inclusion: Inclusion = None,
    kl_weights: Annotated[
        str | None,
        typer.Option(help="KL weights with commas between; .03,.1,.3,1.", rich_help_panel="Path"),
    ] = None,
    refine: Annotated[
        PathRefineName, typer.Option(help="Whether pruned networks are sampled.", rich_help_panel="Path")
    ] = "no",
    epochs: Annotated[
        int | None, typer.Option(help="Epochs of the first point and of the last fit.", rich_help_panel="Run")
    ] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    resume: Resume = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; runs/DATA-path-SEED by default.",
            parser=folder_or_file,
            metavar="<path>",
            rich_help_panel="Run",
        ),
    ] = None,
) -> None:
    """Follow a path; `HELP` says more to the user."""
    with user_errors() as command:
        from dataclasses import replace

        from bnn_pyro import Refinement
        from bnn_pyro.recipes import check_data, run
        from bnn_pyro.reports.folder import check_run_folder

        check_data(data)
        plan = path_plan_of(kl_weights, refine=refine == "yes")
        folder = check_run_folder(out or Path("runs", f"{Path(data).stem}-path-{seed}"), resume=resume)
        command.resumed = partial(resumed_by_option, folder)
        set_up_torch(threads)
        dataset = load_data(data, data_dir, target, task, drop)
        changes = {"inclusion": inclusion, "select_inputs": select_inputs, "noise": noise}
        settings = recipe_of(dataset, net, prior, "svi", epochs, hidden, changes)
        settings = replace(settings, path=plan, refinement=Refinement() if plan.refine else None, refine_if_worth=False)
        set_up_torch(threads, settings.hidden)
        announce_data(dataset)
        weights = ", ".join(f"{weight:g}" for weight in sorted(set(plan.kl_weights)))
        typer.echo(
            f"{settings.net}, prior {settings.prior}: a path of KL weights {weights}, and a fit at the chosen one"
        )
        metrics = run(dataset, settings, seed=seed, device=device, out=folder, resume=resume)
    conclude(metrics, folder)
