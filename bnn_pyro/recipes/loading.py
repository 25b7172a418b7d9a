"""Back from a run's folder: its posterior, its pruned and its dense network."""

import math
from pathlib import Path

import torch
from torch import nn

from bnn_pyro.export import load_net
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.files import load_posterior
from bnn_pyro.recipes.config_file import check_sizes, read_config

DENSE = "dense"
"""The folder, in that of a run, of the dense network's weights."""


def load_run(folder: str | Path) -> Posterior:
    """Load the posterior of a run from its folder, on the CPU.

    Of a table it takes inputs as it was trained on, `load_table(folder).raw_inputs()(x)` of rows ``x`` in their own
    units; `bnn_pyro.recipes.predict_frame` takes a DataFrame as it is.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        The posterior.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    config, settings = read_config(folder)
    check_sizes(folder, config, settings)
    input_shape = config["input_shape"]
    with torch.random.fork_rng([]):
        try:
            net = settings.make_net(input_shape, config["outputs"])
            shape = input_shape if settings.reads_images else [math.prod(input_shape)]
            example = torch.zeros(2, *shape, device="cpu")
            likelihood = settings.likelihood(config["task"], is_weighted=config.get("is_weighted", False))
            model = settings.make_model(net, example, likelihood, config["num_data"])
            guide = settings.make_guide(model) if settings.one_shot is None else None
        except (OverflowError, RuntimeError) as error:  # of numbers that no tensor holds
            raise ValueError(f"folder must hold the config.json of a run, got '{folder}' ({error!r})") from error
        return load_posterior(Path(folder) / "checkpoint.pt", model, guide=guide)


def load_pruned(folder: str | Path) -> nn.Module:
    """Load the pruned network of a run from its folder, on the CPU.

    Of a table it takes inputs as it was trained on, `load_table(folder).raw_inputs()(x)` of rows ``x`` in their own
    units; `bnn_pyro.recipes.predict_frame` takes a DataFrame as it is.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        A plain module, in evaluation mode: the one that the run has measured.

    Raises:
        ValueError: If the folder holds no whole run.
    """
    config, settings = read_config(folder)
    check_sizes(folder, config, settings)
    with torch.random.fork_rng([]):
        return load_net(folder, settings.make_net(config["input_shape"], config["outputs"]))


def load_dense(folder: str | Path) -> nn.Module:
    """Load the dense network of a run from its folder, on the CPU.

    Of a table it takes inputs as it was trained on, `load_table(folder).raw_inputs()(x)` of rows ``x`` in their own
    units; `bnn_pyro.recipes.predict_frame` takes a DataFrame as it is.

    Args:
        folder: The folder that `run` or `bnn-pyro fit` wrote.

    Returns:
        A plain module, in evaluation mode: the one that the run has compared with.

    Raises:
        ValueError: If the folder holds no whole run, or one from before the dense network was written.
    """
    config, settings = read_config(folder)
    check_sizes(folder, config, settings)
    with torch.random.fork_rng([]):
        return load_net(Path(folder) / DENSE, settings.make_net(config["input_shape"], config["outputs"]))
