"""Poisson: counts whose variance is their mean."""

from dataclasses import dataclass

from torch import Tensor

from bnn_pyro.likelihoods.checks import check_column, check_counts
from bnn_pyro.likelihoods.counts import PoissonCounts
from bnn_pyro.likelihoods.mixture import Mixture
from bnn_pyro.likelihoods.target_metrics import count_metrics
from bnn_pyro.likelihoods.targets import Targets


@dataclass(frozen=True)
class Poisson:
    """Counts whose log rate is the network's output: ``y ~ Poisson(exp(f(x)))``, with mean and variance ``exp(f(x))``.

    Counts that vary more than that need `NegativeBinomial`.
    """

    def prior(self, *, like: Tensor | None = None) -> None:
        """Sample nothing: there is no latent.

        Args:
            like: Not used.
        """

    def distribution(self, output: Tensor, latent: Tensor | None = None) -> Targets:
        """Return ``Poisson(exp(output))``.

        Args:
            output: Log rates, ``(*batch, 1)``.
            latent: Not used.
        """
        return Targets(PoissonCounts(output.squeeze(-1)), 0)

    def check(self, output: Tensor, y: Tensor | None = None) -> None:
        """Check log rates ``(rows, 1)`` and counts ``(rows,)``, whole numbers from 0 of any dtype.

        Args:
            output: Log rates.
            y: Counts.

        Raises:
            ValueError: If a shape or value is another.
        """
        check_column(output, "the log rate")
        if y is not None:
            check_counts(y, len(output))

    def predict(self, output: Tensor, latent: Tensor | None = None) -> Mixture:
        """Return the distribution of the counts in each draw.

        Args:
            output: Log rates, ``(draws, rows, 1)``.
            latent: Not used.
        """
        return Mixture(self.distribution(output), count_metrics)
