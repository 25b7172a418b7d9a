"""Predictions of a run for the rows of a table as a person has them, in the target's units."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from bnn_pyro.data import TableEncoding
from bnn_pyro.data.frames import Unread, read_cells
from bnn_pyro.data.text_files import SUFFIXES
from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.scores import known, scores
from bnn_pyro.recipes.config_file import read_config
from bnn_pyro.recipes.loading import load_run
from bnn_pyro.recipes.refined_runs import load_refined
from bnn_pyro.reports.measures import NUM_SAMPLES
from bnn_pyro.reports.predictions import predict_draws
from bnn_pyro.reports.refined_files import REFINED_FILES
from bnn_pyro.reports.refined_measures import SCORED_DRAWS
from bnn_pyro.reports.tables import load_table

QUANTILES: tuple[float, ...] = (0.05, 0.5, 0.95)
"""The levels of the quantiles that are predicted."""

_ROWS_AT_ONCE = 4096  # so that memory does not grow with draws times rows


@dataclass(frozen=True, eq=False)
class TablePredictions:
    """What a run predicts for rows of a table.

    Attributes:
        frame: One row for each row of the table: ``mean``, ``std`` and the quantiles ``q05``, ``q50``, ``q95``, in the
            target's units; or ``class`` and the probability of each class, ``p(NAME)``.
        scores: Scores as in ``metrics.json``, where the table has the target; None where it has not.
        scored_rows: Number of rows with a target.
        draws: What was averaged over, in words.
        notes: What was not read of the table, in words.
    """

    frame: pd.DataFrame
    scores: dict[str, float] | None
    scored_rows: int
    draws: str
    notes: tuple[str, ...]


def predict_frame(folder: str | Path, rows: pd.DataFrame | str | Path) -> pd.DataFrame:
    """Predict the rows of a table by a run that was made of such a table.

    The predictions are the mixture of the normals or probabilities of the refined network's draws, 400 at most, or of
    32 draws of the posterior where the run is not refined: what ``refined_test_*`` or ``posterior_test_*`` of
    ``metrics.json`` were measured of. They are the same at each call.

    Args:
        folder: The folder that `run` or ``bnn-pyro fit`` wrote.
        rows: A frame or a text file with the columns of the run's table; others are not read, nor is the target.

    Returns:
        A frame with the index of the rows, and the columns ``mean``, ``std``, ``q05``, ``q50`` and ``q95`` in the
        target's units, noise included; or ``class``, the most probable one, and ``p(NAME)`` for each class.

    Raises:
        ValueError: If the folder holds no run on a table, a column is absent, or a cell of a column of numbers is none.
    """
    return _predicted(folder, rows).frame


def predict_rows(folder: str | Path, rows: pd.DataFrame | str | Path) -> TablePredictions:
    """Predict the rows of a table as `predict_frame` does, and score them where they have a target that can be read.

    Args:
        folder: The folder that `run` or ``bnn-pyro fit`` wrote.
        rows: As for `predict_frame`.

    Returns:
        The predictions.

    Raises:
        ValueError: If the folder holds no run on a table, a column is absent, or a cell of a column of numbers is none.
    """
    return _predicted(folder, rows, is_scored=True)


def _predicted(folder: str | Path, rows: pd.DataFrame | str | Path, *, is_scored: bool = False) -> TablePredictions:
    read_config(folder)  # which says it where there is no run at all
    encoding = load_table(folder)
    cells = read_cells(_source(rows))
    x = torch.from_numpy(encoding.encode_inputs(cells))
    posterior, num_samples, source = _posterior(folder)
    parts = [known(predict_draws(posterior, part, num_samples)) for part in x.split(_ROWS_AT_ONCE)]
    frame = pd.concat([pd.DataFrame(_columns(part, encoding)) for part in parts]).set_axis(cells.frame.index)
    notes = (*cells.notes, *_unread(cells, encoding), *encoding.unlearned(cells))
    scored, count = None, 0
    if is_scored:
        try:
            scored, count = _scores(parts, cells, encoding)
        except ValueError as error:  # of the target, without which there are predictions all the same
            notes = (*notes, f"not scored: {error}")
    draws = f"{len(_of_draws(parts[0])[0]):,} draws of the {source}"
    return TablePredictions(frame, scored, count, draws, notes)


def _source(rows: pd.DataFrame | str | Path) -> pd.DataFrame | Path:
    if isinstance(rows, pd.DataFrame):
        return rows
    path = Path(rows)
    if path.suffix.lower() not in SUFFIXES or not path.is_file():
        raise ValueError(f"rows must be a file that exists and ends in {', '.join(SUFFIXES)}, got '{rows}'")
    return path


def _posterior(folder: str | Path) -> tuple[Posterior, int, str]:
    """Return what is predicted from, by how many draws at most, and what it is called."""
    _, settings = read_config(folder)
    if settings.refinement is not None and (Path(folder) / REFINED_FILES[0]).exists():
        refined = load_refined(folder)
        return refined, SCORED_DRAWS, "refined network"
    found = load_run(folder)
    return found, NUM_SAMPLES, f"{'tempered ' if found.tempered else ''}posterior"


def _columns(predicted: Classes | Normals, encoding: TableEncoding) -> dict[str, list[float] | list[str]]:
    target = encoding.target
    if isinstance(predicted, Classes):
        names = target.classes or ()
        best = [names[label] for label in predicted.probabilities.argmax(1).tolist()]
        shares = {f"p({name})": p.tolist() for name, p in zip(names, predicted.probabilities.T, strict=True)}
        return {"class": best, **shares}
    mixture = NormalMixture(predicted.mean, predicted.sd).scaled(mean=target.mean, std=target.std)
    quantiles = mixture.quantile(torch.tensor(QUANTILES, dtype=torch.float64, device="cpu"))
    named = {f"q{round(100 * level):02}": found for level, found in zip(QUANTILES, quantiles, strict=True)}
    return {name: found.tolist() for name, found in {"mean": mixture.mean, "std": mixture.std, **named}.items()}


def _scores(
    parts: Sequence[Classes | Normals], cells: Unread, encoding: TableEncoding
) -> tuple[dict[str, float] | None, int]:
    """Return the scores of the rows that have a target, and how many these are."""
    target = encoding.target
    if target.name not in cells.frame.columns:
        return None, 0
    y = torch.from_numpy(encoding.encode_targets(cells))
    has_target = ~torch.isnan(y) if target.classes is None else y >= 0
    if not has_target.any():
        return None, 0
    joined = [torch.cat(each, 1)[:, has_target] for each in zip(*map(_of_draws, parts), strict=True)]
    predicted = Normals(*joined) if len(joined) > 1 else Classes(joined[0].mean(0), joined[0])
    return scores(predicted, y[has_target], y_std=target.std), int(has_target.sum())


def _of_draws(predicted: Classes | Normals) -> tuple[Tensor, ...]:
    """Return what each draw predicts, in tensors of shape ``(draws, rows, ...)``."""
    return (predicted.draws,) if isinstance(predicted, Classes) else (predicted.mean, predicted.sd)


def _unread(cells: Unread, encoding: TableEncoding) -> tuple[str, ...]:
    known = {*encoding.column_names, encoding.target.name}
    names = [str(name) for name in cells.frame.columns if name not in known]
    return (f"not read: {', '.join(names)}",) if names else ()
