"""PathPlan: how the KL weight of a run is chosen by a sparsity path."""

from dataclasses import dataclass

from bnn_pyro.arguments import check_flags, check_reals
from bnn_pyro.sparsity_path import KL_WEIGHTS, check_kl_weights


@dataclass(frozen=True, kw_only=True)
class PathPlan:
    """How the KL weight of a run is chosen, by :func:`~bnn_pyro.sparsity_path.sparsity_path`.

    Args:
        kl_weights: The KL weights to choose from.
        validation: Fraction of the training rows that are scored, where the data have no validation rows.
        refine: Whether the pruned network of each point is sampled, and scored by its posterior.

    Raises:
        ValueError: If there is no KL weight, one is not positive, or the fraction does not lie in (0, 1).
    """

    kl_weights: tuple[float, ...] = KL_WEIGHTS
    validation: float = 0.2
    refine: bool = False

    def __post_init__(self) -> None:
        check_kl_weights(self.kl_weights)
        check_reals({"path.validation": self.validation})
        check_flags({"path.refine": self.refine})
        if not 0 < self.validation < 1:
            raise ValueError(f"path.validation must lie in (0, 1), got {self.validation}")
