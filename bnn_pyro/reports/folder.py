"""The folder that a run leaves behind: what was measured, a page to read, pictures, and the networks themselves."""

import json
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure
from torch import nn

from bnn_pyro.export import export_net, save_net
from bnn_pyro.reports.claim import is_resumable, is_running
from bnn_pyro.reports.dependence_file import DEPENDENCE_FILE, draw_dependence
from bnn_pyro.reports.figures import write_figure
from bnn_pyro.reports.measures import Evaluation, Run, kept_on_cpu
from bnn_pyro.reports.page import page
from bnn_pyro.reports.path_files import PATH_FILES, read_path, write_path
from bnn_pyro.reports.plots import plot_calibration, plot_first_layer, plot_inclusion, plot_path, plot_training
from bnn_pyro.reports.refined_files import REFINED_FILES, draw_bands, save_refined, write_ensemble
from bnn_pyro.reports.tables import TABLE_FILES, example_rows, find_table, point_program, table_values, write_table
from bnn_pyro.storage import whole_file

logger = logging.getLogger(__name__)

RUN_FILES = (
    "config.json",
    "metrics.json",
    "checkpoint.pt",
    "pruned.pt2",
    "weights.safetensors",
    "architecture.json",
    "dense",
    "report.md",
    "training.png",
    "inclusion.png",
    "calibration.png",
    "first_layer.png",
    DEPENDENCE_FILE,
)
"""The names of a run's files; a folder with one of them, or of the other `*_FILES` below, holds a run."""

# in the order of the page
_PICTURES = ("training", "inclusion", "calibration", "first_layer", "partial_dependence", "bands")


# ---- the folder ------------------------------------------------------------------------------------------------------
def check_run_folder(out: str | Path, *, resume: bool = False) -> Path:
    """Check that a run may be written into a folder: it need not exist, and must not hold a run.

    Args:
        out: The folder.
        resume: Whether it may hold a run that has not ended.

    Returns:
        Its absolute path.

    Raises:
        ValueError: If the folder holds a file of a run, a run that has not ended and is not to be resumed, or one that
            another process makes, or if it is no folder, or cannot be written to.
    """
    if not str(out).strip():
        raise ValueError(f"out must be the name of a folder, got {str(out)!r}")
    folder = Path(out).resolve()
    if folder.is_dir():
        if is_running(folder):
            raise ValueError(f"out must be a folder that no other process writes to, got '{out}'")
        if is_resumable(folder):
            if resume:
                return folder
            raise ValueError(
                f"out must not hold a run that was stopped, got '{out}': resume it (--resume), or remove the folder"
            )
        every = (*RUN_FILES, *REFINED_FILES, *TABLE_FILES, *PATH_FILES)
        found = [name for name in every if (folder / name).exists()]
        if found:
            raise ValueError(
                f"out must not hold a run already, got '{out}' with {found[0]}; name another folder or remove it"
            )
    above = next(path for path in (folder, *folder.parents) if path.exists())
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ValueError(f"out must be a folder that can be written to, got '{out}': '{above}' is not such a folder")
    return folder


def write_networks(
    folder: str | Path,
    run: Run,
    *,
    config: Mapping[str, object],
    save_checkpoint: Callable[[Path], object] | None = None,
) -> None:
    """Write what a run has found into its folder: settings, posteriors and weights, each whole or not at all.

    Args:
        folder: The folder, which is made where it is absent.
        run: The finished run.
        config: The settings of the run, JSON values by name; `data`, `net`, `prior` and `seed` stand in the title.
        save_checkpoint: Writes the posterior to the path it is given; None leaves the checkpoint out.

    Raises:
        OSError: If something cannot be written.
    """
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if save_checkpoint is not None:
        save_checkpoint(path / "checkpoint.pt")
    write_json(config, path / "config.json")
    if run.encoding is not None:
        write_table(run.encoding, run.posterior, path)
    if run.refined is not None:
        save_refined(run.refined, path)
    if run.path is not None:
        write_path(run.path, path)
    save_net(run.pruned, path)
    save_net(run.dense, path / "dense")


