"""The README keeps its word: its examples run, its links lead somewhere, and its tables name everything there is."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import bnn_pyro.likelihoods
import bnn_pyro.priors
import guides
from bnn_pyro.comparison import COMPARISON_FILES
from bnn_pyro.data import DATASETS, load
from bnn_pyro.networks.named import NETS
from bnn_pyro.recipes import PRIORS
from bnn_pyro.reports.folder import RUN_FILES
from bnn_pyro.reports.path_files import PATH_FILES
from bnn_pyro.reports.refined_files import REFINED_FILES
from bnn_pyro.reports.tables import TABLE_FILES

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
FILES = (*RUN_FILES, *REFINED_FILES, *TABLE_FILES, *PATH_FILES, *COMPARISON_FILES)
EXAMPLES = re.findall(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
NAMED = set(re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.DOTALL | re.MULTILINE)))


def executed(example: str) -> dict[str, Any]:
    """Run an example as it stands and return its names."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(example, "README.md", "exec"), names)
    return names


def test_there_are_three_examples_of_some_twenty_lines() -> None:
    assert len(EXAMPLES) == 3
    for example in EXAMPLES:
        assert sum(bool(line.strip()) for line in example.splitlines()) <= 25


def test_the_example_of_an_estimator() -> None:
    names = executed(EXAMPLES[0])
    rows, model = names["X"][:5], names["model"]
    assert model.score(names["X"], names["y"]) > 0.9
    assert bool((names["low"] < names["mean"]).all() and (names["mean"] < names["high"]).all())
    assert names["network"](torch.from_numpy(rows)).shape == (5,) and names["std"].shape == (5,)


def test_the_example_of_a_network(capsys: pytest.CaptureFixture[str]) -> None:
    names = executed(EXAMPLES[1])
    posterior, small, test = names["posterior"], names["small"], load("digits", flatten=True).test
    assert "Sequential" in capsys.readouterr().out
    assert names["probabilities"].shape == (len(test), 10)
    assert torch.allclose(small(test.x), posterior.median_model()(test.x), atol=1e-4)
    assert (small(test.x).argmax(1) == test.y).float().mean() > 0.9
    kept = sum(p.numel() for p in small.parameters()) / sum(p.numel() for p in names["net"].parameters())
    assert kept < 0.6


def test_the_example_of_a_model_of_ones_own() -> None:
    gates = executed(EXAMPLES[2])["guide"].inclusion()["w.gate"]
    assert (gates > 0.5).nonzero().flatten().tolist() == [3, 11]


MOVED = "train, test = (data.Split(part.x.cuda(), part.y.cuda()) for part in (train, test))"
SHORTER = {"epochs=20": "epochs=1", "epochs=60": "epochs=2", "hold=5": "hold=1", "range(300)": "range(3)"}


@pytest.mark.gpu
@pytest.mark.parametrize("is_default", [False, True], ids=["data", "default"])
def test_the_examples_on_a_gpu(is_default: bool) -> None:
    """With data that are moved there, and in a program whose default device it is."""
    network, custom = EXAMPLES[1:]
    for long, short in SHORTER.items():
        network, custom = network.replace(long, short), custom.replace(long, short)
    if is_default:
        with torch.device("cuda"):
            assert len(executed(network)["probabilities"])
            assert executed(custom)["guide"].inclusion()["w.gate"].is_cuda
        return
    network = network.replace("\n\nnet = ", f"\n{MOVED}\n\nnet = ")
    assert executed(network)["probabilities"].is_cuda
    custom = custom.replace("\n\n\ndef model", "\nx, y = x.cuda(), y.cuda()\n\n\ndef model")
    assert executed(custom)["guide"].inclusion()["w.gate"].is_cuda


def test_the_set_up_is_two_commands() -> None:
    """One a line, to be pasted as it is."""
    commands = [line for line in TEXT.splitlines() if line.startswith("python -m venv")]
    assert commands == [
        "python -m venv .venv && .venv/bin/pip install . && .venv/bin/bnn-pyro fit digits",
        "python -m venv .venv && .venv/bin/pip install -e '.[test]' && .venv/bin/python -m pytest",
    ]


@pytest.mark.parametrize("link", re.findall(r"\]\((?!https?:)([^)\s]+)\)", TEXT))
def test_links_lead_to_files(link: str) -> None:
    path, _, heading = link.partition("#")
    if path:
        assert (ROOT / path).is_file()
    if heading:
        headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
        assert heading in [re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings]


SOURCE = re.compile(r"(bnn_pyro|guides|tests|benchmarks)/[a-z_/]+\.py")


@pytest.mark.parametrize("path", sorted(filter(SOURCE.fullmatch, NAMED)))
def test_named_sources_exist(path: str) -> None:
    assert (ROOT / path).is_file()


@pytest.mark.parametrize("name", [*DATASETS, *PRIORS, *NETS, *FILES])
def test_tables_have_every_name_of_the_command_line(name: str) -> None:
    assert name in NAMED


@pytest.mark.parametrize("name", sorted({*guides.__all__, *bnn_pyro.priors.__all__}))
def test_tables_have_every_prior_and_guide(name: str) -> None:
    """Left out are what is inside of a prior or a guide: its distributions, protocols and initial values."""
    inside = {"AtomicRelaxedBernoulli", "Slab", "GatedNormal", "HardGate", "NonCenteredNormal", "initial_value"}
    mentioned = any(re.search(rf"\b{name}\b", code) for code in NAMED)
    assert mentioned or name in inside


@pytest.mark.parametrize("name", ["Categorical", "GaussianNoise", "HeteroscedasticNoise"])
def test_tables_have_every_likelihood(name: str) -> None:
    assert hasattr(bnn_pyro.likelihoods, name)
    assert any(code.startswith(f"{name}(") for code in NAMED)


def test_results_have_a_place() -> None:
    assert TEXT.count("<!-- results:begin -->") == TEXT.count("<!-- results:end -->") == 1
    assert TEXT.index("<!-- results:begin -->") < TEXT.index("<!-- results:end -->")
