"""`bnn-pyro export`: what it prints, writes and refuses."""

from pathlib import Path

import torch
from typer.testing import CliRunner

from bnn_pyro.cli import app
from bnn_pyro.export import FORMS, load_net
from bnn_pyro.networks import mlp
from bnn_pyro.recipes import load_table
from tests.cli.calls import call, made_table


def test_export_writes_the_pruned_net_in_every_form(workplace: Path) -> None:
    made_table(workplace / "my.csv")
    options = [
        "--target",
        "answer",
        "--refine",
        "no",
        "--epochs",
        "2",
        "--hidden",
        "6,5",
        "--prior",
        "ss-ig",
        "--out",
        "run",
    ]
    assert call("fit", "my.csv", *options)[0] == 0
    before = {path.name for path in (workplace / "run").iterdir()}
    raw = torch.randn(5, 3)
    expected = torch.export.load(workplace / "run" / "pruned.pt2").module()(raw)
    code, out, err = call("export", "run", "--multiple", "4")
    assert (code, err) == (0, "") and str(Path("run", "pruned-x4.pt2")) in out
    rounded = torch.export.load(workplace / "run" / "pruned-x4.pt2").module()
    assert {p.shape[0] % 4 for name, p in rounded.named_parameters() if "hidden1" in name} <= {0, 2}
    assert torch.allclose(rounded(raw), expected, atol=1e-5)
    code, out, err = call("export", "run")  # whose own pruned.pt2 is there
    assert (code, err) == (0, "") and str(Path("run", "exported.pt2")) in out
    code, _, err = call("export", "run", "--format", "weights", "--out", "net")
    assert (code, err) == (0, "")
    net, x = load_net(workplace / "net", mlp(3, (6, 5), 2)), load_table(workplace / "run").raw_inputs()(raw)
    assert torch.allclose(net(x).softmax(1), expected, atol=1e-5)
    assert {path.name for path in (workplace / "run").iterdir()} == before | {"pruned-x4.pt2", "exported.pt2"}
    for arguments, words in (
        (["run"], "out must not exist yet, got 'run/exported.pt2'"),
        (["run", "--multiple", "0", "--out", "a.pt2"], "multiple must be at least 1, got 0"),
        (
            ["absent", "--out", "a.pt2"],
            "folder must hold the config.json of a run, got no such file (absent",
        ),
        (["run", "--out", str(Path("absent", "a.pt2"))], "out must be in a folder that exists"),
    ):
        code, _, err = call("export", *arguments)
        assert code == 2 and err.startswith("error: ") and words in err and err.count("\n") == 1


def test_forms_are_checked_and_printed() -> None:
    code, _, err = call("export", "run", "--format", "tflite")
    assert code == 2 and "'--format'" in err and "'tflite' is not one of 'pt2', 'onnx', 'weights'" in err


def test_help_of_export_names_the_forms_and_fits_into_a_small_terminal() -> None:
    result = CliRunner(env={"COLUMNS": "80"}).invoke(app, ["export", "--help"])
    formats = result.stdout.split("Formats")[1].splitlines()
    assert {line.split()[0] for line in formats if line[3:4].strip()} == {*FORMS}
    assert {len(line) - len(line.lstrip()) for line in formats if line.strip()} <= {1, 3, 19}
    assert max(len(line) for line in result.stdout.splitlines()) <= 80