def write_report(folder: str | Path, run: Run, evaluation: Evaluation, *, config: Mapping[str, object]) -> None:
    """Write the report of a run into its folder, beside its networks: numbers, programs, pictures and the page.

    With `write_networks` the folder then holds `RUN_FILES`, `REFINED_FILES` if refined, `TABLE_FILES` of a table and
    `PATH_FILES` of a path. A program or picture that cannot be made is left out with a warning.

    Args:
        folder: The folder.
        run: The finished run.
        evaluation: What `evaluate_run` measured of it.
        config: The settings of the run.

    Raises:
        OSError: If something cannot be written, as on a full disk.
    """
    path = Path(folder)
    write_json(evaluation.metrics, path / "metrics.json")
    with _left_out("pruned.pt2"):
        if run.encoding is None:
            export_net(run.pruned, run.test[0], path / "pruned.pt2")
        else:
            program = point_program(run.pruned, run.posterior, run.encoding)
            export_net(program, example_rows(run.encoding), path / "pruned.pt2")
    for name, draw in _figures(run, evaluation).items():
        with _left_out(name):
            write_figure(draw(), path / name)
    if run.refined is not None:
        with _left_out("ensemble.pt2"):
            write_ensemble(evaluation.ensemble, run.test[0], path, run.encoding)
    write_page(
        path,
        evaluation.metrics,
        config,
        input_shape=run.test[0].shape[1:],
        num_samples=run.num_samples,
    )


@contextmanager
def _left_out(name: str) -> Iterator[None]:
    """Warn that a program or picture is left out if it cannot be made; a disk that is full is reported as such."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:  # whatever it is, it is not to cost a run the rest of its report
        logger.warning("%s is left out: %s", name, " ".join(str(error).split()) or type(error).__name__)


def write_page(
    folder: str | Path,
    metrics: Mapping[str, object],
    config: Mapping[str, object],
    *,
    input_shape: Sequence[int],
    num_samples: int = 32,
) -> None:
    """Write a run's page, with the pictures that its folder has; a page that is there is replaced.

    Args:
        folder: The folder.
        metrics: The numbers of ``metrics.json``.
        config: The settings of the run.
        input_shape: Shape of one input of the networks.
        num_samples: Draws that the posterior's predictions were averaged over.
    """
    encoding = find_table(folder)
    text = page(
        metrics,
        config,
        pictures=[name for name in _PICTURES if (Path(folder) / f"{name}.png").exists()],
        input_shape=input_shape,
        num_samples=num_samples,
        path=read_path(folder),
        has_checkpoint=(Path(folder) / "checkpoint.pt").exists(),
        input_names=() if encoding is None else encoding.feature_names,
        table=table_values(encoding),
    )
    with whole_file(Path(folder) / "report.md") as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(values: Mapping[str, object], path: str | Path) -> None:
    """Write JSON with one line a key, however long its value; an existing file is replaced at once.

    Args:
        values: JSON values by name.
        path: The file.
    """
    lines = (f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
    with whole_file(path) as partial:
        partial.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _figures(run: Run, evaluation: Evaluation) -> dict[str, Callable[[], Figure | None]]:
    """Return what draws the pictures of a run, by their file's name; None is drawn of what does not apply."""
    inclusion = run.posterior.inclusion()
    totals = {name: len(gamma) for name, gamma in inclusion.items()}
    rows = run.test[0] if run.train_x is None else run.train_x
    scale = {"y_mean": run.y_mean, "y_std": run.y_std}
    refined, path, history = run.refined, run.path, run.posterior.history

    def dependence() -> Figure | None:
        options = {"input_shape": run.input_shape, "refined": refined, "encoding": run.encoding}
        return draw_dependence(run.posterior, rows, **options, **scale)  # type: ignore[arg-type]

    figures: dict[str, Callable[[], Figure | None]] = {
        "training.png": lambda: plot_training(history, totals) if history else None,
        "inclusion.png": lambda: plot_inclusion(inclusion) if inclusion else None,
        "calibration.png": lambda: plot_calibration(evaluation.curves) if evaluation.curves else None,
        "first_layer.png": lambda: _first_layer(run),
        DEPENDENCE_FILE: dependence,
    }
    if path is not None:
        figures[PATH_FILES[1]] = lambda: plot_path(path, totals)
    if refined is not None:
        figures["bands.png"] = lambda: draw_bands(run.posterior, refined, rows, reference=run.reference, **scale)
    return figures


def _first_layer(run: Run) -> Figure | None:
    """Return the picture of the layer that reads the inputs, or None if there is none, or nothing left of it."""
    shape = run.input_shape or tuple(run.test[0].shape[1:])
    size = math.prod(shape)
    layers = (module for module in run.posterior.median_model().modules() if isinstance(module, nn.Linear))
    weight = next((layer.weight for layer in layers if layer.in_features == size), None)
    masks = (mask for name, mask in kept_on_cpu(run.posterior).items() if not run.posterior.model.groups[name].writers)
    keep_inputs = next(masks, None)
    if weight is None or not weight.any() or (keep_inputs is not None and keep_inputs.shape != (size,)):
        return None
    return plot_first_layer(weight, shape, keep_inputs, weight.any(1))
