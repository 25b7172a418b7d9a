"""What all posteriors do alike, whether a guide, Markov chains or snapshots hold them."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

import bnn_pyro.posterior
from bnn_pyro import prune
from bnn_pyro.evaluation import ClassProbabilities, NormalMixture
from bnn_pyro.evaluation.metrics import classification_metrics
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.ensemble import Ensemble
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from tests.posterior.permuted import permuted
from tests.posterior.test_ensemble import ensemble
from tests.posterior.test_guide import posterior_of
from tests.posterior.test_sampled import sampled

KINDS: dict[type[Posterior], Callable[[], Posterior]] = {
    GuidePosterior: lambda: posterior_of(select_inputs=True),
    SampledPosterior: sampled,
    Ensemble: ensemble,
}
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def members() -> set[type[Posterior]]:
    """All kinds of posteriors in the package."""
    for module in pkgutil.walk_packages(bnn_pyro.posterior.__path__, "bnn_pyro.posterior."):
        importlib.import_module(module.name)
    found, new = set[type[Posterior]](), Posterior.__subclasses__()
    while new:
        found.update(new)
        new = [below for kind in new for below in kind.__subclasses__()]
    return {kind for kind in found if kind.__module__.startswith("bnn_pyro.")}


def rows(posterior: Posterior, size: int = 9) -> Tensor:
    return torch.randn(size, *posterior.model.input_shape, dtype=torch.float64)


def test_kinds_stand_beside_each_other() -> None:
    assert members() == set(KINDS)
    assert all(kind.__bases__ == (Posterior,) for kind in KINDS)
    with pytest.raises(TypeError, match="abstract"):
        Posterior(sampled().model)  # type: ignore[abstract]


@every_kind
def test_no_kind_carries_what_it_has_not(kind: type[Posterior]) -> None:
    """A guide, or a way to shrink, only where there is one."""
    posterior = KINDS[kind]()
    assert hasattr(posterior, "guide") == hasattr(posterior, "shrink") == (kind is GuidePosterior)
    assert not inspect.isabstract(kind)


@every_kind
def test_how_many_draws_and_chains(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    expected = {GuidePosterior: (None, 1), SampledPosterior: (10, 2), Ensemble: (3, 1)}[kind]
    assert (posterior.num_draws, posterior.chains) == expected
    drawn = posterior.predict(rows(posterior), return_draws=True)
    assert isinstance(drawn, Classes) and len(drawn.draws) == (posterior.num_draws or 32)
    sizes = {len(is_open) for is_open in posterior.gate_draws().values()}
    assert sizes == {posterior.num_draws or 4000}


@every_kind
def test_predictions_are_means_of_the_draws(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    x = rows(posterior)
    torch.manual_seed(3)
    mean = posterior.predict(x, num_samples=2)
    torch.manual_seed(3)
    drawn = posterior.predict(x, num_samples=2, batch_size=4, return_draws=True)
    assert isinstance(drawn, Classes) and drawn.draws.shape == (2, 9, 3)
    torch.testing.assert_close(mean, drawn.draws.mean(0))
    assert posterior.is_classification


@every_kind
def test_evaluates_the_median_model_and_draws(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    x, y = rows(posterior), torch.randint(3, (9,))
    of_median = classification_metrics(posterior.median_model()(x).softmax(-1), y)
    assert posterior.evaluate_median(x, y) == pytest.approx(of_median)
    assert posterior.evaluate_median(x, y, batch_size=4) == pytest.approx(of_median)
    for num_samples in (None, 3):
        torch.manual_seed(3)
        found = posterior.evaluate(x, y, num_samples=num_samples)
        torch.manual_seed(3)
        assert found == pytest.approx(classification_metrics(posterior.predict(x, num_samples=num_samples), y))
    assert list(found) == list(of_median)


@every_kind
def test_rows_to_score_come_in_all_forms_and_may_have_weights(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    x, y, weight = rows(posterior), torch.randint(3, (9,)), torch.arange(9) % 3
    twice = torch.arange(9).repeat_interleave(weight)
    median = posterior.evaluate_median(x, y)
    loader = DataLoader(TensorDataset(x, y), batch_size=4)
    assert posterior.evaluate_median((x, y)) == posterior.evaluate_median(loader) == median
    assert posterior.evaluate_median((x.float().numpy(), y.numpy())) == pytest.approx(median, rel=1e-4)
    weighted = posterior.evaluate_median(x, y, weight=weight)
    assert weighted == pytest.approx(posterior.evaluate_median(x[twice], y[twice]), rel=1e-5, abs=1e-6)
    assert weighted == posterior.evaluate_median(DataLoader(TensorDataset(x, y, weight), batch_size=4))
    torch.manual_seed(3)
    drawn = posterior.evaluate((x, y, weight), num_samples=2)
    torch.manual_seed(3)
    assert drawn == posterior.evaluate(x, y, weight=weight.numpy(), num_samples=2)
    with pytest.raises(ValueError, match="weight must be None where x holds weights of the rows, got both"):
        posterior.evaluate((x, y, weight), weight=weight)
    with pytest.raises(ValueError, match=r"weight must have shape \(9,\)"):
        posterior.evaluate(x, y, weight=weight[:3])
    with pytest.raises(ValueError, match="x must be a pair"):
        posterior.evaluate(x)


@every_kind
def test_scores_do_not_depend_on_the_numbers_of_nodes(kind: type[Posterior]) -> None:
    """Chains, and snapshots, know hidden nodes by other numbers: the median model is as good as any one draw."""
    posterior, (x, y) = permuted(kind)
    torch.manual_seed(3)
    mean = posterior.predict(x)
    torch.manual_seed(3)
    drawn = posterior.predict(x, return_draws=True)
    assert isinstance(mean, Tensor) and isinstance(drawn, Normals)
    each = (drawn.mean - y).square().mean(-1).sqrt()
    torch.manual_seed(3)
    scored, median = posterior.evaluate(x, y), posterior.evaluate_median(x, y)
    assert scored["rmse"] == pytest.approx(float((mean - y).square().mean().sqrt())) and scored["rmse"] < 0.12
    assert median.keys() == scored.keys() and torch.tensor(list(median.values())).isfinite().all()
    small = prune(posterior).requires_grad_(False)
    assert median["rmse"] == pytest.approx(float((small(x).squeeze(-1) - y).square().mean().sqrt()))
    assert median["rmse"] < 1.1 * float(each.median()) and median["nll"] < scored["nll"] + 0.05
    torch.testing.assert_close(small(x), posterior.median_model()(x))


@every_kind
def test_predictive_distributions_agree_with_predictions(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    x, y = rows(posterior), torch.randint(3, (9,))
    torch.manual_seed(3)
    of = posterior.predictive(x, num_samples=3, batch_size=4)
    torch.manual_seed(3)
    mean = posterior.predict(x, num_samples=3)
    assert isinstance(of, ClassProbabilities) and of.draws == 3
    torch.testing.assert_close(of.mean, mean)
    torch.manual_seed(3)
    assert -float(of.log_prob(y).mean()) == pytest.approx(posterior.evaluate(x, y, num_samples=3)["nll"], rel=1e-9)


@every_kind
def test_predictive_distributions_are_in_original_units(kind: type[Posterior]) -> None:
    posterior, (x, y) = permuted(kind)
    torch.manual_seed(3)
    of = posterior.predictive(x, num_samples=4, y_mean=50.0, y_std=7.0)
    torch.manual_seed(3)
    drawn = posterior.predict(x, num_samples=4, return_draws=True)
    assert isinstance(of, NormalMixture) and isinstance(drawn, Normals)
    mean, std = drawn.moments()
    torch.testing.assert_close(of.mean, 50 + 7 * mean)
    torch.testing.assert_close(of.std, 7 * std)
    torch.manual_seed(3)
    scored = posterior.evaluate(x, y, num_samples=4, y_std=7.0)
    original = 50 + 7 * y
    assert -float(of.log_prob(original).mean()) == pytest.approx(scored["nll"], rel=1e-6)
    assert float(of.crps(original).mean()) == pytest.approx(scored["crps"], rel=1e-6)
    low, high = of.interval(0.9)
    assert float(((original >= low) & (original <= high)).double().mean()) == scored["coverage90"]
    assert float((high - low).mean()) == pytest.approx(scored["width90"], rel=1e-6)


@every_kind
def test_inclusion_is_how_often_gates_are_open(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    drawn, gammas = posterior.gate_draws(), posterior.inclusion()
    assert list(drawn) == list(gammas) == list(posterior.model.groups)
    for name, gamma in gammas.items():
        assert drawn[name].dtype == torch.bool and gamma.shape == (posterior.model.groups[name].size,)
        assert (drawn[name].double().mean(0) - gamma).abs().max() < 0.05  # 6 standard errors of a guide's draws


@every_kind
def test_masks_are_those_given_and_its_own(kind: type[Posterior], monkeypatch: pytest.MonkeyPatch) -> None:
    posterior = KINDS[kind]()
    own = posterior.keep()
    given = {"hidden1": ~own["hidden1"]}
    found = posterior.masks(given)
    assert all(torch.equal(found[name], given.get(name, own[name])) for name in posterior.model.groups)
    monkeypatch.setattr(kind, "keep", lambda self: pytest.fail("keep is not needed where all masks are given"))
    assert posterior.masks(found).keys() == found.keys()
    with pytest.raises(ValueError, match="keep must be masks of the groups"):
        posterior.masks({"hidden9": own["hidden1"]})


@every_kind
def test_prune_gives_the_median_model(kind: type[Posterior], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its masks are found once."""
    posterior, calls = KINDS[kind](), 0
    x, whole, keep = rows(posterior), posterior.median_model(), posterior.keep()

    def counted(self: Posterior) -> dict[str, Tensor]:
        nonlocal calls
        calls += 1
        return keep

    monkeypatch.setattr(kind, "keep", counted)
    torch.testing.assert_close(prune(posterior)(x), whole(x), rtol=0, atol=1e-12)
    assert calls == 1


@every_kind
def test_the_median_net_stands_without_a_selection(kind: type[Posterior]) -> None:
    posterior = KINDS[kind]()
    assert type(posterior.median_net()) is type(posterior.model.net)
    assert posterior.median_net()(rows(posterior)).shape == (9, 3)


def test_the_median_net_of_a_shrunk_posterior_takes_the_inputs_that_are_left() -> None:
    small = posterior_of(select_inputs=True).shrink()
    assert small.model.selection is not None
    x = rows(small)
    inner = small.median_net()(x[:, small.model.selection])
    torch.testing.assert_close(inner, small.median_model()(x))
    pruned: Any = prune(small)
    assert torch.equal(pruned.select.index, small.model.selection[small.keep()["inputs"]])
