"""A posterior that is saved and loaded again is the same one, or a ValueError says why not."""

import copy
from pathlib import Path
from typing import Any

import pyro
import pytest
import torch
from pyro.infer.autoguide import AutoNormal
from torch import Tensor, nn

from bnn_pyro import fit, prune
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.likelihoods import GaussianNoise, HeteroscedasticNoise
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.draws import Draws
from bnn_pyro.posterior.ensemble import Ensemble
from bnn_pyro.posterior.files import KINDS, load_posterior, save_posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.stacking import Stacking
from bnn_pyro.priors import Gaussian, GroupHorseshoe, SpikeSlab
from guides import AutoCentered
from tests.inference.mcmc.test_checkpoint import assert_same
from tests.posterior.test_base import members
from tests.posterior.test_batch_norm import settled
from tests.posterior.test_ensemble import ensemble, snapshots
from tests.posterior.test_ensemble import network as ensemble_network
from tests.posterior.test_ensemble import rows as ensemble_rows
from tests.posterior.test_guide import posterior_of
from tests.posterior.test_sampled import CHAINS, DRAWS, drawn, draws_of, rows, sampled
from tests.posterior.test_sampled import network as sampled_network
from tests.test_network import inputs, labels, network


def predicted(posterior: Posterior) -> Tensor:
    """Predictions under a seed."""
    torch.manual_seed(4)
    return posterior.predict(inputs(), num_samples=3)


@pytest.fixture(scope="module")
def fitted() -> GuidePosterior:
    """A posterior with frozen gates and trained points, fitted with a small weight of the divergence."""
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    options: dict[str, Any] = {
        "epochs": 3,
        "schedule": Schedule(freeze=1, temperature=(0.7, 0.2)),
        "kl_weight": 0.5,
        "seed": 0,
    }
    return fit(model, (inputs(), labels()), **options)


@pytest.fixture
def path(fitted: GuidePosterior, tmp_path: Path) -> Path:
    """A file with that posterior."""
    target = tmp_path / "posterior.pt"
    save_posterior(fitted, target)
    return target


