"""Back from a run's folder; tests/recipes/test_runs.py loads whole runs."""

from pathlib import Path

import pytest

from bnn_pyro.recipes.loading import DENSE, load_dense, load_pruned, load_run


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / DENSE).mkdir()
    for load in (load_run, load_pruned, load_dense):
        with pytest.raises(ValueError, match="folder must hold the config.json of a run, got"):
            load(tmp_path)
