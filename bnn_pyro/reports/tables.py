"""What a run on a table has besides: ``table.json``, and programs that take raw numbers and give the target's units."""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bnn_pyro.arguments import check_path
from bnn_pyro.data import TableEncoding
from bnn_pyro.data.encoding import LevelColumn
from bnn_pyro.likelihoods import NOISE_SITE, Classes, GaussianNoise, Likelihood
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.predictive_net import PredictiveNet
from bnn_pyro.storage import read_json, whole_file

TABLE_FILES = ("table.json",)
"""The names of the files."""

_SHOWN = 50  # columns on the page


class TableProgram(nn.Module):
    r"""A predictive distribution of a table's rows, as a plain module that needs torch alone.

    It takes the raw numbers of a table's columns, of a column of levels the level's number, and NaN for missing cells
    (see `bnn_pyro.data.encoding.TableEncoding`). With the inputs :math:`z(x)` that the encoding makes of them and the
    prediction :math:`m(z), \sigma(z)` of the standardised target it gives, in the target's units,

    .. math:: \bar y + s_y\, m(z(x)), \qquad s_y\, \sigma(z(x)),

    noise included, or the classes' probabilities.

    Args:
        inputs: Raw numbers to the network's inputs, as ``TableEncoding.raw_inputs`` gives it.
        predictive: The network's inputs to class probabilities, ``(rows, classes)``, or to mean and standard deviation,
            ``(rows,)`` each.
        mean: :math:`\bar y`.
        std: :math:`s_y`.
    """

    def __init__(self, inputs: nn.Module, predictive: nn.Module, *, mean: float = 0.0, std: float = 1.0) -> None:
        super().__init__()
        self.inputs = inputs
        self.predictive = predictive
        self.mean, self.std = mean, std
        self.eval()

    def forward(self, raw: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Predict.

        Args:
            raw: The columns' numbers, shape ``(rows, columns)``.

        Returns:
            Class probabilities, shape ``(rows, classes)``; or mean and standard deviation, shape ``(rows,)`` each.
        """
        predicted: Tensor | tuple[Tensor, Tensor] = self.predictive(self.inputs(raw))
        if isinstance(predicted, Tensor):
            return predicted
        mean, sd = predicted
        return self.std * mean + self.mean, self.std * sd


class PointPredictive(nn.Module):
    """The predictive distribution of a single network: probabilities, or mean and standard deviation.

    Args:
        net: The network.
        likelihood: What its outputs mean.
        noise: The likelihood's own latent, of one element; None if it has none.
    """

    noise: Tensor | None

    def __init__(self, net: nn.Module, likelihood: Likelihood, noise: Tensor | None) -> None:
        super().__init__()
        self.net = net
        self.likelihood = likelihood
        self.register_buffer("noise", None if noise is None else noise.detach().unsqueeze(0).clone())

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Predict, on the scale of the targets that the model saw.

        Args:
            x: Inputs, shape ``(rows, inputs)``.
        """
        predicted = self.likelihood.predict(self.net(x).unsqueeze(0), self.noise)
        return predicted.probabilities if isinstance(predicted, Classes) else predicted.moments()


def point_program(net: nn.Module, posterior: Posterior, encoding: TableEncoding) -> TableProgram:
    """Return the program of a pruned network for raw rows of its run's table.

    Args:
        net: The network, which is copied.
        posterior: What it was pruned from, with the noise that belongs to it.
        encoding: The table's encoding.
    """
    noise = posterior.median_values().get(NOISE_SITE)
    point = PointPredictive(copy.deepcopy(net), posterior.model.likelihood, noise)
    return _program(point, encoding)


def ensemble_program(ensemble: PredictiveNet, encoding: TableEncoding) -> TableProgram:
    """Return the program of a refined network's draws for raw rows of its run's table.

    Args:
        ensemble: The draws, which are copied.
        encoding: The table's encoding.
    """
    return _program(copy.deepcopy(ensemble), encoding)


def _program(predictive: nn.Module, encoding: TableEncoding) -> TableProgram:
    target = encoding.target
    return TableProgram(encoding.raw_inputs(), predictive.cpu(), mean=target.mean, std=target.std)


def example_rows(encoding: TableEncoding) -> Tensor:
    """Return a raw row of a table, to export a program with.

    Args:
        encoding: The table's encoding.
    """
    return torch.zeros(1, len(encoding.columns), dtype=torch.float64, device="cpu")


# ---- table.json ------------------------------------------------------------------------------------------------------


def write_table(encoding: TableEncoding, posterior: Posterior, folder: str | Path) -> None:
    """Write ``table.json`` into a run's folder: the encoding, and the learned noise.

    ``noise_sd`` is the standard deviation of the pruned network's errors, in the target's units; it is null for
    classes, and for a noise that the network predicts. Of a noise that follows the prediction there are two: where
    the target is predicted to be one standard deviation below its mean, and above.

    Args:
        encoding: The table's encoding.
        posterior: The run's posterior.
        folder: The folder.
    """
    noise = posterior.median_values().get(NOISE_SITE)
    known = posterior.model.likelihood.scale if isinstance(posterior.model.likelihood, GaussianNoise) else None
    scale = torch.tensor(known) if known is not None else noise
    noise_sd = None
    if scale is not None and bool(scale.isfinite().all()):
        noise_sd = (encoding.target.std * scale.double()).tolist()
    values = {**encoding.to_json(), "noise_sd": noise_sd}
    with whole_file(Path(folder) / TABLE_FILES[0]) as partial:
        partial.write_text(json.dumps(values, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def load_table(folder: str | Path) -> TableEncoding:
    """Load how the columns of a run's table become the inputs of its networks.

    Args:
        folder: The folder that `bnn_pyro.recipes.run` or ``bnn-pyro fit`` wrote.

    Returns:
        The encoding.

    Raises:
        ValueError: If the folder holds no run on a table, or one from before ``table.json`` was written.
    """
    check_path("folder", folder)
    found = find_table(folder)
    if found is None:
        raise ValueError(
            f"run must be one on a table and have a {TABLE_FILES[0]}, got '{folder}': runs on images have none, nor "
            "have those from before it was written, which bnn-pyro fit makes again"
        )
    return found


def find_table(folder: str | Path) -> TableEncoding | None:
    """Return what `load_table` does; None where there is no ``table.json``.

    Args:
        folder: The run's folder.

    Raises:
        ValueError: If there is one that cannot be read.
    """
    path = Path(folder) / TABLE_FILES[0]
    if not path.exists():
        return None
    values = read_json(path, what=f"the {TABLE_FILES[0]} of a run")
    try:
        return TableEncoding.from_json(values)
    except ValueError as error:
        raise ValueError(f"folder must hold the {TABLE_FILES[0]} of a run, got '{path}': {error}") from error


# ---- what the page says ----------------------------------------------------------------------------------------------


def table_values(encoding: TableEncoding | None) -> Mapping[str, Any] | None:
    """Return what the template ``table.md.j2`` refers to.

    Args:
        encoding: The table's encoding; None where there is none.
    """
    if encoding is None:
        return None
    rows = [(str(number), column.name, _given(column)) for number, column in enumerate(encoding.columns)]
    return {
        "columns": rows[:_SHOWN],
        "more": len(rows) - _SHOWN,
        "count": len(rows),
        "target": encoding.target.name,
        "classes": ", ".join(encoding.target.classes or ()),
    }


def _given(column: object) -> str:
    """Return what a raw number of a column is, in words."""
    if not isinstance(column, LevelColumn):
        return "its number"
    levels = [*column.levels, *(["any other"] if column.other else [])]
    return ", ".join(f"{code} for {level}" for code, level in enumerate(levels))
