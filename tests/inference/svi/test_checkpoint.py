"""The file of a run: whole, checked at the door, and of this run alone."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pyro.infer import TraceMeanField_ELBO
from torch import nn

from bnn_pyro import fit
from bnn_pyro.inference.checkpoint import Pace
from bnn_pyro.inference.svi.checkpoint import Progress, RunFile, read_progress
from bnn_pyro.inference.svi.elbo import SparseELBO
from bnn_pyro.inference.svi.schedule import LearningRates, Schedule
from bnn_pyro.likelihoods import GaussianNoise, HeteroscedasticNoise
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, GroupLasso, SpikeSlab
from guides import AutoCentered, AutoSpikeSlab
from tests.inference.svi.test_fit import X, Y, is_same, state
from tests.test_network import net_of, network


def progress(**changes: Any) -> Progress:
    """Some progress."""
    values: dict[str, Any] = {
        **{"epoch": 2, "since": 1, "is_over": False, "kl_weight": 0.5, "gate_mode": "free"},
        **{"history": [{"epoch": 1, "loss": 1.0, "seconds": 0.5}], "model": {"w": torch.ones(2)}, "guide": {}},
        **{"keep": {"a": torch.tensor([True, False])}, "steps": {"adam": []}, "random": {"cpu": torch.get_rng_state()}},
    }
    return Progress(**{**values, **changes})


def test_there_and_back(tmp_path: Path) -> None:
    file = RunFile(tmp_path / "run.pt", Pace(2), {"epochs": 7, "temperature": (0.5, 0.1)})
    assert [file.is_due(epochs) for epochs in (1, 2, 3, 4)] == [False, True, False, True]
    assert read_progress(file.path) is None and read_progress(None) is None
    file.write(progress())
    saved = read_progress(file.path)
    assert saved is not None and saved[0] == file.settings
    found, expected = vars(saved[1]), vars(progress())
    assert found.keys() == expected.keys() and found["history"] == expected["history"]
    assert torch.equal(found["model"]["w"], torch.ones(2)) and found["keep"]["a"].tolist() == [True, False]
    file.check(saved)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


def test_another_run_is_refused(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 2, "batch_size": 6, "checkpoint": tmp_path / "run.pt"}
    fit(network(), (X, Y), seed=0, **options)
    for changes, message in (
        ({"seed": 1}, "seed must be 0, as when the run in .*run.pt was begun, got 1: give another checkpoint"),
        ({"schedule": Schedule(hold=1)}, "hold must be 0, as"),
        ({"clip_norm": 1.0}, "optimizer must be 'AdamStep', as .* got 'Adam'"),
        ({"optimizer": torch.optim.SGD}, "got 'SGD'"),
    ):
        with pytest.raises(ValueError, match=message):
            fit(network(), (X, Y), **{"seed": 0, **options, **changes})


# Of each option of `network`, the guide and `fit` another value, and the name in the message.
GUIDES: dict[str, dict[str, Any]] = {
    "gate_gradient": {"gate_gradient": "disarm"},
    "init_inclusion": {"init_inclusion": 0.5},
    "init_scale": {"init_scale": 0.2},
    "temperature": {"temperature": 0.2},
}
MODELS: dict[str, dict[str, Any]] = {
    "prior.slab.sigma must be 1.0, as .* got 9.0": {"prior": SpikeSlab(Gaussian(9.0), inclusion=0.3)},
    "prior.slab must be 'Gaussian', as .* got 'GroupLasso'": {"prior": SpikeSlab(GroupLasso(), inclusion=0.3)},
    "prior.inclusion.hidden1 must be 0.3, as .* got 0.9 .different, too": {
        "prior": SpikeSlab(Gaussian(), inclusion=0.9)
    },
    "network.activation1 must be 'SiLU.*got 'Tanh": {"net": mlp(6, (8, 7), 3, activation=nn.Tanh).double()},
    "network.* must be": {"net": "normed"},
    "prior.inclusion must be": {"select_inputs": True},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "rates.gates must be 0.01, as .* got 0.5": {"rates": LearningRates(gates=0.5)},
    "clip_norm must be None, as .* got 1.0|optimizer must": {"clip_norm": 1.0},
    "shrink_below must be None, as .* got 0.1": {"schedule": Schedule(shrink_below=0.1)},
    "elbo.num_particles must be 1, as .* got 4": {"elbo": SparseELBO(num_particles=4)},
    "elbo must be 'SparseELBO', as .* got 'TraceMeanField_ELBO'": {"elbo": TraceMeanField_ELBO()},
    "batch_size must be 6, as .* got 4": {"batch_size": 4},
    "epochs must be 2, as .* got 3": {"epochs": 3},
    "kl_weight must be 1.0, as .* got 0.5": {"kl_weight": 0.5},
    "validation must be None, as .* got '12 rows'": {"validation": (X, Y)},
    "augmentation must be None, as .* got 'deepcopy'": {"augmentation": copy.deepcopy},
    "guide must be 'AutoSpikeSlab', as .* got 'AutoCentered'": {"guide": AutoCentered(network().prior)},
    **{f"guide.{name} must be": {"guide": AutoSpikeSlab(network().prior, **given)} for name, given in GUIDES.items()},
}


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a run that is over."""
    path = tmp_path_factory.mktemp("begun") / "run.pt"
    fit(network(), (X, Y), epochs=2, batch_size=6, seed=0, checkpoint=path)
    return path