def test_round_trip(fitted: GuidePosterior, path: Path) -> None:
    model = network("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    loaded = load_posterior(str(path), model)
    assert isinstance(loaded, GuidePosterior)
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


def test_draws_with_statistics_of_their_own_are_kept(tmp_path: Path) -> None:
    posterior, x = settled(), inputs()
    save_posterior(posterior, tmp_path / "posterior.pt")
    again = load_posterior(tmp_path / "posterior.pt", network("residual convolutions"))
    assert again.num_draws == 5 and torch.equal(again.predict(x), posterior.predict(x))
    content = torch.load(tmp_path / "posterior.pt", weights_only=True)
    content["settled"]["tensors"]["norm.running_mean"] = torch.zeros(5, 9)
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(
        ValueError, match=r"draws must be of the network's tensors, \(\d,\) here, got 'norm.running_mean'"
    ):
        load_posterior(tmp_path / "other.pt", network("residual convolutions"))
    del content["settled"]  # as in an older file
    torch.save(content, tmp_path / "older.pt")
    older = load_posterior(tmp_path / "older.pt", network("residual convolutions"))
    assert older.num_draws is None and older.predict(x, num_samples=2).shape == (12, 3)


@pytest.mark.parametrize("hidden", [(8,), (8, 6), (8, 7, 7)])
def test_another_architecture(hidden: tuple[int, ...], tmp_path: Path) -> None:
    save_posterior(posterior_of(), tmp_path / "posterior.pt")
    model = network(mlp(6, hidden, 3).double())
    with pytest.raises(ValueError, match="model must be made as when .* was saved"):
        load_posterior(tmp_path / "posterior.pt", model)


PRIORS: dict[str, tuple[dict[str, Any], str]] = {
    "sigma": ({"prior": SpikeSlab(Gaussian(9.0), inclusion=0.3)}, r"prior.slab.sigma 1.0, got 9.0$"),
    "slab": ({"prior": SpikeSlab(GroupHorseshoe(), inclusion=0.3)}, "prior.slab 'Gaussian', got 'GroupHorseshoe'"),
    "no spike": ({"prior": Gaussian()}, "prior 'SpikeSlab', got 'Gaussian'"),
    "inclusion": (
        {"prior": SpikeSlab(Gaussian(), inclusion=0.5)},
        r"prior.inclusion.hidden1 0.3, got 0.5 \(different, too: prior.inclusion.hidden2\)",
    ),
    "likelihood": ({"likelihood": HeteroscedasticNoise()}, "likelihood 'Categorical', got 'HeteroscedasticNoise'"),
    "activation": ({"net": mlp(6, (8, 7), 3, activation=nn.Tanh).double()}, r"network.activation1 'SiLU.*got 'Tanh"),
}


@pytest.mark.parametrize("name", PRIORS)
def test_another_prior_likelihood_or_net(name: str, tmp_path: Path) -> None:
    changes, message = PRIORS[name]
    save_posterior(posterior_of(), tmp_path / "posterior.pt")
    with pytest.raises(ValueError, match=f"model must be made as when .*posterior.pt was saved, with {message}"):
        load_posterior(tmp_path / "posterior.pt", network(**{"net": "mlp", **changes}))


def test_every_kind_of_a_network_knows_its_prior(tmp_path: Path) -> None:
    save_posterior(sampled(), tmp_path / "sampled.pt")
    save_posterior(ensemble(), tmp_path / "ensemble.pt")
    for name, model in (("sampled", sampled_network()), ("ensemble", ensemble_network())):
        assert load_posterior(tmp_path / f"{name}.pt", model).model is not model
        model.slab = Gaussian(9.0)
        with pytest.raises(ValueError, match=f"model must be made as when .*{name}.pt was saved, with prior.*, got"):
            load_posterior(tmp_path / f"{name}.pt", model)


def test_a_guide_of_another_shape_of_an_older_file(tmp_path: Path) -> None:
    """Where the file does not know its prior, the guide may."""
    save_posterior(posterior_of(), tmp_path / "posterior.pt")
    content = torch.load(tmp_path / "posterior.pt", weights_only=True)
    del content["network"]
    torch.save(content, tmp_path / "posterior.pt")
    for prior in (SpikeSlab(GroupHorseshoe(), inclusion=0.3), Gaussian()):
        with pytest.raises(ValueError, match="guide must be made as when .* was saved"):
            load_posterior(tmp_path / "posterior.pt", network(prior=prior))


def test_another_guide(fitted: GuidePosterior, path: Path) -> None:
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
    save_posterior(first, tmp_path / "draws.pt")
    again = load_posterior(tmp_path / "draws.pt")
    assert isinstance(again, Draws)
    assert_same(first, again)
    assert (again.kernel, again.thinning, again.seconds) == ("nuts", 1, 1.0)
    assert [path.name for path in tmp_path.iterdir()] == ["draws.pt"]


def test_draws_of_an_older_version_load(tmp_path: Path) -> None:
    """Their leapfrog steps and acceptance probabilities had other names."""
    first = draws_of({"a": torch.randn(2, 5)})
    save_posterior(first, tmp_path / "draws.pt")
    content = torch.load(tmp_path / "draws.pt", weights_only=True)
    for old, name in (("steps", "leapfrogs"), ("acceptances", "acceptance")):
        content["draws"][old] = content["draws"].pop(name)
    torch.save(content, tmp_path / "older.pt")
    assert_same(load_posterior(tmp_path / "older.pt"), first)


def test_sampled_round_trip(tmp_path: Path) -> None:
    first, x = sampled(1, likelihood=GaussianNoise()), rows()
    save_posterior(first, tmp_path / "sampled.pt")
    again = load_posterior(tmp_path / "sampled.pt", sampled_network(1, likelihood=GaussianNoise()))
    assert isinstance(again, SampledPosterior)
    assert torch.equal(again.predict(x), first.predict(x))
    assert torch.equal(again.median_model()(x), first.median_model()(x))
    assert_same(first.draws, again.draws)


@pytest.mark.parametrize("stacked", [False, True])
def test_weights_of_chains_are_kept(stacked: bool, tmp_path: Path) -> None:
    weights = torch.tensor([0.25, 0.75], dtype=torch.float64)
    posterior, x = sampled(), rows()
    shapes = {"elpd": torch.randn(CHAINS, 6), "pareto_k": torch.rand(CHAINS, 6)}
    given = Stacking(weights, **shapes) if stacked else weights
    weighted = SampledPosterior(posterior.model, posterior.draws, chain_weights=given)
    save_posterior(weighted, tmp_path / "sampled.pt")
    loaded = load_posterior(tmp_path / "sampled.pt", sampled_network())
    assert isinstance(loaded, SampledPosterior) and loaded.chain_weights is not None
    assert torch.equal(loaded.chain_weights, weights)
    assert torch.equal(loaded.predict(x), weighted.predict(x)) and not torch.equal(
        loaded.predict(x), posterior.predict(x)
    )
    if stacked:
        assert loaded.stacking is not None and torch.equal(loaded.stacking.pareto_k, shapes["pareto_k"])
    else:
        assert loaded.stacking is None


def test_sampled_of_another_network_is_refused(tmp_path: Path) -> None:
    save_posterior(sampled(), tmp_path / "sampled.pt")
    with pytest.raises(
        ValueError, match=r"model must be made as when .* was saved, with network.output 'Linear.*out_fea"
    ):
        load_posterior(tmp_path / "sampled.pt", sampled_network(6))
    content = torch.load(tmp_path / "sampled.pt", weights_only=True)
    del content["network"]  # as in an older file
    torch.save(content, tmp_path / "sampled.pt")
    with pytest.raises(ValueError, match="draws must have the site"):
        load_posterior(tmp_path / "sampled.pt", sampled_network(6))


def test_files_of_draws_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_posterior(tmp_path / "none.pt")
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="damaged"):
        load_posterior(tmp_path / "damaged.pt")
    with pytest.raises(ValueError, match="damaged"):
        load_posterior(tmp_path / "damaged.pt", sampled_network())
    save_posterior(draws_of(drawn(sampled_network())), tmp_path / "draws.pt")
    with pytest.raises(ValueError, match="model must be left out for a file of Draws, got a SparseNetwork"):
        load_posterior(tmp_path / "draws.pt", sampled_network())
    torch.save({"draws_format": 1, "draws": {"values": {}}}, tmp_path / "short.pt")
    with pytest.raises(ValueError, match="'vectors' in the draws in .*short.pt must be a tensor, but there is no such"):
        load_posterior(tmp_path / "short.pt")
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_posterior(sampled().draws, tmp_path / "nowhere" / "draws.pt")


