"""The folder that a run leaves behind: what was measured, a page to read, pictures, and the networks themselves."""

import json
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure
from torch import nn

from bnn_pyro.export import export_net, save_net
from bnn_pyro.reports.dependence_file import DEPENDENCE_FILE, draw_dependence
from bnn_pyro.reports.figures import write_figure
from bnn_pyro.reports.measures import Evaluation, Run, kept_on_cpu
from bnn_pyro.reports.page import page
from bnn_pyro.reports.path_files import PATH_FILES, draw_path, read_path, write_path
from bnn_pyro.reports.plots import plot_calibration, plot_first_layer, plot_inclusion, plot_training
from bnn_pyro.reports.refined_files import REFINED_FILES, draw_bands, save_refined, write_bands, write_ensemble
from bnn_pyro.reports.tables import TABLE_FILES, example_rows, find_table, point_program, table_values, write_table
from bnn_pyro.storage import whole_file

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
def check_run_folder(out: str | Path) -> Path:
    """Check that a run may be written into a folder: it need not exist, and must not hold a run.

    Args:
        out: The folder.

    Returns:
        Its absolute path.

    Raises:
        ValueError: If the folder holds a file of a run, is no folder, or cannot be written to.
    """
    folder = Path(out).resolve()
    if folder.is_dir():
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


@contextmanager
def run_folder(out: str | Path) -> Iterator[Path]:
    """Give a temporary folder beside the wanted one, and rename it when all is written; if not, remove it.

    A folder that exists (and holds no run) is kept: the files are moved into it.

    Args:
        out: The folder to end up with.

    Yields:
        The folder to write into.

    Raises:
        ValueError: If the wanted folder holds a run, is no folder, or cannot be written to.
    """
    folder = check_run_folder(out)
    beside = folder if folder.is_dir() else folder.parent
    temporary = beside / f".{folder.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir(parents=True)
    try:
        yield temporary
        check_run_folder(out)  # another run may have ended there meanwhile
        if folder.is_dir():
            for path in temporary.iterdir():
                path.rename(folder / path.name)
        else:
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_report(
    out: str | Path,
    run: Run,
    evaluation: Evaluation,
    *,
    config: Mapping[str, object],
    save_checkpoint: Callable[[Path], object] | None = None,
) -> Path:
    """Write a run's folder: `RUN_FILES`, `REFINED_FILES` if refined, `TABLE_FILES` of a table, `PATH_FILES` of a path.

    Settings, numbers, posteriors and weights are written beside the folder first and then moved, so that a failure
    leaves nothing half done. Programs, pictures and the page come after them: if one of these fails, the run is there.

    Args:
        out: The folder; it need not exist, and must not hold a run.
        run: The finished run.
        evaluation: What `evaluate_run` measured of it.
        config: The settings of the run, JSON values by name; `data`, `net`, `prior` and `seed` stand in the title.
        save_checkpoint: Writes the posterior to the path it is given; None leaves the checkpoint out.

    Returns:
        The folder.

    Raises:
        ValueError: If the folder holds a run, is no folder, or cannot be written to.
    """
    with run_folder(out) as folder:
        write_json(config, folder / "config.json")
        write_json(evaluation.metrics, folder / "metrics.json")
        if run.encoding is not None:
            write_table(run.encoding, run.posterior, folder)
        if save_checkpoint is not None:
            save_checkpoint(folder / "checkpoint.pt")
        if run.refined is not None:
            save_refined(run.refined, folder)
        if run.path is not None:
            write_path(run.path, folder)
        save_net(run.pruned, folder)
        save_net(run.dense, folder / "dense")
    folder = Path(out)
    if run.encoding is None:
        export_net(run.pruned, run.test[0], folder / "pruned.pt2")
    else:
        program = point_program(run.pruned, run.posterior, run.encoding)
        export_net(program, example_rows(run.encoding), folder / "pruned.pt2")
    for name, figure in _figures(run, evaluation).items():
        figure.savefig(folder / f"{name}.png", dpi=150)
    rows = run.test[0] if run.train_x is None else run.train_x
    scale = {"y_mean": run.y_mean, "y_std": run.y_std}
    dependence = draw_dependence(
        run.posterior, rows, input_shape=run.input_shape, refined=run.refined, encoding=run.encoding, **scale
    )
    write_figure(dependence, folder / DEPENDENCE_FILE)
    if run.path is not None:
        draw_path(run.path, {name: len(gamma) for name, gamma in run.posterior.inclusion().items()}, folder)
    if run.refined is not None:
        write_ensemble(evaluation.ensemble, run.test[0], folder, run.encoding)
        bands = draw_bands(run.posterior, run.refined, rows, reference=run.reference, **scale)
        write_bands(bands, folder)
    write_page(
        folder,
        evaluation.metrics,
        config,
        input_shape=run.test[0].shape[1:],
        num_samples=run.num_samples,
    )
    return folder


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


def _figures(run: Run, evaluation: Evaluation) -> dict[str, Figure]:
    """Return the figures that apply to the run, by their file's stem."""
    figures: dict[str, Figure] = {}
    inclusion = run.posterior.inclusion()
    if run.posterior.history:
        totals = {name: len(gamma) for name, gamma in inclusion.items()}
        figures["training"] = plot_training(run.posterior.history, totals)
    if inclusion:
        figures["inclusion"] = plot_inclusion(inclusion)
    if evaluation.curves:
        figures["calibration"] = plot_calibration(evaluation.curves)
    first_layer = _first_layer(run)
    if first_layer is not None:
        figures["first_layer"] = first_layer
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
