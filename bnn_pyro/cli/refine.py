"""`bnn-pyro refine`: sample the posterior of the pruned network of a run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnn_pyro.cli.choices import StartName, WeightsName
from bnn_pyro.cli.endings import user_errors
from bnn_pyro.cli.options import (
    DataDir,
    Drop,
    Target,
    Threads,
    announce_data,
    conclude,
    load_data,
    set_up_torch,
    shown,
)

if TYPE_CHECKING:
    from bnn_pyro import Refinement
    from bnn_pyro.recipes.config_file import Config

HELP = """\
Sample the posterior of the pruned network of a run, and write it into the run's folder.

Variational inference has chosen the nodes; what is left is small enough for Markov chains. They go on until their \
predictions have mixed, or the seconds are over, and predict with less error and better calibrated than a mean field.

The folder gets refined.pt (the draws, for bnn_pyro.recipes.load_refined), ensemble.pt2 (100 of them as one program \
for torch.export.load) and bands.png; report.md and metrics.json set the refined network beside the others. \
A call that was stopped is resumed by the same call.
"""
EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro refine runs/yacht-ss-ghs-0 --data-dir data
  bnn-pyro refine runs/my-ss-ghs-0 --data my.csv         [dim]a table that has moved[/dim]
  bnn-pyro refine runs/digits-ss-ghs-0 --seconds 600     [dim]longer[/dim]

\b
[bold]Where chains start[/bold]
  ensemble        [dim]at dense networks of the chosen widths, one per chain, which[/dim]
                  [dim]are trained first (default)[/dim]
  draws           [dim]at draws of the run's posterior; of method svi only[/dim]

\b
[bold]How chains weigh that have not mixed[/bold]
  equal           [dim]all the same (default)[/dim]
  stacking        [dim]half of the weight by how well they predict training rows[/dim]
                  [dim]that are left out (stacking of PSIS-LOO), half equally[/dim]
"""


def refine(
    run: Annotated[Path, typer.Argument(help="Folder that bnn-pyro fit wrote.")],
    data: Annotated[
        str | None, typer.Option(help="The run's data, if not where the run had them.", rich_help_panel="Data")
    ] = None,
    data_dir: DataDir = None,
    target: Target = None,
    drop: Drop = None,
    seconds: Annotated[float | None, typer.Option(help="Most seconds of sampling; 120.", rich_help_panel="Run")] = None,
    chains: Annotated[
        int | None, typer.Option(help="Number of chains; 16, fewer for large tables.", rich_help_panel="Run")
    ] = None,
    start: Annotated[
        StartName, typer.Option(help="Where chains start; see below.", rich_help_panel="Run")
    ] = "ensemble",
    weights: Annotated[
        WeightsName, typer.Option(help="How chains weigh that have not mixed; see below.", rich_help_panel="Run")
    ] = "equal",
    seed: Annotated[
        int | None, typer.Option(help="Seed of all that is random; the run's.", rich_help_panel="Run")
    ] = None,
    threads: Threads = None,
    force: Annotated[
        bool, typer.Option("--force", help="Refine a run that is refined already.", rich_help_panel="Run")
    ] = False,
) -> None:
    """Refine a run; `HELP` says more to the user."""
    with user_errors() as command:
        import time

        from bnn_pyro.data import IMAGES, has_columns
        from bnn_pyro.recipes import refine_run
        from bnn_pyro.recipes.config_file import read_config
        from bnn_pyro.recipes.refined_runs import PARTIAL

        began = time.perf_counter()
        command.resumed = lambda: "the same command resumes it" if (run / PARTIAL).exists() else None
        config, recipe = read_config(run)
        settings = _settings(seconds, chains, start, weights)
        set_up_torch(threads, recipe.hidden)
        name = _data_of(config, data)
        if has_columns(name):  # the run's, unless others are given
            target = config.get("target") if target is None else target
        left_out = config.get("drop") if drop is None and has_columns(name) else drop
        dataset = load_data(name, data_dir, target, None if name in IMAGES else config["task"], left_out)
        announce_data(dataset)
        metrics = refine_run(run, dataset, settings, seed=seed, replace=force)
    conclude(metrics, run.resolve(), time.perf_counter() - began)


def _settings(seconds: float | None, chains: int | None, start: StartName, weights: WeightsName) -> "Refinement":
    """Return the usual settings with what was given in its place."""
    from dataclasses import replace

    from bnn_pyro import Refinement, StoppingRule

    usual = Refinement()
    plan = usual.plan if chains is None else replace(usual.plan, chains=chains)
    until = usual.until if seconds is None else replace(usual.until or StoppingRule(), seconds=seconds)
    least = usual.least_chains if chains is None else chains  # as many as asked for
    return Refinement(plan=plan, until=until, start=start, weights=weights, least_chains=least)


def _data_of(config: "Config", data: str | None) -> str:
    """Return the name or path of a run's data.

    Raises:
        ValueError: If it was a file that is not there.
    """
    from bnn_pyro.data import DATASETS

    name = str(config["data"]) if data is None else data
    if name not in DATASETS and not Path(name).is_file():
        raise ValueError(f"data must be given where the run's are not found: there is no file {shown(Path(name))!r}")
    return name