def test_ensemble_round_trip(tmp_path: Path) -> None:
    first = ensemble(history=[{"epoch": 1, "loss": 0.5, "nodes_kept": {"inputs": 6}}], temperature=0.5)
    save_posterior(first, tmp_path / "ensemble.pt")
    again, x = load_posterior(tmp_path / "ensemble.pt", ensemble_network()), ensemble_rows()
    assert isinstance(again, Ensemble)
    assert torch.equal(again.predict(x), first.predict(x))
    assert torch.equal(prune(again)(x), prune(first)(x))
    assert again.history == first.history and again.temperature == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["ensemble.pt"]


def test_latents_are_kept(tmp_path: Path) -> None:
    model = ensemble_network(1, GaussianNoise())
    save_posterior(Ensemble(model, snapshots(model, torch.tensor(0.7))), tmp_path / "ensemble.pt")
    again = load_posterior(tmp_path / "ensemble.pt", ensemble_network(1, GaussianNoise()))
    assert isinstance(again, Ensemble)
    assert [snapshot.latent.item() for snapshot in again.snapshots if snapshot.latent is not None] == pytest.approx(
        [0.7] * 3
    )


def test_an_ensemble_of_another_network_is_refused(tmp_path: Path) -> None:
    save_posterior(ensemble(), tmp_path / "ensemble.pt")
    with pytest.raises(ValueError, match="model must be made as when .* was saved"):
        load_posterior(tmp_path / "ensemble.pt", ensemble_network(outputs=5))


