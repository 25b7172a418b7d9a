"""`bnn-pyro fit`: train, prune and report."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bnn_pyro.cli.choices import MethodName, PriorName, RefineName
from bnn_pyro.cli.endings import is_first, user_errors
from bnn_pyro.cli.kl_weights import kl_weight_of, path_plan_of
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

if TYPE_CHECKING:
    from bnn_pyro.data import Dataset
    from bnn_pyro.recipes import Recipe

HELP = """\
Train a sparse Bayesian network, prune it, and write a report.

First a dense network is trained. The posterior starts from it and learns which nodes are needed; \
the others are cut away, and a smaller plain PyTorch network is left. \
The defaults depend on the data set and are good ones.

The folder gets report.md, metrics.json, config.json, plots, pruned.pt2 (the network, for torch.export.load), \
its weights with a description of their sizes (for bnn_pyro.recipes.load_pruned) \
and checkpoint.pt (the posterior, for bnn_pyro.recipes.load_run). \
Of a table it also has table.json (what its columns are scaled by), and bnn-pyro predict uses it on new rows. \
Once refined, it also has refined.pt (draws of the pruned network's posterior, for bnn_pyro.recipes.load_refined), \
ensemble.pt2 (100 of them as one program) and bands.png.

A run that is stopped, or killed, is resumed by the same command with --resume.
"""
# At most 78 columns wide, so that lines do not break in a small terminal; \b keeps typer from joining them.
EPILOG = """\
\b
[bold]Examples[/bold]
  bnn-pyro fit                                           [dim]8 x 8 digits[/dim]
  bnn-pyro fit mnist --data-dir data                     [dim]784-400-400-10[/dim]
  bnn-pyro fit mnist --data-dir data --kl-weight 1       [dim]not tempered[/dim]
  bnn-pyro fit my.csv --quick                            [dim]not sampled[/dim]
  bnn-pyro fit my.csv --kl-weight auto                   [dim]chosen by a path[/dim]
  bnn-pyro fit mnist --data-dir data --method sghmc      [dim]sampled[/dim]
  bnn-pyro fit yacht --data-dir data --prior ss-gl       [dim]regression[/dim]
  bnn-pyro fit yacht --data-dir data --refine yes        [dim]and sampled[/dim]
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
  PATH.csv        [dim]a table with a header, also .tsv and .txt; its last column,[/dim]
                  [dim]or --target, is what to predict. Any separator, decimal[/dim]
                  [dim]commas, missing cells and text are understood, dates not[/dim]
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
[bold]Refining[/bold]
  no              [dim]the posterior is left as the method gives it (default for[/dim]
                  [dim]images, priors without gates, and sghmc)[/dim]
  auto            [dim]the pruned network is sampled where that is likely to pay,[/dim]
                  [dim]from .01 parameters per row on (default for tables)[/dim]
  yes             [dim]the pruned network is sampled: 2 minutes, after its starting[/dim]
                  [dim]points are made; bnn-pyro refine does it later[/dim]

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


def fit(
    data: Data = "digits",
    data_dir: DataDir = None,
    target: Target = None,
    task: Task = None,
    drop: Drop = None,
    net: Net = "mlp",
    hidden: Annotated[
        str | None, typer.Option(help="Widths of hidden layers, such as 400,400.", rich_help_panel="Model")
    ] = None,
    prior: Annotated[
        PriorName | None,
        typer.Option(help="The prior of the weights; see below. ss-ghs, or the method's.", rich_help_panel="Model"),
    ] = None,
    method: Annotated[MethodName, typer.Option(help="The method; see below.", rich_help_panel="Model")] = "svi",
    select_inputs: SelectInputs = None,
    noise: Noise = None,
    inclusion: Inclusion = None,
    kl_weight: Annotated[
        str | None,
        typer.Option(
            help="1 gives the posterior, less a tempered (cold) one; auto chooses.",
            metavar="<float|auto>",
            rich_help_panel="Model",
        ),
    ] = None,
    refine: Annotated[
        RefineName | None,
        typer.Option(
            help="Whether the pruned network is sampled too; auto for tables, else no.", rich_help_panel="Model"
        ),
    ] = None,
    reference: Annotated[
        bool,
        typer.Option("--reference", help="With --refine: the whole network is sampled too.", rich_help_panel="Model"),
    ] = False,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Leave out what takes most of the time, such as refining.", rich_help_panel="Run"),
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs of inference.", rich_help_panel="Run")] = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: Threads = None,
    resume: Resume = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to write; runs/DATA-PRIOR-SEED by default.",
            parser=folder_or_file,
            metavar="<path>",
            rich_help_panel="Run",
        ),
    ] = None,
) -> None:
    """Do the main job, from data to a report; `HELP` says more to the user."""
    with user_errors() as command, _processes(device) as place:
        from dataclasses import replace

        from bnn_pyro import Refinement
        from bnn_pyro.recipes import check_data, default_prior, run
        from bnn_pyro.reports.folder import check_run_folder

        check_data(data)
        chosen_prior = prior or default_prior(method)
        label = chosen_prior if method == "svi" else method
        folder = (out or Path("runs", f"{Path(data).stem}-{label}-{seed}")).resolve()
        if is_first():
            check_run_folder(folder, resume=resume)
        command.resumed = partial(resumed_by_option, folder)
        set_up_torch(threads)
        dataset = load_data(data, data_dir, target, task, drop)
        given_kl_weight, is_auto = kl_weight_of(kl_weight)
        changes = {
            "kl_weight": given_kl_weight,
            "inclusion": inclusion,
            "select_inputs": select_inputs,
            "noise": noise,
        }
        settings = recipe_of(dataset, net, chosen_prior, method, epochs, hidden, changes)
        settings = settings.quick() if quick else settings
        if refine is not None:
            refinement = None if refine == "no" else settings.refinement or Refinement()
            settings = replace(settings, refinement=refinement, refine_if_worth=refine == "auto")
        settings = replace(settings, reference=reference, path=path_plan_of(None) if is_auto else None)
        set_up_torch(threads, settings.hidden)
        if is_first():
            _announce(dataset, settings)
        metrics = run(dataset, settings, seed=seed, device=place, out=folder, resume=resume)
    if is_first():
        conclude(metrics, folder)


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


def _announce(dataset: "Dataset", settings: "Recipe") -> None:
    announce_data(dataset)
    widths = "-".join(map(str, settings.hidden))
    is_open = {
        "inputs": settings.select_inputs,
        "the noise": dataset.num_classes is None and settings.noise,
    }
    open_questions = " and ".join(name for name, setting in is_open.items() if setting == "auto")
    typer.echo(
        f"{settings.net} {widths}, prior {settings.prior}: "
        + (f"shorter fits that decide on {open_questions}, then " if open_questions else "")
        + ("" if settings.path is None else "a path that chooses the KL weight, then ")
        + f"{settings.dense.epochs} epochs dense, "
        + (
            f"then {settings.epochs} of variational inference"
            if settings.method == "svi"
            else f"to compare with, and {settings.epochs} of sampling"
        )
        + _refining(settings)
    )


def _refining(settings: "Recipe") -> str:
    """Return what is said of refining before it is known whether it is worth it."""
    if settings.refinement is None:
        return ""
    rule = settings.refinement.until
    limit = "" if rule is None or rule.seconds is None else f" for {rule.seconds:g} s at most"
    return f"; then the pruned network is sampled{limit}" + (", if it is worth it" if settings.refine_if_worth else "")
