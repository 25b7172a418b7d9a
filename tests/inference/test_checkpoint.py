"""A posterior that is saved and loaded again is the same one, or a ValueError says why not."""

import copy
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from bnn_pyro import fit
from bnn_pyro.inference.checkpoint import load_posterior, save_posterior
from bnn_pyro.networks import mlp
from bnn_pyro.posterior import Posterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from guides import AutoCentered
from tests.test_network import inputs, labels, network
from tests.test_posterior import posterior_of


def predicted(posterior: Posterior) -> Tensor:
    """Predictions under a seed."""
    torch.manual_seed(4)
    found = posterior.predict(inputs(), num_samples=3)
    assert isinstance(found, Tensor)
    return found


@pytest.fixture(scope="module")
def fitted() -> Posterior:
    """A posterior with frozen gates and trained points, fitted with a small weight of the divergence."""
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    options: dict[str, Any] = {"epochs": 3, "freeze": 1, "kl_weight": 0.5, "temperature": (0.7, 0.2), "seed": 0}
    return fit(model, (inputs(), labels()), **options)


@pytest.fixture
def path(fitted: Posterior, tmp_path: Path) -> Path:
    """A file with that posterior."""
    target = tmp_path / "posterior.pt"
    save_posterior(fitted, target)
    return target


def test_round_trip(fitted: Posterior, path: Path) -> None:
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    loaded = load_posterior(str(path), model)
    assert torch.equal(torch.get_rng_state(), state) and list(pyro.get_param_store()) == []
    assert torch.equal(predicted(loaded), predicted(fitted))
    assert loaded.guide.gate_mode == "frozen" and loaded.kl_weight == 0.5 and loaded.tempered
    assert loaded.history == fitted.history and len(loaded.history) == 3
    assert torch.equal(loaded.guide.temperature, fitted.guide.temperature)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert loaded.guide.model.__self__ is loaded.model is not model


@pytest.mark.parametrize("guide_class", [AutoCentered, AutoNormal])
def test_round_trip_with_a_given_guide(guide_class: type[Any], tmp_path: Path) -> None:
    model = network(select_inputs=True)
    posterior = fit(model, (inputs(), labels()), epochs=1, guide=guide_class(model.prior), seed=0)
    save_posterior(posterior, tmp_path / "posterior.pt")
    guide = guide_class(model.prior)
    parameters = [parameter.clone() for parameter in guide.parameters()]
    loaded = load_posterior(tmp_path / "posterior.pt", model, guide=guide)
    torch.testing.assert_close(predicted(loaded), predicted(posterior), rtol=0, atol=0)
    assert all(torch.equal(a, b) for a, b in zip(guide.parameters(), parameters, strict=True))
    assert guide.model is not None


def test_round_trip_of_a_shrunk_posterior(tmp_path: Path) -> None:
    posterior = posterior_of(select_inputs=True)
    small = posterior.shrink()
    save_posterior(small, tmp_path / "posterior.pt")
    start = copy.deepcopy(small.model)
    assert start.selection is not None
    start.selection.zero_()
    assert torch.equal(predicted(load_posterior(tmp_path / "posterior.pt", start)), predicted(small))
    with pytest.raises(ValueError, match="model must be made as when"):
        load_posterior(tmp_path / "posterior.pt", posterior.model)


def test_whole_files_replace_each_other(fitted: Posterior, path: Path) -> None:
    other = posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    save_posterior(other, path)
    assert torch.equal(predicted(load_posterior(path, fitted.model)), predicted(other))
    assert [file.name for file in path.parent.iterdir()] == ["posterior.pt"]


def test_an_interrupted_save_loses_nothing(fitted: Posterior, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content: Any, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_posterior(posterior_of(), path)
    assert torch.equal(predicted(load_posterior(path, fitted.model)), predicted(fitted))
    assert [file.name for file in path.parent.iterdir()] == ["posterior.pt"]


def test_no_such_file_or_folder(fitted: Posterior, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must be a file written by save_posterior, got .*: no such file"):
        load_posterior(tmp_path / "none.pt", fitted.model)
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_posterior(fitted, tmp_path / "none" / "posterior.pt")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:10], lambda b: b"", lambda b: b"no " * 99])
def test_a_damaged_file(fitted: Posterior, path: Path, damage: Any) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="path must be a file written by save_posterior, got .*damaged"):
        load_posterior(path, fitted.model)


@pytest.mark.parametrize("content", [{"format": 99}, {"format": 1}, [1, 2], torch.zeros(3)])
def test_another_file(fitted: Posterior, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="path must be a file written by save_posterior in format 1"):
        load_posterior(tmp_path / "other.pt", fitted.model)


@pytest.mark.parametrize("hidden", [(8,), (8, 6), (8, 7, 7)])
def test_another_architecture(hidden: tuple[int, ...], tmp_path: Path) -> None:
    save_posterior(posterior_of(), tmp_path / "posterior.pt")
    model = network(mlp(6, hidden, 3).double())
    with pytest.raises(ValueError, match="model must be made as when .* was saved"):
        load_posterior(tmp_path / "posterior.pt", model)


def test_another_prior(tmp_path: Path) -> None:
    save_posterior(posterior_of(), tmp_path / "posterior.pt")
    for prior in (SpikeSlab(GroupHorseshoe(), inclusion=0.3), Gaussian()):
        with pytest.raises(ValueError, match="guide must be made as when .* was saved"):
            load_posterior(tmp_path / "posterior.pt", network(prior=prior))


def test_another_guide(fitted: Posterior, path: Path) -> None:
    with pytest.raises(ValueError, match="guide must be a AutoSpikeSlab, as in .*, got AutoCentered"):
        load_posterior(path, fitted.model, guide=AutoCentered(fitted.model.prior))


@pytest.mark.gpu
def test_from_a_gpu_to_the_cpu(tmp_path: Path) -> None:
    model = network("concat").cuda()
    posterior = fit(model, (inputs().cuda(), labels().cuda()), epochs=1, seed=0)
    save_posterior(posterior, tmp_path / "posterior.pt")
    loaded = load_posterior(tmp_path / "posterior.pt", network("concat"))
    torch.testing.assert_close(loaded.median_model()(inputs()), posterior.median_model().cpu()(inputs()))
    on_gpu = load_posterior(tmp_path / "posterior.pt", model)
    torch.testing.assert_close(on_gpu.median_model()(inputs().cuda()), posterior.median_model()(inputs().cuda()))
