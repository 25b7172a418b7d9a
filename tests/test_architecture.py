"""The floors of the house, held by reading the sources: what may import what, and what may not be there at all."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("bnn_pyro", "guides")

# Each part of the house and the parts it stands on. A part may import these, what they stand on in turn, and itself.
# An import that type checkers alone see counts like any other.
FLOORS: dict[str, tuple[str, ...]] = {
    # The ground: parts that do not know each other, but for what a device can do.
    "guides": (),
    "bnn_pyro.priors": (),
    "bnn_pyro.input_layout": (),
    "bnn_pyro.nodes": ("bnn_pyro.input_layout",),
    "bnn_pyro.weighted_means": ("bnn_pyro.devices",),
    "bnn_pyro.likelihoods": ("bnn_pyro.arguments", "bnn_pyro.weighted_means"),
    "bnn_pyro.networks": ("bnn_pyro.arguments",),
    "bnn_pyro.data": ("bnn_pyro.arguments", "bnn_pyro.fields"),
    "bnn_pyro.tracing": (),
    "bnn_pyro.arguments": (),
    "bnn_pyro.devices": (),
    "bnn_pyro.fields": (),
    "bnn_pyro.locks": (),
    "bnn_pyro.storage": ("bnn_pyro.locks",),
    "bnn_pyro.evaluation": ("bnn_pyro.weighted_means", "bnn_pyro.input_layout"),
    "bnn_pyro.frozen": (),
    # The network and its posteriors.
    "bnn_pyro.gated_parameters": ("bnn_pyro.priors", "bnn_pyro.nodes"),
    "bnn_pyro.network": ("bnn_pyro.arguments", "bnn_pyro.frozen", "bnn_pyro.gated_parameters", "bnn_pyro.likelihoods"),
    "bnn_pyro.identity": ("bnn_pyro.network",),
    "bnn_pyro.pruning": ("bnn_pyro.network", "guides"),
    "bnn_pyro.export": ("bnn_pyro.pruning", "bnn_pyro.identity", "bnn_pyro.storage", "bnn_pyro.fields"),
    "bnn_pyro.posterior": (
        "bnn_pyro.pruning",
        "bnn_pyro.export",
        "bnn_pyro.evaluation",
        "bnn_pyro.storage",
        "bnn_pyro.data",
    ),
    # Inference: three families side by side, which do not know each other.
    "bnn_pyro.inference.generators": (),
    "bnn_pyro.inference.interrupts": (),
    "bnn_pyro.inference.checkpoint": ("bnn_pyro.fields", "bnn_pyro.identity", "bnn_pyro.storage"),
    "bnn_pyro.inference.checks": ("bnn_pyro.network", "bnn_pyro.evaluation", "bnn_pyro.data", "bnn_pyro.devices"),
    "bnn_pyro.inference.training": (
        "bnn_pyro.inference.checks",
        "bnn_pyro.inference.generators",
        "bnn_pyro.inference.interrupts",
        "bnn_pyro.inference.checkpoint",
        "bnn_pyro.pruning",
        "bnn_pyro.tracing",
    ),
    "bnn_pyro.inference.svi": (
        "bnn_pyro.inference.checkpoint",
        "bnn_pyro.inference.training",
        "bnn_pyro.posterior",
        "bnn_pyro.tracing",
    ),
    "bnn_pyro.inference.mcmc": (
        "bnn_pyro.inference.checkpoint",
        "bnn_pyro.inference.checks",
        "bnn_pyro.inference.generators",
        "bnn_pyro.inference.training",
        "bnn_pyro.posterior",
        "bnn_pyro.tracing",
    ),
    "bnn_pyro.inference.sgmcmc": (
        "bnn_pyro.inference.checkpoint",
        "bnn_pyro.inference.training",
        "bnn_pyro.posterior",
        "bnn_pyro.tracing",
    ),
    "bnn_pyro.inference": ("bnn_pyro.inference.svi", "bnn_pyro.inference.mcmc", "bnn_pyro.inference.sgmcmc"),
    # What is made of them.
    "bnn_pyro.refinement": ("bnn_pyro.inference",),
    "bnn_pyro.sparsity_path": ("bnn_pyro.refinement",),
    "bnn_pyro.input_choice": ("bnn_pyro.refinement",),
    "bnn_pyro.reports": (
        "bnn_pyro.posterior",
        "bnn_pyro.inference.checkpoint",
        "bnn_pyro.inference.generators",
        "bnn_pyro.data",
    ),
    "bnn_pyro.recipes": ("bnn_pyro.sparsity_path", "bnn_pyro.reports", "bnn_pyro.networks", "bnn_pyro.data"),
    "bnn_pyro.comparison": ("bnn_pyro.recipes",),
    "bnn_pyro.estimators": ("bnn_pyro.recipes",),
    # The roof, and the table of contents.
    "bnn_pyro.cli": ("bnn_pyro", "bnn_pyro.comparison"),
    "bnn_pyro.__main__": ("bnn_pyro.cli",),
    "bnn_pyro": ("bnn_pyro.sparsity_path", "bnn_pyro.input_choice", "bnn_pyro.evaluation"),
}

# What these parts may import from outside the house, besides the standard library.
OUTSIDE = {"guides": {"torch", "pyro"}, "bnn_pyro.priors": {"torch", "pyro"}, "bnn_pyro.tracing": {"torch"}}

FORBIDDEN_NAMES = ("utils", "util", "helpers", "misc", "settings")

MOST_LINES = 400  # of a file


@dataclass(frozen=True)
class Import:
    """One import: what it names, its line, and how many dots it begins with."""

    target: str
    line: int
    level: int


def sources() -> dict[str, Path]:
    """The modules of the packages, by their dotted names; a package's ``__init__`` has the package's name."""
    paths = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


MODULES = sources()


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


@cache
def imports(module: str) -> tuple[Import, ...]:
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[Import]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, 0) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                target = submodule if submodule in MODULES else node.module or "."
                yield Import(target, node.lineno, node.level)


def at_home(name: str) -> bool:
    return name.split(".")[0] in PACKAGES


def floor(module: str) -> str:
    """The part of the house that a module belongs to: the longest name in the table that it begins with."""
    if module == "bnn_pyro":
        return module
    parts = [part for part in FLOORS if part != "bnn_pyro" and (module == part or module.startswith(f"{part}."))]
    return max(parts, key=len, default="none")


@cache
def below(part: str) -> frozenset[str]:
    """All parts that a part stands on, in the end."""
    return frozenset(FLOORS[part]).union(*(below(under) for under in FLOORS[part]))


def where(module: str, line: int) -> str:
    return f"{MODULES[module].relative_to(ROOT)}:{line}"


def test_the_house_is_there() -> None:
    assert {"bnn_pyro", "bnn_pyro.data", "guides"} <= set(MODULES)


def test_the_table_of_floors_has_no_circle() -> None:
    TopologicalSorter(FLOORS).prepare()


@pytest.mark.parametrize("module", MODULES)
def test_module_has_a_floor(module: str) -> None:
    assert floor(module) in FLOORS, f"{module} stands in no row of FLOORS; say what it stands on"


@pytest.mark.parametrize("module", MODULES)
def test_imports_are_absolute(module: str) -> None:
    assert [where(module, found.line) for found in imports(module) if found.level] == []


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    part = floor(module)
    allowed = below(part) | {part}
    up = [
        f"{where(module, found.line)} imports {found.target}"
        for found in imports(module)
        if at_home(found.target) and floor(found.target) not in allowed
    ]
    assert up == []


def loaded_by(module: str) -> set[str]:
    """The modules that importing a module imports, the packages around them included, since these come first.

    The root is left out: it is always there before its modules.
    """
    targets = {found.target for found in imports(module) if at_home(found.target)}
    packages = {name for name, path in MODULES.items() if path.stem == "__init__"} - {"bnn_pyro"}
    around = {package for package in packages for target in targets if target.startswith(f"{package}.")}
    return targets | {package for package in around if package != module and not module.startswith(f"{package}.")}


def test_imports_have_no_circles() -> None:
    try:
        TopologicalSorter({module: loaded_by(module) for module in MODULES}).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("module", [module for module in MODULES if floor(module) in OUTSIDE])
def test_ground_floors_need_few_packages(module: str) -> None:
    allowed = OUTSIDE[floor(module)] | sys.stdlib_module_names
    foreign = [
        f"{where(module, found.line)} imports {found.target}"
        for found in imports(module)
        if found.target.split(".")[0] not in allowed and floor(found.target) != floor(module)
    ]
    assert foreign == []


@pytest.mark.parametrize("module", MODULES)
def test_user_errors_are_no_assertions(module: str) -> None:
    found = [where(module, node.lineno) for node in ast.walk(tree(module)) if isinstance(node, ast.Assert)]
    assert found == []


@pytest.mark.parametrize("module", MODULES)
def test_module_is_named_by_its_concept(module: str) -> None:
    assert module.split(".")[-1] not in FORBIDDEN_NAMES


@pytest.mark.parametrize("module", MODULES)
def test_files_are_short(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MOST_LINES, f"{where(module, lines)} is its last line; split it by its concepts"


@pytest.mark.parametrize(
    "module", [name for name, path in MODULES.items() if path.stem not in ("__init__", "__main__")]
)
def test_module_has_a_test_of_its_name(module: str) -> None:
    path = MODULES[module].relative_to(ROOT)
    mirror = path.parent if path.parts[0] == "guides" else path.parent.relative_to("bnn_pyro")
    test = Path("tests") / mirror / f"test_{path.name}"
    assert (ROOT / test).is_file(), f"{path} has no {test}"


@pytest.mark.parametrize("package", [name for name, path in MODULES.items() if path.stem == "__init__"])
def test_init_is_a_table_of_contents(package: str) -> None:
    """An ``__init__`` has a docstring, imports and ``__all__``, and nothing that runs."""
    docstring, *statements = tree(package).body
    assert isinstance(docstring, ast.Expr)
    names = [node for node in statements if not isinstance(node, ast.Import | ast.ImportFrom)]
    assert [ast.unparse(target) for node in names for target in getattr(node, "targets", [node])] in ([], ["__all__"])
    exported = {element for node in names for element in ast.literal_eval(getattr(node, "value", node))}
    imported = {
        alias.asname or alias.name for node in statements if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert exported == imported
