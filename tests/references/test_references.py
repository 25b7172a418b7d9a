"""Kernels on posteriors with published moments: some in seconds, and with ``-m reference`` all of them."""

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from tests.references.catalogue import NAMES, posterior
from tests.references.kernels import PLANS, run
from tests.references.posterior import LIMIT, compare, load

SHORT = {
    "chees": ("kidiq-kidscore_momhs", SamplingPlan(kernel="chees", chains=16, warmup=150, draws=60)),
    "mams": ("schools", SamplingPlan(kernel="mams", chains=16, warmup=150, draws=60)),
    "mclmc": ("sesame_data-sesame_one_pred_a", SamplingPlan(kernel="mclmc", chains=16, warmup=600, draws=100)),
    "nuts": ("dogs-dogs_hierarchical", SamplingPlan(kernel="nuts", chains=2, warmup=100, draws=100)),
}


@pytest.mark.parametrize("kernel", SHORT)
def test_published_moments(kernel: str) -> None:
    name, plan = SHORT[kernel]
    moment, z = run(name, kernel, plan=plan).comparison.largest
    assert abs(z) < LIMIT, f"{moment} is {z} errors off"


@pytest.mark.reference
@pytest.mark.parametrize("kernel", PLANS)
@pytest.mark.parametrize("name", NAMES)
def test_all_published_moments(name: str, kernel: str) -> None:
    """What is off says so: a moment beyond the limit comes with a warning."""
    outcome = run(name, kernel)
    moment, z = outcome.comparison.largest
    assert abs(z) < LIMIT or outcome.warnings, f"{moment} is {z} errors off, and nothing was said"


@pytest.mark.parametrize("name", NAMES)
def test_summaries_are_of_the_quantities(name: str) -> None:
    """Each posterior is made, and its moments and their errors are as many as the names."""
    it = posterior(name)
    summary = load("summaries")[it.summary]
    sizes = {key: len(value) for key, value in summary.items() if key != "source"}
    assert set(sizes.values()) == {len(summary["names"])}
    assert ("square" in summary) != ("sd" in summary)


def _draws(sd: float, shift: float) -> Tensor:
    summary = load("summaries")["arma-arma11"]
    mean, square = (torch.tensor(summary[key], dtype=torch.float64) for key in ("mean", "square"))
    noise = torch.randn(4, 500, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return mean + (square - mean.square()).sqrt() * (shift + sd * noise)


def test_moments_that_are_off_are_seen() -> None:
    """Independent draws of the published moments pass; a shift of .3 and a scale of 1.3 standard deviations do not."""
    assert abs(compare("arma-arma11", _draws(1.0, 0.0)).largest[1]) < LIMIT
    moment, z = compare("arma-arma11", _draws(1.0, 0.3)).largest
    assert abs(z) > LIMIT and moment.startswith("mean")
    moment, z = compare("arma-arma11", _draws(1.3, 0.0)).largest
    assert abs(z) > LIMIT and moment.startswith("mean square")


def test_as_many_quantities_as_the_summary_names() -> None:
    with pytest.raises(ValueError, match="quantities must be those of arma-arma11, 4, got 3"):
        compare("arma-arma11", torch.zeros(2, 10, 3))
