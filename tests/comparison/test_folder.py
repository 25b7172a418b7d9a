"""The folder of a comparison: what is written, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from bnn_pyro.comparison.answers import Answer, Sample
from bnn_pyro.comparison.folder import COMPARISON_FILES, check_comparison_folder, write_comparison
from bnn_pyro.comparison.run import Compared
from bnn_pyro.likelihoods import Normals
from tests.comparison.test_page import made_metrics


def made() -> Compared:
    mean = torch.randn(40, 6)
    sample = Sample(Normals(mean, torch.ones_like(mean)), mean)
    answers = {title: Answer("exact", {}, sample, {}, {}, 1.0) for title in ("AutoSpikeSlab", "NUTS")}
    return Compared(made_metrics(), answers, torch.randn(6), 10.0, 2.0)


def test_a_comparison_is_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    compared = made()
    write_comparison(folder, compared)
    assert {path.name for path in folder.iterdir()} == set(COMPARISON_FILES)
    assert json.loads((folder / "comparison.json").read_text()) == compared.metrics
    page = (folder / "comparison.md").read_text()
    assert all(f"({name})" in page for name in COMPARISON_FILES if name.endswith(".png"))
    with pytest.raises(ValueError, match="must not hold a comparison already, got .* with comparison.md"):
        check_comparison_folder(folder)


def test_no_picture_where_there_is_nothing_to_draw(tmp_path: Path) -> None:
    metrics = made_metrics() | {"groups": {}}
    write_comparison(tmp_path, Compared(metrics, {}, torch.zeros(1), 0.0, 1.0))
    assert {path.suffix for path in tmp_path.iterdir()} == {".md", ".json"}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="out must be a folder"):
        check_comparison_folder(tmp_path / "file")
