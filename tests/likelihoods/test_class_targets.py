"""Class labels with weights of the classes and with gaps: torch's own cross entropy, at any batch shape."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from bnn_pyro.likelihoods.class_targets import GAP, ClassTargets

WEIGHT = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
LOGITS = torch.randn(4, 3, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(0, 3, (4, 5, 2), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["alike", "weighted"])
def test_density_is_minus_the_weighted_cross_entropy(weight: torch.Tensor | None) -> None:
    found = ClassTargets(LOGITS, 2, weight=weight).log_prob(LABELS)
    expected = -cross_entropy(LOGITS, LABELS, weight=weight, reduction="none").sum((1, 2))
    torch.testing.assert_close(found, expected)


def test_gaps_add_nothing() -> None:
    y = LABELS.masked_fill(torch.arange(5).unsqueeze(1) % 2 == 0, GAP)
    found = ClassTargets(LOGITS, 2, weight=WEIGHT, missing=True).log_prob(y)
    expected = -cross_entropy(LOGITS, y, weight=WEIGHT, reduction="none", ignore_index=GAP).sum((1, 2))
    torch.testing.assert_close(found, expected)


def test_draws_broadcast_with_labels_and_expansion_with_draws() -> None:
    draws = torch.stack([LOGITS, 2 * LOGITS])
    found = ClassTargets(draws, 2).log_prob(LABELS)
    torch.testing.assert_close(found, torch.stack([ClassTargets(each, 2).log_prob(LABELS) for each in draws]))
    expanded = ClassTargets(LOGITS[:1], 2, weight=WEIGHT).expand(torch.Size([4]))
    assert expanded.batch_shape == (4,) and expanded.event_shape == (5, 2)
    torch.testing.assert_close(
        expanded.log_prob(LABELS), ClassTargets(LOGITS[:1].expand(4, -1, -1, -1), 2, weight=WEIGHT).log_prob(LABELS)
    )


def test_moments_are_those_of_the_indicators_of_classes() -> None:
    targets = ClassTargets(LOGITS, 2)
    torch.testing.assert_close(targets.mean, LOGITS.softmax(1))
    torch.testing.assert_close(targets.variance, LOGITS.softmax(1) * (1 - LOGITS.softmax(1)))
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        drawn = targets.sample(torch.Size([4000]))
    assert drawn.shape == (4000, 4, 5, 2)
    torch.testing.assert_close((drawn == 1).double().mean(0), targets.mean[:, 1], atol=0.04, rtol=0)