def test_files_of_ensembles_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_posterior(tmp_path / "none.pt", ensemble_network())
    (tmp_path / "damaged.pt").write_bytes(b"not a file of torch")
    with pytest.raises(ValueError, match="damaged"):
        load_posterior(tmp_path / "damaged.pt", ensemble_network())
    torch.save({"format": 1}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="'guide_class' in .*other.pt must be text, but there is no such field"):
        load_posterior(tmp_path / "other.pt", ensemble_network())
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_posterior(ensemble(), tmp_path / "nowhere" / "ensemble.pt")


# ---- files of before -------------------------------------------------------------------------------------------------


# Contents as `save_posterior`, `save_draws`, `save_sampled` and `save_ensemble` wrote them, each in its format 1.


def old_draws(draws: Draws) -> dict[str, Any]:
    """The fields of draws in a file of format 1."""
    names = ("vectors", "energy", "total_energy", "diverged", "step_size", "inverse_mass")
    renamed = {"acceptances": draws.acceptance, "steps": torch.ones(CHAINS, DRAWS, dtype=torch.int64)}
    plain = {"kernel": "nuts", "thinning": 1, "seconds": 1.0, **renamed}
    return {"values": dict(draws.values), **{name: getattr(draws, name) for name in names}, **plain}


def test_a_file_of_a_guide_of_before(tmp_path: Path) -> None:
    first = posterior_of(select_inputs=True)
    content = {
        "format": 1,
        "guide_class": "AutoSpikeSlab",
        "guide": first.guide.state_dict(),
        "gate_mode": "frozen",
        "model": first.model.state_dict(),
        "kl_weight": 0.25,
        "history": [{"epoch": 1, "loss": 2.0}],
    }
    torch.save(content, tmp_path / "posterior.pt")
    again = load_posterior(tmp_path / "posterior.pt", network(select_inputs=True))
    assert isinstance(again, GuidePosterior) and again.guide.gate_mode == "frozen"
    assert torch.equal(again.median_model()(inputs()), first.median_model()(inputs()))
    assert again.kl_weight == 0.25 and again.history == [{"epoch": 1, "loss": 2.0}]


def test_files_of_draws_of_before(tmp_path: Path) -> None:
    first, x = sampled(), rows()
    torch.save({"draws_format": 1, "draws": old_draws(first.draws)}, tmp_path / "draws.pt")
    assert_same(load_posterior(tmp_path / "draws.pt"), first.draws)
    content = {"sampled_format": 1, "draws": old_draws(first.draws), "model": first.model.state_dict()}
    torch.save(content, tmp_path / "sampled.pt")
    again = load_posterior(tmp_path / "sampled.pt", sampled_network())
    assert isinstance(again, SampledPosterior) and torch.equal(again.predict(x), first.predict(x))


def test_a_file_of_an_ensemble_of_before(tmp_path: Path) -> None:
    first, x = ensemble(temperature=0.5), ensemble_rows()
    snapshot_contents = [
        {"net": dict(s.model.net.state_dict()), "keep": dict(s.keep), "latent": s.latent} for s in first.snapshots
    ]
    content = {
        "ensemble_format": 1,
        "snapshots": snapshot_contents,
        "history": [{"epoch": 1, "loss": 0.5}],
        "temperature": 0.5,
    }
    torch.save(content, tmp_path / "ensemble.pt")
    again = load_posterior(tmp_path / "ensemble.pt", ensemble_network())
    assert isinstance(again, Ensemble) and again.temperature == 0.5 and again.history == [{"epoch": 1, "loss": 0.5}]
    assert torch.equal(again.predict(x), first.predict(x))


