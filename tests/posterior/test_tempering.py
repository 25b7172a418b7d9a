"""What is said of a posterior that is not Bayes' own, and nothing of one that is."""

import pytest

from bnn_pyro.posterior.tempering import Temperature, tempering


@pytest.mark.parametrize(
    ("kl_weight", "temperature", "words"),
    [
        (1.0, None, ""),
        (0.05, None, "tempered (cold) posterior, KL weight 0.05"),
        (1.0, "cooled", "draws of a cooled sampler"),
        (1.0, "adapted", "draws of a sampler that adapts its prior or its preconditioner to them"),
        (1.0, 0.5, "draws at temperature 0.5"),
        (1.0, 1.0, ""),
    ],
)
def test_words(kl_weight: float, temperature: Temperature | None, words: str) -> None:
    assert tempering(kl_weight, temperature) == words
