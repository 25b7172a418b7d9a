"""Command lines that cannot be right end with one line, the exit code 2 and no file."""

from pathlib import Path

import pytest

from tests.cli.calls import call, made_table

LINES: tuple[tuple[str, str], ...] = (
    ("fit --threads 100000", "threads must be from 1 to"),
    ("fit --threads 0", "threads must be from 1 to"),
    ("fit --epochs 0", "epochs must be at least 1"),
    ("fit --epochs -3", "epochs must be at least 1"),
    ("fit --hidden 0", "hidden must be"),
    ("fit --hidden 5,x", "hidden must be whole numbers"),
    ("fit --hidden ,", "hidden must be whole numbers"),
    ("fit --inclusion nan", r"inclusion must lie in \(0, 1\)"),
    ("fit --kl-weight inf", "kl_weight must be positive and finite"),
    ("fit --kl-weight much", "kl_weight must be a number"),
    ("fit --seed -9999999999999999999999", "seed must be at least"),
    ("fit --device nowhere", "device must be cpu"),
    ("fit nothing.csv", "name must be|data must be"),
    ("fit my.csv --target none", "none"),
    ("fit my.csv --drop none", "none"),
    ("fit my.csv --task regression --target answer", "task must be classification"),
    ("fit digits --target x", "target must be left out"),
    ("fit --reference", "reference needs a refinement"),
    ("path --kl-weights 0", "kl_weights must be positive"),
    ("path --kl-weights a,b", "kl_weights must be numbers"),
    ("path --prior ig", "path needs method svi and a prior with gates"),
    ("path --epochs 0", "epochs must be at least 1"),
    ("compare my.csv --prior ig --methods exact", "methods must have one for a prior without gates"),
    ("compare my.csv --minutes 0", "minutes must be positive"),
    ("compare my.csv --draws 0", "draws must be at least 4"),
    ("refine nowhere", "folder must hold the config.json of a run"),
    ("export nowhere", "out must be in a folder that exists|folder must hold"),
    ("predict nowhere my.csv --out p.csv", "folder must hold the config.json of a run"),
    ("predict nowhere my.csv --out none/p.csv", "out must be a file in a folder that exists"),
)


def test_bad_lines_are_told_in_one_line(workplace: Path) -> None:
    made_table(workplace / "my.csv")
    before = sorted(path.name for path in workplace.iterdir())
    for line, words in LINES:
        code, _, err = call(*line.split())
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1, (line, code, err)
        with pytest.raises(ValueError, match=words):
            raise ValueError(err)
        assert sorted(path.name for path in workplace.iterdir()) == before, line


@pytest.mark.parametrize("command", ["fit", "path", "compare my.csv", "predict run my.csv", "export run"])
def test_nothing_is_no_place_to_write_to(command: str, workplace: Path) -> None:
    code, _, err = call(*command.split(), "--out", "")
    assert code == 2 and "must be the name of a file or folder, got ''" in err
    assert list(workplace.iterdir()) == []
