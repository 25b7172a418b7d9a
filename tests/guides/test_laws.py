"""Laws that every guide obeys on every prior: sites, dtypes, gradients, copies, predictions."""

import copy
import io
from typing import Any

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import Predictive, Trace_ELBO, TraceMeanField_ELBO
from torch import Tensor

import guides
from bnn_pyro.inference.svi.elbo import SparseELBO
from guides import AutoProgram
from tests.cases import COMPOSED, FAN_IN, GUIDES, PRIORS, GuideCase, PriorCase, covered
from tests.models import perturbed

DTYPES = (torch.float32, torch.float64)


class Regression:
    """Regression on the weights that a prior samples; at module level, so that it can be pickled by name."""

    def __init__(self, case: PriorCase, dtype: torch.dtype = torch.float64) -> None:
        self.case, self.dtype = case, dtype

    def __call__(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        w = self.case.program(self.dtype)
        total = w.sum([*range(-len(self.case.shape), 0)]) if self.case.shape else w
        mean = (total.reshape(-1, 1) if total.dim() else total) * x[
            :, 0
        ]  # many draws at once come as (draws,), (draws, 1)
        with pyro.plate("data", len(x)):
            observed: Tensor = pyro.sample("y", dist.Normal(mean, 1.0), obs=y)
        return observed


def data(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    x = torch.randn(6, FAN_IN, dtype=dtype)
    return x, x[:, 0] + 0.1


def made(guide: GuideCase, prior: PriorCase, dtype: torch.dtype = torch.float64, **options: Any) -> AutoProgram:
    return perturbed(guide.guide(Regression(prior, dtype), *data(dtype), **options))


guide_and_prior = pytest.mark.parametrize(("guide", "prior"), [(g, p) for g in GUIDES for p in PRIORS], ids=str)
guide_and_composed = pytest.mark.parametrize(("guide", "prior"), [(g, p) for g in GUIDES for p in COMPOSED], ids=str)


def test_every_public_member_has_a_row() -> None:
    assert set(guides.__all__) <= covered()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@guide_and_prior
def test_draws_have_the_sites_shapes_and_dtype(guide: GuideCase, prior: PriorCase, dtype: torch.dtype) -> None:
    answer = made(guide, prior, dtype)
    draws = answer(*data(dtype))
    assert {name: tuple(value.shape) for name, value in draws.items()} == prior.sites
    assert {value.dtype for value in draws.values()} == {dtype}
    assert {p.dtype for p in answer.parameters()} | {answer.temperature.dtype} == {dtype}
    medians = answer.median(*data(dtype))
    assert {name: tuple(value.shape) for name, value in medians.items()} == prior.sites
    assert not any(value.requires_grad for value in medians.values())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@guide_and_prior
def test_gradients_reach_every_parameter(guide: GuideCase, prior: PriorCase, dtype: torch.dtype) -> None:
    answer = made(guide, prior, dtype)
    for elbo in (SparseELBO(), TraceMeanField_ELBO(), Trace_ELBO()):
        loss = elbo.differentiable_loss(answer.model, answer, *data(dtype))
        slopes = torch.autograd.grad(loss, list(answer.parameters()))
        assert all(torch.isfinite(slope).all() for slope in (loss, *slopes))
        assert all(slope.abs().sum() > 0 for slope in slopes)


@guide_and_prior
def test_parameters_exist_at_once_and_each_has_a_role(guide: GuideCase, prior: PriorCase) -> None:
    with pyro.get_param_store().scope() as store:
        answer = guide.guide(Regression(prior), *data())
        assert not store["params"], "construction must not write to the parameter store"
    found = {(role, site): tuple(p.shape) for role, site, p in answer.named_site_parameters()}
    expected = {}
    for site, shape in prior.sites.items():
        for role in ("logits",) if answer.kinds[site] == "gate" else ("locs", "scales"):
            expected[role, site] = shape
    assert found == expected
    groups = answer.parameter_groups()
    assert {id(p) for group in groups.values() for p in group} == {id(p) for p in answer.parameters()}
    assert sum(map(len, groups.values())) == len(list(answer.parameters()))


@guide_and_composed
def test_state_round_trip(guide: GuideCase, prior: PriorCase) -> None:
    one = made(guide, prior, temperature=0.3)
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    two = guide.guide(Regression(prior), *data())
    two.load_state_dict(torch.load(file))
    assert two.temperature == one.temperature
    torch.testing.assert_close(dict(two.named_parameters()), dict(one.named_parameters()))
    torch.testing.assert_close(two.median(*data()), one.median(*data()))


def draws(guide: AutoProgram) -> dict[str, Tensor]:
    torch.manual_seed(5)
    found: dict[str, Tensor] = guide(*data())
    return found


@guide_and_composed
def test_a_copy_stands_on_its_own(guide: GuideCase, prior: PriorCase) -> None:
    """A deep copy runs beside its original, in the same parameter store, and shares no parameter with it."""
    one = made(guide, prior)
    before = draws(one)
    two, three = copy.deepcopy(one), copy.deepcopy(one)
    torch.testing.assert_close(draws(two), before)
    perturbed(two, seed=8)
    assert not {p.data_ptr() for p in one.parameters()} & {p.data_ptr() for p in two.parameters()}
    torch.testing.assert_close(draws(one), before)
    torch.testing.assert_close(draws(three), before)
    assert any(not torch.equal(a, b) for a, b in zip(draws(two).values(), before.values(), strict=True))
    assert two.state_dict().keys() == one.state_dict().keys()
    torch.testing.assert_close(draws(copy.deepcopy(two)), draws(two))


@guide_and_composed
def test_median_is_gates_by_majority_and_slabs_at_their_means(guide: GuideCase, prior: PriorCase) -> None:
    answer = made(guide, prior)
    values, named = answer.median(*data()), dict(answer.named_pyro_params())
    assert torch.equal(values["w.gate"], (answer.inclusion()["w.gate"] > 0.5).double())
    for site, kind in answer.kinds.items():
        if kind == "scale":
            torch.testing.assert_close(values[site], named[f"locs.{site}"].exp().detach())
    torch.manual_seed(0)
    torch.testing.assert_close(answer.median(*data()), values)


@pytest.mark.parametrize("parallel", [False, True])
@guide_and_composed
def test_predictions_without_observations(guide: GuideCase, prior: PriorCase, parallel: bool) -> None:
    """``Predictive(model, guide=guide)`` draws what was observed at construction, draw by draw or all at once."""
    answer = made(guide, prior)
    x, _ = data()
    found = Predictive(answer.model, guide=answer, num_samples=7, parallel=parallel)(x)
    assert found["y"].shape == (7, len(x))
    for site, shape in prior.sites.items():
        assert found[site].shape == (7, *([1] if parallel else []), *shape) or found[site].shape == (7, 1, *shape)
        flat = found[site].reshape(7, -1)
        assert answer.kinds[site] == "gate" or len(flat.unique(dim=0)) == 7
    assert Predictive(answer.model, guide=answer, num_samples=3, return_sites=["y"])(x).keys() == {"y"}


@pytest.mark.parametrize("guide", GUIDES, ids=str)
def test_vectorised_particles(guide: GuideCase) -> None:
    """Many particles in a plate around model and guide estimate the bound as single ones do; at 5 standard errors."""
    answer = made(guide, COMPOSED[-1])
    together = TraceMeanField_ELBO(num_particles=500, vectorize_particles=True, max_plate_nesting=1)
    x, y = data()
    one = torch.tensor([TraceMeanField_ELBO().loss(answer.model, answer, x, y) for _ in range(60)])
    two = torch.tensor([together.loss(answer.model, answer, x, y) for _ in range(4)])
    error = one.std() * (1 / 60 + 1 / 2000) ** 0.5
    assert (one.mean() - two.mean()).abs() < 5 * error


@guide_and_composed
def test_casting_a_guide(guide: GuideCase, prior: PriorCase) -> None:
    answer = made(guide, prior, torch.float32).double()
    answer.model = Regression(prior)
    assert {value.dtype for value in answer(*data()).values()} == {torch.float64}
