"""The tutorials run from top to bottom in their short form, draw their figures, and pass their own assertions."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))


def test_there_are_tutorials() -> None:
    assert [path.name for path in TUTORIALS] == [
        "01_sparse_priors.py",
        "02_mnist_svi.py",
        "03_prune_a_resnet.py",
        "04_svi_versus_nuts.py",
        "05_one_shot_pruning.py",
    ]


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(tutorial: Path, tmp_path: Path) -> None:
    """Each runs as a script of its own, since it sets the default dtype and the seed as a user would."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    changes = {"SMOKE": "1", "TUTORIAL_OUT": str(tmp_path), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tutorial)]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **changes}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    drawn = {figure.stem for figure in tmp_path.glob("*.png")}
    assert drawn == set(re.findall(r'^ *show\(.*?"(\w+)"', tutorial.read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_opens_as_a_notebook(tutorial: Path) -> None:
    """The percent format: text in comments under `# %% [markdown]`, code under `# %%`, and an assertion at its end."""
    text = tutorial.read_text(encoding="utf-8")
    cells = text.split("# %%")
    assert cells[0] == "" and len(cells) > 10
    for cell in cells[1:]:
        head, _, body = cell.partition("\n")
        assert head in ("", " [markdown]")
        if head:
            assert all(line.startswith("#") for line in body.strip().splitlines())
    assert "\nassert " in text
