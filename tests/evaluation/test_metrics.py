"""Metrics: hand computations, scikit-learn, calibrated data, bad input."""

import math
from statistics import NormalDist

import pytest
import torch
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss
from torch import Tensor

from bnn_pyro.evaluation.metrics import (
    class_log_scores,
    classification_metrics,
    coverage_curve,
    normal_log_scores,
    paired_difference,
    regression_metrics,
    reliability_curve,
)

PROBABILITIES = torch.tensor(
    [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.45, 0.25, 0.3], [0.0, 0.0, 1.0]], dtype=torch.float64
)
LABELS = torch.tensor([0, 2, 0, 2])


def random_classes(rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return probabilities and labels drawn from them: perfectly calibrated."""
    generator = torch.Generator().manual_seed(seed)
    p = (2 * torch.randn(rows, 5, dtype=torch.float64, generator=generator)).softmax(1)
    return p, p.multinomial(1, generator=generator).squeeze(1)


def random_normals(draws: int, rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Return a mixture of normals for each row and a target drawn from it: perfectly calibrated."""
    generator = torch.Generator().manual_seed(seed)
    mean = 2 * torch.randn(draws, rows, dtype=torch.float64, generator=generator)
    sd = 0.5 + torch.rand(draws, rows, dtype=torch.float64, generator=generator)
    component = torch.randint(draws, (1, rows), generator=generator)
    noise = torch.randn(1, rows, dtype=torch.float64, generator=generator)
    return mean, sd, (mean.gather(0, component) + sd.gather(0, component) * noise).squeeze(0)


# classification


def test_classification_by_hand() -> None:
    scores = classification_metrics(PROBABILITIES, LABELS)
    assert scores["accuracy"] == 0.75
    assert scores["nll"] == pytest.approx(-(math.log(0.7) + math.log(0.3) + math.log(0.45)) / 4, rel=1e-9)
    brier = (0.09 + 0.04 + 0.01) + (0.01 + 0.36 + 0.49) + (0.3025 + 0.0625 + 0.09) + 0.0
    assert scores["brier"] == pytest.approx(brier / 4, rel=1e-9)
    # the four confidences .7, .6, .45 and 1 lie in four bins of one row each
    assert scores["ece"] == pytest.approx((0.3 + 0.6 + 0.55 + 0.0) / 4, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_classification_against_scikit_learn(dtype: torch.dtype) -> None:
    p, y = random_classes(500)
    scores = classification_metrics(p.to(dtype), y)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert scores["accuracy"] == accuracy_score(y, p.argmax(1))
    assert scores["nll"] == pytest.approx(log_loss(y, p, labels=range(5)), rel=tolerance)
    brier = brier_score_loss(y, p, labels=range(5), scale_by_half=False)
    assert scores["brier"] == pytest.approx(brier, rel=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_impossible_label_costs_a_finite_nll(dtype: torch.dtype) -> None:
    scores = classification_metrics(torch.tensor([[1.0, 0.0]], dtype=dtype), torch.tensor([1]))
    assert scores["nll"] == pytest.approx(-math.log(torch.finfo(dtype).tiny), rel=1e-6)


def test_calibrated_classes_have_a_small_ece() -> None:
    """With 50,000 rows in 15 bins the noise of the ECE is about sqrt(15 / 50,000) · .4 = .006 at the very most."""
    p, y = random_classes(50_000)
    assert classification_metrics(p, y)["ece"] < 0.01
    overconfident = (p**3) / (p**3).sum(1, keepdim=True)
    assert classification_metrics(overconfident, y)["ece"] > 0.1


def test_a_mean_of_softmax_above_one_by_rounding_is_no_logit() -> None:
    above = torch.tensor([[1.0 + 1.2e-7, 0.0], [0.4, 0.6]])
    assert above.max() > 1
    scores = classification_metrics(above, torch.tensor([0, 1]))
    assert scores["accuracy"] == 1.0
    assert scores["ece"] == pytest.approx((0.0 + 0.4) / 2, abs=1e-6)


def test_half_precision_and_other_integers_are_taken() -> None:
    p = torch.tensor([[0.25, 0.75], [0.5, 0.5]], dtype=torch.bfloat16)
    scores = classification_metrics(p, torch.tensor([1, 0], dtype=torch.int32))
    assert scores["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.5)) / 2, rel=1e-6)


def test_metrics_need_no_graph_and_change_nothing() -> None:
    p = PROBABILITIES.clone().requires_grad_()
    classification_metrics(p, LABELS)
    assert p.grad is None and torch.equal(p, PROBABILITIES)


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
def test_reliability_curve_by_a_loop(bins: int) -> None:
    p, y = random_classes(300)
    curve = reliability_curve(p, y, bins)
    confidence, predicted = p.max(1)
    for b in range(bins):
        inside = (confidence >= b / bins) & (confidence < (b + 1) / bins)
        assert curve.counts[b] == inside.sum()
        if inside.any():
            torch.testing.assert_close(curve.confidence[b], confidence[inside].mean())
            torch.testing.assert_close(curve.accuracy[b], (predicted == y)[inside].double().mean())
        else:
            assert curve.confidence[b].isnan() and curve.accuracy[b].isnan()


def test_ece_is_the_area_between_the_reliability_curve_and_the_diagonal() -> None:
    p, y = random_classes(300)
    p[:20] = torch.eye(5, dtype=torch.float64)[torch.arange(20) % 5]  # confidences of exactly 1
    curve = reliability_curve(p, y)
    gap = (curve.counts * (curve.accuracy - curve.confidence).abs()).nansum() / curve.counts.sum()
    assert curve.counts.sum() == 300 and curve.counts.shape == (15,)
    assert classification_metrics(p, y)["ece"] == pytest.approx(gap.item(), abs=1e-6)


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (PROBABILITIES[0], LABELS, "probabilities must have shape"),
        (PROBABILITIES[:0], LABELS[:0], "at least 1 row"),
        (PROBABILITIES[:, :1], LABELS, "2 classes"),
        (PROBABILITIES.unsqueeze(0), LABELS, "average over draws"),
        (PROBABILITIES, LABELS[:3], r"labels must have shape \(4,\)"),
        (PROBABILITIES, LABELS.unsqueeze(1), r"labels must have shape \(4,\)"),
        (PROBABILITIES, LABELS.double(), "labels must be integers"),
        (PROBABILITIES, LABELS + 1, r"labels must be in 0 \.\.\. 2, got 1 \.\.\. 3"),
        (PROBABILITIES, LABELS - 1, r"labels must be in 0 \.\.\. 2, got -1 \.\.\. 1"),
        (PROBABILITIES * 1.002, LABELS, "must sum to 1 in each row"),
        (PROBABILITIES.log().clamp(min=-5), LABELS, "must not be negative"),
        (PROBABILITIES / torch.tensor([[0.0], [1.0], [1.0], [1.0]]), LABELS, "probabilities must be finite"),
    ],
)
def test_bad_classes(probabilities: Tensor, labels: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classification_metrics(probabilities, labels)
    with pytest.raises(ValueError, match=message):
        reliability_curve(probabilities, labels)


def test_rounding_of_the_sum_is_tolerated() -> None:
    assert classification_metrics(PROBABILITIES * 1.0009, LABELS)["accuracy"] == 0.75


# regression


def test_regression_by_hand_on_the_original_scale() -> None:
    mean, sd = torch.tensor([[0.0, 1.0], [2.0, 1.0]]).double(), torch.tensor([[1.0, 2.0], [1.0, 0.5]]).double()
    y = torch.tensor([1.5, -4.0]).double()
    scores = regression_metrics(mean, sd, y, y_std=10.0)
    assert scores["rmse"] == pytest.approx(10 * math.sqrt((0.5**2 + 5.0**2) / 2))
    # the density of the original targets 15 and -40 (any offset cancels) under components ten times as wide
    first = (NormalDist(0, 10).pdf(15) + NormalDist(20, 10).pdf(15)) / 2
    second = (NormalDist(10, 20).pdf(-40) + NormalDist(10, 5).pdf(-40)) / 2
    assert scores["nll"] == pytest.approx(-(math.log(first) + math.log(second)) / 2)
    # the second target is below the .5 % quantile of the mixture
    below = (NormalDist(10, 20).cdf(-40) + NormalDist(10, 5).cdf(-40)) / 2
    assert below < 0.025 and scores["coverage95"] == 0.5


def test_coverage95_ends_at_the_quantile_of_the_mixture() -> None:
    """Of a narrow and a wide normal with one mean: where half of the tails of the two is 2.5 %."""
    mean, sd = torch.zeros(2, 1).double(), torch.tensor([[1e-3], [1.0]]).double()
    edge = NormalDist().inv_cdf(0.95)
    assert edge < 1.96 * math.sqrt(0.5) + 0.3
    for offset, inside in ((-1e-6, 1.0), (1e-6, 0.0)):
        assert regression_metrics(mean, sd, torch.tensor([edge + offset]).double())["coverage95"] == inside
        assert regression_metrics(mean, sd, -torch.tensor([edge + offset]).double())["coverage95"] == inside


def test_one_draw_is_a_plain_normal() -> None:
    mean, sd, y = random_normals(1, 50)
    scores = regression_metrics(mean, sd, y)
    densities = [NormalDist(m, s).pdf(t) for m, s, t in zip(mean[0].tolist(), sd[0].tolist(), y.tolist(), strict=True)]
    assert scores["nll"] == pytest.approx(-sum(map(math.log, densities)) / 50)


def test_nll_far_from_all_draws_is_finite() -> None:
    nll = regression_metrics(torch.zeros(3, 1), torch.full((3, 1), 0.01), torch.tensor([10.0]))["nll"]
    assert nll == pytest.approx(1e6 / 2 + math.log(0.01) + 0.5 * math.log(2 * math.pi), rel=1e-6)


def test_coverage_curve_by_hand() -> None:
    mean, sd = torch.zeros(2, 3, dtype=torch.float64), torch.ones(2, 3, dtype=torch.float64)
    mean[1] = 4.0
    y = torch.tensor([2.0, -9.0, 9.0]).double()  # at the quantiles .5, 0 and 1 of the mixture
    curve = coverage_curve(mean, sd, y + 1e-6 * torch.tensor([-1.0, 0.0, 0.0]).double(), levels=3)
    torch.testing.assert_close(curve.nominal, torch.tensor([0.25, 0.5, 0.75]).double())
    torch.testing.assert_close(curve.observed, torch.tensor([1 / 3, 2 / 3, 2 / 3]).double())


def test_regression_ece_is_the_mean_gap_of_the_curve_at_nineteen_levels() -> None:
    mean, sd, y = random_normals(3, 40)
    curve = coverage_curve(mean, sd, y)
    torch.testing.assert_close(curve.nominal, torch.tensor([k / 20 for k in range(1, 20)]).double())
    components = [[NormalDist(mean[s, n].item(), sd[s, n].item()) for s in range(3)] for n in range(40)]
    below = [sum(component.cdf(y[n].item()) for component in components[n]) / 3 for n in range(40)]
    gaps = [abs(sum(value <= k / 20 for value in below) / 40 - k / 20) for k in range(1, 20)]
    assert regression_metrics(mean, sd, y)["ece"] == pytest.approx(sum(gaps) / 19)


def test_calibrated_normals_have_a_small_ece() -> None:
    """With 20,000 rows an observed level has a sd of .0035 at most, and `coverage95` one of .0015."""
    mean, sd, y = random_normals(4, 20_000)
    assert regression_metrics(mean, sd, y)["ece"] < 0.01
    assert regression_metrics(mean, 4 * sd, y)["ece"] > 0.05
    mean, sd, y = random_normals(1, 20_000)
    assert regression_metrics(mean, sd, y)["coverage95"] == pytest.approx(0.95, abs=0.008)


def test_scaling_targets_and_predictions_alike_changes_no_score() -> None:
    mean, sd, y = random_normals(3, 60)
    given, scaled = regression_metrics(mean, sd, y, y_std=7.0), regression_metrics(7 * mean, 7 * sd, 7 * y)
    assert given == pytest.approx(scaled)


@pytest.mark.parametrize("y_std", [0.0, -1.0, math.nan, math.inf])
def test_bad_y_std(y_std: float) -> None:
    with pytest.raises(ValueError, match="y_std must be positive and finite"):
        regression_metrics(*random_normals(2, 3), y_std=y_std)


MEAN, SD, Y = random_normals(2, 3)


@pytest.mark.parametrize(
    ("mean", "sd", "y", "message"),
    [
        (MEAN[0], SD[0], Y, "mean must have shape"),
        (MEAN[:, :0], SD[:, :0], Y[:0], "at least one of each"),
        (MEAN[:0], SD[:0], Y, "at least one of each"),
        (MEAN, SD[:1], Y, r"sd must have shape \(2, 3\)"),
        (MEAN, SD, Y[:2], r"y must have shape \(3,\)"),
        (MEAN, SD, Y.unsqueeze(1), r"y must have shape \(3,\)"),
        (MEAN * math.nan, SD, Y, "mean must be finite, got 6"),
        (MEAN, SD + math.inf, Y, "sd must be finite"),
        (MEAN, SD, Y * math.nan, "y must be finite"),
        (MEAN, -SD, Y, "sd must be positive"),
        (MEAN, 0 * SD, Y, "sd must be positive"),
    ],
)
def test_bad_normals(mean: Tensor, sd: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        regression_metrics(mean, sd, y)
    with pytest.raises(ValueError, match=message):
        coverage_curve(mean, sd, y)


def test_a_curve_has_at_least_one_point() -> None:
    with pytest.raises(ValueError, match="bins must be at least 1"):
        reliability_curve(PROBABILITIES, LABELS, 0)
    with pytest.raises(ValueError, match="levels must be at least 1"):
        coverage_curve(MEAN, SD, Y, 0)


# scores of rows and their differences


def test_log_scores_have_minus_the_nll_as_their_mean() -> None:
    p, y = random_classes(200)
    assert float(class_log_scores(p, y)[3]) == pytest.approx(math.log(float(p[3, y[3]])))
    assert -float(class_log_scores(p, y).mean()) == pytest.approx(classification_metrics(p, y)["nll"], rel=1e-12)
    mean, sd, targets = random_normals(5, 200)
    found = normal_log_scores(mean, sd, targets, y_std=3.0)
    density = [NormalDist(float(m), float(s)).pdf(float(targets[7])) for m, s in zip(mean[:, 7], sd[:, 7], strict=True)]
    assert float(found[7]) == pytest.approx(math.log(sum(density) / 5 / 3))
    assert -float(found.mean()) == pytest.approx(regression_metrics(mean, sd, targets, y_std=3.0)["nll"], rel=1e-12)
    with pytest.raises(ValueError, match="y_std must be positive and finite, got 0"):
        normal_log_scores(mean, sd, targets, y_std=0.0)


def test_paired_difference_by_hand() -> None:
    first, second = torch.tensor([1.0, 4.0, 7.0]), torch.tensor([0.0, 2.0, 4.0])
    mean, error = paired_difference(first, second)
    assert mean == 2.0 and error == pytest.approx(math.sqrt(1 / 3))
    assert paired_difference(first, first + 5) == (-5.0, 0.0)  # what all rows share is certain
    mean, error = paired_difference(first[:1], second[:1])
    assert mean == 1.0 and math.isnan(error)


@pytest.mark.parametrize("shapes", [((3,), (2,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_paired_difference_refuses(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="must have one shape"):
        paired_difference(*map(torch.zeros, shapes))


# weights of rows: those of repeated rows


def repeats(rows: int) -> tuple[Tensor, Tensor]:
    """Return whole weights, some of them 0, and the row numbers that each is repeated by."""
    weight = torch.randint(4, (rows,), generator=torch.Generator().manual_seed(1))
    return weight, torch.arange(rows).repeat_interleave(weight)


def test_weighted_scores_are_those_of_repeated_rows() -> None:
    weight, twice = repeats(300)
    p, labels = random_classes(300)
    found = classification_metrics(p, labels, weight=weight)
    assert found == pytest.approx(classification_metrics(p[twice], labels[twice]), abs=1e-6)
    assert found != pytest.approx(classification_metrics(p, labels), abs=1e-3)
    mean, sd, y = random_normals(4, 300)
    scores = regression_metrics(mean, sd, y, y_std=3.0, weight=weight)
    assert scores == pytest.approx(regression_metrics(mean[:, twice], sd[:, twice], y[twice], y_std=3.0), rel=1e-6)
    curve, repeated = (
        coverage_curve(mean, sd, y, weight=weight),
        coverage_curve(mean[:, twice], sd[:, twice], y[twice]),
    )
    torch.testing.assert_close(curve.observed, repeated.observed)


def test_weighted_differences_of_pairs() -> None:
    weight, twice = repeats(300)
    one, two = torch.randn(2, 300, generator=torch.Generator().manual_seed(2))
    found, expected = paired_difference(one, two, weight=weight), paired_difference(one[twice], two[twice])
    assert found[0] == pytest.approx(expected[0]) and found[1] > expected[1]  # repeated rows are no independent ones
    assert paired_difference(one, two, weight=torch.ones(300)) == pytest.approx(paired_difference(one, two))
    with pytest.raises(ValueError, match=r"weight must have shape \(300,\)"):
        classification_metrics(*random_classes(300), weight=weight[:4])
