"""HeteroscedasticNoise: its density and its prediction."""

import torch

from bnn_pyro.likelihoods import HeteroscedasticNoise
from tests.likelihoods.targets import normal_log_density, output_of, targets_of


def test_heteroscedastic_density_has_softplus_scales_and_their_floor() -> None:
    output, y = output_of(2), targets_of(2)
    expected = normal_log_density(y, output[:, 0], (1 + output[:, 1].exp()).log() + 0.25)
    torch.testing.assert_close(HeteroscedasticNoise(0.25).distribution(output).log_prob(y), expected)
    lowest = HeteroscedasticNoise(0.25).distribution(torch.tensor([[0.0, -1e4]], dtype=torch.float64))
    assert lowest.stddev.item() == 0.25


def test_heteroscedastic_prediction_is_the_mean_and_scale_of_the_distribution() -> None:
    draws = torch.stack([output_of(2), -output_of(2)])
    prediction, density = HeteroscedasticNoise().predict(draws), HeteroscedasticNoise().distribution(draws)
    torch.testing.assert_close(prediction.mean, density.mean)
    torch.testing.assert_close(prediction.sd, density.stddev)
