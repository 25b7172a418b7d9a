"""A posterior that is saved and loaded again is the same one, or a ValueError says why not."""

import copy
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor

from bnn_pyro import fit, prune
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.ensemble import Ensemble
from bnn_pyro.posterior.files import (
    load_draws,
    load_ensemble,
    load_posterior,
    load_sampled,
    save_draws,
    save_ensemble,
    save_posterior,
    save_sampled,
)
from bnn_pyro.posterior.guide import Posterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from guides import AutoCentered
from tests.inference.mcmc.test_checkpoint import assert_same
from tests.posterior.test_ensemble import ensemble, snapshots
from tests.posterior.test_ensemble import network as ensemble_network
from tests.posterior.test_ensemble import rows as ensemble_rows
from tests.posterior.test_guide import posterior_of
from tests.posterior.test_sampled import drawn, draws_of, rows, sampled
from tests.posterior.test_sampled import network as sampled_network
from tests.test_network import inputs, labels, network


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


# ---- draws -----------------------------------------------------------------------------------------------------------
def test_draws_round_trip(tmp_path: Path) -> None:
    first = draws_of({"a": torch.randn(2, 5), "b": torch.randn(2, 5, 3, 4)})
    save_draws(first, tmp_path / "draws.pt")
    again = load_draws(tmp_path / "draws.pt")
    assert_same(first, again)
    assert (again.kernel, again.thinning, again.seconds) == ("nuts", 1, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["draws.pt"]


def test_sampled_round_trip(tmp_path: Path) -> None:
    first, x = sampled(1, likelihood=GaussianNoise()), rows()
    save_sampled(first, tmp_path / "sampled.pt")
    again = load_sampled(tmp_path / "sampled.pt", sampled_network(1, likelihood=GaussianNoise()))
    assert torch.equal(again.predict(x), first.predict(x))  # type: ignore[arg-type]
    assert torch.equal(again.median_model()(x), first.median_model()(x))
    assert_same(first.draws, again.draws)


def test_sampled_of_another_network_is_refused(tmp_path: Path) -> None:
    save_sampled(sampled(), tmp_path / "sampled.pt")
    with pytest.raises(ValueError, match="draws must have the site"):
        load_sampled(tmp_path / "sampled.pt", sampled_network(6))


def test_files_of_draws_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_draws(tmp_path / "none.pt")
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="damaged"):
        load_draws(tmp_path / "damaged.pt")
    with pytest.raises(ValueError, match="damaged"):
        load_sampled(tmp_path / "damaged.pt", sampled_network())
    save_draws(draws_of(drawn(sampled_network())), tmp_path / "draws.pt")
    with pytest.raises(ValueError, match="written by save_sampled in format 1"):
        load_sampled(tmp_path / "draws.pt", sampled_network())
    torch.save({"draws_format": 1, "draws": {"values": {}}}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match="path must be a file of draws, got .*short.pt"):
        load_draws(tmp_path / "short.pt")
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_draws(sampled().draws, tmp_path / "nowhere" / "draws.pt")


def test_ensemble_round_trip(tmp_path: Path) -> None:
    first = ensemble(history=[{"epoch": 1, "loss": 0.5, "nodes_kept": {"inputs": 6}}], temperature=0.5)
    save_ensemble(first, tmp_path / "ensemble.pt")
    again, x = load_ensemble(tmp_path / "ensemble.pt", ensemble_network()), ensemble_rows()
    assert torch.equal(again.predict(x), first.predict(x))  # type: ignore[arg-type]
    assert torch.equal(prune(again)(x), prune(first)(x))
    assert again.history == first.history and again.temperature == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["ensemble.pt"]


def test_latents_are_kept(tmp_path: Path) -> None:
    model = ensemble_network(1, GaussianNoise())
    save_ensemble(Ensemble(model, snapshots(model, torch.tensor(0.7))), tmp_path / "ensemble.pt")
    again = load_ensemble(tmp_path / "ensemble.pt", ensemble_network(1, GaussianNoise()))
    assert [snapshot.latent.item() for snapshot in again.snapshots if snapshot.latent is not None] == pytest.approx(
        [0.7] * 3
    )


def test_an_ensemble_of_another_network_is_refused(tmp_path: Path) -> None:
    save_ensemble(ensemble(), tmp_path / "ensemble.pt")
    with pytest.raises(ValueError, match="model must be made as when .* was saved"):
        load_ensemble(tmp_path / "ensemble.pt", ensemble_network(outputs=5))


def test_files_of_ensembles_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_ensemble(tmp_path / "none.pt", ensemble_network())
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="damaged"):
        load_ensemble(tmp_path / "damaged.pt", ensemble_network())
    torch.save({"format": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="written by save_ensemble in format 1"):
        load_ensemble(tmp_path / "other.pt", ensemble_network())
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_ensemble(ensemble(), tmp_path / "nowhere" / "ensemble.pt")


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