# ---- whatever the kind -----------------------------------------------------------------------------------------------


def test_every_kind_has_a_mark_of_its_own() -> None:
    assert {kind.type for kind in KINDS} == {Draws, *members()}
    assert len({kind.mark for kind in KINDS}) == len(KINDS)


def test_what_a_file_does_not_take_and_what_it_needs(fitted: GuidePosterior, path: Path, tmp_path: Path) -> None:
    untyped: Any = load_posterior
    with pytest.raises(ValueError, match=r"model must be a network made as when .*posterior.pt was saved, got None"):
        load_posterior(path)
    save_posterior(sampled(), tmp_path / "sampled.pt")
    with pytest.raises(ValueError, match="guide must be left out for a file of SampledPosterior, got a AutoSpikeSlab"):
        load_posterior(tmp_path / "sampled.pt", sampled_network(), guide=fitted.guide)
    save_posterior(sampled().draws, tmp_path / "draws.pt")
    with pytest.raises(ValueError, match="guide must be left out for a file of Draws"):
        untyped(tmp_path / "draws.pt", guide=fitted.guide)
    unknown: Any = {"format": 1}
    with pytest.raises(ValueError, match="posterior must be one of GuidePosterior, .*, Draws, got dict"):
        save_posterior(unknown, tmp_path / "unknown.pt")


def test_whole_files_replace_each_other(fitted: GuidePosterior, path: Path) -> None:
    other = posterior_of("normed", prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3), select_inputs=True)
    save_posterior(other, path)
    assert torch.equal(predicted(load_posterior(path, fitted.model)), predicted(other))
    assert [file.name for file in path.parent.iterdir()] == ["posterior.pt"]


def test_an_interrupted_save_loses_nothing(fitted: GuidePosterior, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content: Any, file: Any) -> None:
        file.write(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(KeyboardInterrupt):
        save_posterior(posterior_of(), path)
    assert torch.equal(predicted(load_posterior(path, fitted.model)), predicted(fitted))
    assert [file.name for file in path.parent.iterdir()] == ["posterior.pt"]


def test_no_such_file_or_folder(fitted: GuidePosterior, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path must be a file written by save_posterior, got .*: no such file"):
        load_posterior(tmp_path / "none.pt", fitted.model)
    with pytest.raises(ValueError, match="path must be in a folder that exists"):
        save_posterior(fitted, tmp_path / "none" / "posterior.pt")


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:10], lambda b: b"", lambda b: b"no " * 99])
def test_a_damaged_file(fitted: GuidePosterior, path: Path, damage: Any) -> None:
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match="path must be a file written by save_posterior, got .*damaged"):
        load_posterior(path, fitted.model)


def test_zeroed_bytes_are_found(fitted: GuidePosterior, path: Path) -> None:
    whole = path.read_bytes()
    start = whole.find(next(iter(fitted.guide.parameters())).detach().numpy().tobytes())
    path.write_bytes(whole[:start] + bytes(32) + whole[start + 32 :])
    with pytest.raises(ValueError, match=r"got .*posterior.pt: damaged \(its bytes do not have the SHA-256"):
        load_posterior(path, fitted.model)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"format": 99}, "format 1, got .* in format 99, which a newer version has written"),
        ({"format": torch.ones(2)}, "format 1, got .* in a format that is no number"),
        ({"format": 1}, "'guide_class' in .* must be text, but there is no such field"),
        ([1, 2], "written by save_posterior in format 1, got .*: of another kind"),
        (torch.zeros(3), "written by save_posterior in format 1, got .*: of another kind"),
    ],
)
def test_another_file(fitted: GuidePosterior, tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=words):
        load_posterior(tmp_path / "other.pt", fitted.model)
