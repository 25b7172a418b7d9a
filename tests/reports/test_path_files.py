"""The files of a path, and its table."""

from pathlib import Path
from typing import Any

from bnn_pyro.reports.path_files import PATH_FILES, path_summary, path_table, read_path, write_path
from tests.reports.plots.test_path import RECORDS
from tests.reports.test_page import text


def test_there_and_back(tmp_path: Path) -> None:
    assert read_path(tmp_path) is None
    write_path(RECORDS, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [PATH_FILES[0]]
    assert read_path(tmp_path) == RECORDS
    assert len((tmp_path / "path.json").read_text().splitlines()) == len(RECORDS) + 2


def test_the_table_has_a_row_per_point_and_one_is_chosen() -> None:
    header, rows = path_table(RECORDS)
    assert header[:3] == ("KL weight", "nodes: hidden1", "nodes: hidden2") and len(rows) == len(RECORDS)
    assert rows[0][:4] == ("0.03", "44", "30", "1,441") and rows[0][-4:-1] == ("3.1340", "0.0340", "0.0150")
    assert [row[-1] for row in rows] == ["", "", "chosen", ""]
    assert {len(row) for row in rows} == {len(header)}
    (alone,) = path_table([{**RECORDS[0], "loss_error": None}])[1]
    assert alone[-2] == ""


def test_a_tempered_choice_is_called_so() -> None:
    assert path_summary(RECORDS) == (
        "KL weight 0.3 is chosen, a tempered (cold) posterior, KL weight 0.3: the smallest network that loses at most "
        "one standard error against the best, by the held-out scores of draws of the guides"
    )
    refined: list[dict[str, Any]] = [{**record, "refined": True} for record in RECORDS]
    refined[2]["chosen"], refined[3]["chosen"] = False, True
    assert path_summary(refined).startswith("KL weight 1 is chosen: the smallest network")
    assert path_summary(refined).endswith("of the sampled posteriors of the pruned networks")


def test_the_page_shows_it() -> None:
    shown = text(path=RECORDS)
    assert "## Sparsity path" in shown and f"{path_summary(RECORDS)}.\n" in shown
    assert "| 0.3 | 22 | 20 | 700 | 3.1000 | 0.0000 | 0.0000 | chosen |" in shown and "](path.png)" in shown
    assert "Sparsity path" not in text()
