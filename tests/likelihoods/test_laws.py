"""Laws that every likelihood obeys: its draws are its targets, its moments and scores are those of its density."""

import dataclasses
import inspect
import math
import pickle

import pyro
import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import bnn_pyro.likelihoods
from bnn_pyro.likelihoods import Categorical, Classes, ClassMap, Mixture, Normals, RowWeights
from bnn_pyro.posterior.scores import average, log_scores, scores
from tests.cases import LIKELIHOODS, LikelihoodCase, covered

ROWS, DRAWS = 5, 4000
every_likelihood = pytest.mark.parametrize("case", LIKELIHOODS, ids=str)


def output_of(case: LikelihoodCase, rows: int = ROWS) -> Tensor:
    numbers = torch.Generator().manual_seed(0)
    return torch.randn(rows, *case.output, dtype=torch.float64, generator=numbers)


def latent_of(case: LikelihoodCase) -> Tensor | None:
    with torch.random.fork_rng([]):
        torch.manual_seed(3)
        latent = case.likelihood.prior(like=torch.ones((), dtype=torch.float64))
        return None if latent is None else latent.clamp(0.5, 3.0)


def drawn(case: LikelihoodCase, count: int) -> Tensor:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        found: Tensor = case.likelihood.distribution(output_of(case), latent_of(case)).sample(torch.Size([count]))
    return found


def is_weighted(case: LikelihoodCase) -> bool:
    return bool(getattr(case.likelihood, "weight", None))


def test_every_public_likelihood_has_a_row() -> None:
    public = (getattr(bnn_pyro.likelihoods, name) for name in bnn_pyro.likelihoods.__all__)
    assert {m.__name__ for m in public if inspect.isclass(m) and dataclasses.is_dataclass(m)} <= covered()


@every_likelihood
def test_draws_are_targets(case: LikelihoodCase) -> None:
    y = drawn(case, 3)
    assert y.shape == (3, ROWS, *case.target)
    for targets in y:
        case.likelihood.check(output_of(case), targets)
    density = case.likelihood.distribution(output_of(case), latent_of(case))
    assert density.batch_shape == (ROWS,) and density.event_shape == case.target
    assert density.log_prob(y[0]).shape == (ROWS,) and density.log_prob(y[0]).dtype == torch.float64


@every_likelihood
def test_moments_are_those_of_draws(case: LikelihoodCase) -> None:
    """Of 4,000 draws: means within 5 standard errors, standard deviations within a tenth of themselves."""
    if isinstance(case.likelihood, Categorical | ClassMap | RowWeights):
        return  # the means of labels are no targets, and weights none either
    y = drawn(case, DRAWS).double()
    latent = latent_of(case)
    predicted = case.likelihood.predict(output_of(case).unsqueeze(0), None if latent is None else latent.unsqueeze(0))
    assert isinstance(predicted, Normals | Mixture)
    mean, sd = predicted.moments()
    assert ((y.mean(0) - mean).abs() <= 5 * sd / math.sqrt(DRAWS)).all()
    torch.testing.assert_close(y.std(0), sd, rtol=0.1, atol=0)


@every_likelihood
def test_the_true_output_scores_best(case: LikelihoodCase) -> None:
    """The log score is proper: over 4,000 draws it is higher with the outputs they are of than with others."""
    y = drawn(case, DRAWS)
    scored = [
        float(case.likelihood.distribution(output_of(case) + shift, latent_of(case)).log_prob(y).mean())
        for shift in (0.0, 0.7, -0.7)
    ]
    if isinstance(case.likelihood, Categorical | ClassMap):
        wrong = case.likelihood.distribution(-output_of(case)).log_prob(y).mean()  # a shift of logits changes nothing
        scored = [scored[0], float(wrong)]
    if not is_weighted(case):
        assert max(scored) == scored[0]


@every_likelihood
def test_equal_draws_are_scored_as_one(case: LikelihoodCase) -> None:
    """Of draws that agree the mixture is each of them, and the score of its rows is the density's."""
    latent, y = latent_of(case), drawn(case, 1)[0]
    draws = None if latent is None else latent.expand(3, *latent.shape)
    predicted = case.likelihood.predict(output_of(case).expand(3, *[-1] * (1 + len(case.output))), draws)
    targets = case.likelihood.targets(y) if isinstance(case.likelihood, RowWeights) else y
    each = log_scores(predicted, targets)
    assert scores(predicted, targets)["nll"] == pytest.approx(-float(each.mean()))
    if not is_weighted(case):
        expected = case.likelihood.distribution(output_of(case), latent).log_prob(y)
        torch.testing.assert_close(each, expected)
    if isinstance(predicted, Classes):
        torch.testing.assert_close(predicted.probabilities.sum(1), torch.ones(ROWS, dtype=torch.float64))
    assert average(predicted).shape[0] == ROWS


@every_likelihood
def test_it_never_waits_for_the_device(case: LikelihoodCase) -> None:
    """A fake tensor has no values, so whatever would read one raises; Pyro's validation is on and does not matter."""
    label = isinstance(case.likelihood, Categorical | ClassMap)
    with pyro.validation_enabled(True), FakeTensorMode():
        output = torch.empty(ROWS, *case.output)
        y = torch.empty(ROWS, *case.target, dtype=torch.long if label else torch.float)
        density = case.likelihood.distribution(output, case.likelihood.prior(like=output))
        assert density.expand((ROWS,)).mask(torch.ones(()) > 0).log_prob(y).shape == (ROWS,)


@every_likelihood
def test_copies_are_equal(case: LikelihoodCase) -> None:
    copied = pickle.loads(pickle.dumps(case.likelihood))
    assert copied == case.likelihood and hash(copied) == hash(case.likelihood)