def again(path: Path, *, data: Any = (X, Y), model: Any = None, **options: Any) -> GuidePosterior:
    """The call of that run, or of another one with its file."""
    given: dict[str, Any] = {"epochs": 2, "batch_size": 6, "seed": 0, "checkpoint": path, **options}
    return fit(network(**{"net": "mlp", **(model or {})}), data, **given)


@pytest.mark.parametrize("message", [*MODELS, *OPTIONS])
def test_another_question_gets_no_old_answer(begun: Path, message: str) -> None:
    before = begun.read_bytes()
    with pytest.raises(ValueError, match=message) as raised:
        again(begun, model=MODELS.get(message), **OPTIONS.get(message, {}))
    assert "when the run in" in str(raised.value) and "give another checkpoint to begin a new run" in str(raised.value)
    assert begun.read_bytes() == before
    assert len(again(begun).history) == 2


def test_other_data_get_no_old_answer(begun: Path) -> None:
    other = X.clone()
    other[-1, -1] += 1e-12
    for data, message in (
        ((X, 2 - Y), "data.y.content must be the same, as when the run in .* was begun, got another one: give"),
        ((other, Y), "data.x.content must be the same"),
        ((X.float(), Y), "data.x must be 'float64 .12, 6.', as .* got 'float32"),
        ((X.flip(0), Y.flip(0)), "data.x.content must be the same.*different, too: data.y.content"),
    ):
        with pytest.raises(ValueError, match=message):
            again(begun, data=data)


def test_another_likelihood_is_refused(tmp_path: Path) -> None:
    net = mlp(6, (4,), 1).double()
    given: dict[str, Any] = {"path": tmp_path / "run.pt", "data": (X, X[:, 0])}
    again(**given, model={"net": net, "likelihood": GaussianNoise()})
    with pytest.raises(ValueError, match=r"likelihood.prior_scale must be 1.0, as .* got 2.0:"):
        again(**given, model={"net": net, "likelihood": GaussianNoise(prior_scale=2.0)})
    with pytest.raises(ValueError, match=r"likelihood.scale must be None, as .* got 0.1:"):
        again(**given, model={"net": net, "likelihood": GaussianNoise(0.1)})
    pair = mlp(6, (4,), 2).double()
    with pytest.raises(ValueError, match=r"network.output must be .*different, too: likelihood"):
        again(**given, model={"net": pair, "likelihood": HeteroscedasticNoise()})


def test_other_rows_to_validate_on_are_refused(tmp_path: Path) -> None:
    again(tmp_path / "run.pt", validation=(X, Y))
    with pytest.raises(ValueError, match="validation.y.content must be the same"):
        again(tmp_path / "run.pt", validation=(X, 2 - Y))
    assert len(again(tmp_path / "run.pt", validation=(X.clone(), Y)).history) == 2


def test_options_of_a_torch_optimiser_are_compared(tmp_path: Path) -> None:
    again(tmp_path / "run.pt", optimizer=partial(torch.optim.SGD, momentum=0.5))
    with pytest.raises(ValueError, match="optimizer.options.gates.momentum must be 0.5, as .* got 0.9"):
        again(tmp_path / "run.pt", optimizer=partial(torch.optim.SGD, momentum=0.9))


def test_other_weights_at_the_start_are_a_warning(begun: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = again(begun)
    assert "give another checkpoint to start from others" not in caplog.text
    found = again(begun, model={"net": net_of("mlp", seed=1)})
    assert "the weights at the start are not those of the run in" in caplog.text
    assert is_same(state(found), state(first))


def test_a_file_of_an_older_version_is_resumed(begun: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = torch.load(begun, weights_only=True)
    del content["probe"]
    of_old = ("rows", "epochs", "batch_size", "seed", "optimizer", "hold", "freeze", "kl_weight", "kl_warmup", "decay")
    content["settings"] = {name: content["settings"][name] for name in (*of_old, "temperature", "frozen_kl_weight")}
    torch.save(content, tmp_path / "run.pt")
    assert len(again(tmp_path / "run.pt", data=(X, 2 - Y)).history) == 2
    assert "an older version began the run in" in caplog.text and "data, validation, network, prior" in caplog.text
    with pytest.raises(ValueError, match="epochs must be 2"):
        again(tmp_path / "run.pt", epochs=3)


def test_zeroed_bytes_are_found(begun: Path, tmp_path: Path) -> None:
    whole = begun.read_bytes()
    for start in (1000, len(whole) // 2, len(whole) - 1500):
        (tmp_path / "run.pt").write_bytes(whole[:start] + bytes(1500) + whole[start + 1500 :])
        with pytest.raises(ValueError, match=r"written by fit\(checkpoint=...\), got .*run.pt: damaged"):
            again(tmp_path / "run.pt")


def test_what_is_no_file_of_a_run(tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"must be a file written by fit\(checkpoint=...\), got .* damaged"):
        fit(network(), (X, Y), epochs=1, checkpoint=tmp_path / "run.pt")
    for path in (tmp_path, tmp_path / "nowhere" / "run.pt"):
        with pytest.raises(ValueError, match="checkpoint must be a file in a folder that exists, got "):
            fit(network(), (X, Y), epochs=1, checkpoint=path)
