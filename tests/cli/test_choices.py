"""The command line takes the names that the packages know, and needs no torch to know them."""

import ast
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from bnn_pyro.cli import choices
from bnn_pyro.comparison import METHODS as COMPARED
from bnn_pyro.data.tables import Task
from bnn_pyro.export import FORMS
from bnn_pyro.networks.named import NETS
from bnn_pyro.recipes import METHODS, PRIORS
from bnn_pyro.refinement import Start, Weights
from tests.cli.calls import call


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (choices.NetName, NETS),
        (choices.PriorName, PRIORS),
        (choices.MethodName, METHODS),
        (choices.TaskName, get_args(Task)),
        (choices.FormName, tuple(FORMS)),
        (choices.StartName, get_args(Start)),
        (choices.WeightsName, get_args(Weights)),
        (choices.ComparedName, tuple(COMPARED)),
    ],
)
def test_the_names_are_those_of_the_packages(choice: Any, names: tuple[str, ...]) -> None:
    assert get_args(choice) == names


@pytest.mark.parametrize(
    ("command", "option", "choice"),
    [
        ("fit", "--net", choices.NetName),
        ("fit", "--prior", choices.PriorName),
        ("fit", "--method", choices.MethodName),
        ("fit", "--refine", choices.RefineName),
        ("fit", "--task", choices.TaskName),
        ("path", "--refine", choices.PathRefineName),
        ("path", "--task", choices.TaskName),
        ("refine", "--start", choices.StartName),
        ("refine", "--weights", choices.WeightsName),
        ("export", "--format", choices.FormName),
        ("compare", "--net", choices.NetName),
        ("compare", "--task", choices.TaskName),
        ("compare", "--prior", choices.PriorName),
        ("compare", "--methods", choices.ComparedName),
    ],
)
def test_help_shows_them(command: str, option: str, choice: Any) -> None:
    _, out, _ = call(command, "--help")
    line = next(line for line in out.splitlines() if f" {option} " in line)
    assert f"<{'|'.join(get_args(choice)[:2])}" in line  # a line has no room for all nets


@pytest.mark.parametrize("path", sorted(Path(choices.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_commands_import_nothing_but_typer(path: Path) -> None:
    """What needs torch is imported in functions, so that ``--help`` and a mistyped option answer at once."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
    own = [name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names]
    assert [name for name in own if not name.startswith(("typer", "bnn_pyro.cli"))] == []
