"""The folder that a comparison leaves behind: the page, the numbers, the pictures."""

import json
from pathlib import Path

from bnn_pyro.arguments import check_path
from bnn_pyro.comparison.page import comparison_page
from bnn_pyro.comparison.plots import plot_agreement, plot_inclusions, plot_predictions
from bnn_pyro.comparison.run import Compared
from bnn_pyro.reports.claim import is_running
from bnn_pyro.reports.figures import write_figure
from bnn_pyro.storage import whole_file

COMPARISON_FILES = ("comparison.md", "comparison.json", "predictions.png", "inclusion.png", "agreement.png")
"""The names of a comparison's files; `inclusion.png` is left out where the prior has no gates."""


def check_comparison_folder(path: str | Path) -> Path:
    """Return the folder, if a comparison can be written there.

    Args:
        path: The folder, which need not exist.

    Raises:
        ValueError: If it is no folder, or one that holds a comparison.
    """
    check_path("path", path)
    folder = Path(path).resolve()
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out must be a folder, got the file '{folder}'")
    held = [name for name in COMPARISON_FILES if (folder / name).exists()]
    if held:
        raise ValueError(f"out must not hold a comparison already, got '{folder}' with {', '.join(held)}")
    if is_running(folder):
        raise ValueError(f"out must be a folder that no other process writes to, got '{path}'")
    return folder


def write_comparison(path: str | Path, compared: Compared) -> None:
    """Write a comparison's folder: the page, the numbers, the pictures.

    Args:
        path: The folder, which is made.
        compared: The comparison.

    Raises:
        OSError: If something cannot be written.
    """
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {}
    if compared.answers:
        samples = {title: found.sample for title, found in compared.answers.items()}
        scale = {"y_mean": compared.y_mean, "y_std": compared.y_std}
        predicted = {title: found.predicted for title, found in samples.items()}
        pictures["predictions"] = plot_predictions(predicted, compared.targets, **scale)
        pictures["agreement"] = plot_agreement(compared.metrics["distances"])
    if compared.metrics["groups"]:
        pictures["inclusion"] = plot_inclusions(compared.metrics["methods"])
    for name, figure in pictures.items():
        write_figure(figure, folder / f"{name}.png")
    text = comparison_page(compared.metrics, pictures=tuple(pictures))
    numbers = json.dumps(compared.metrics, indent=2, default=str)
    for name, content in {"comparison.json": numbers + "\n", "comparison.md": text}.items():
        with whole_file(folder / name) as partial:
            partial.write_text(content, encoding="utf-8")
