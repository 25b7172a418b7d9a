"""OneShot: the settings of a run of method B, as a recipe holds them."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from bnn_pyro.inference.sgmcmc.fit import Sampler, fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.network import SparseNetwork
from bnn_pyro.posterior.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """How a network is sampled and pruned at the same time, for `bnn_pyro.inference.sgmcmc.fit.fit_sghmc`.

    Args:
        sampler: Options of the sampler.
        em: Prior of the groups and rule of removal.
        cycles: Number of cycles of the step size.
        samples_per_cycle: Snapshots taken from each cycle.
        burn_in: Cycles at the start without snapshots.
        tail: Fraction of a cycle, at its end, over which its snapshots are spread.

    Raises:
        ValueError: If the cycles leave none to take snapshots from.
    """

    sampler: Sampler = Sampler()  # noqa: RUF009  (frozen)
    em: GroupEM = GroupEM()  # noqa: RUF009  (frozen)
    cycles: int = 4
    samples_per_cycle: int = 3
    burn_in: int = 0
    tail: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.burn_in < self.cycles:
            raise ValueError(f"burn_in must be below cycles ({self.cycles}) and not negative, got {self.burn_in}")

    def stretched(self, ratio: float, epochs: int) -> "OneShot":
        """Returns the same settings for a longer or shorter run: its warm-up in proportion, no more cycles than epochs.

        Args:
            ratio: New number of epochs over the old one.
            epochs: The new number of epochs.
        """
        em = dataclasses.replace(self.em, warmup=int(self.em.warmup * ratio))
        cycles = min(self.cycles, epochs)
        return dataclasses.replace(self, em=em, cycles=cycles, burn_in=min(self.burn_in, cycles - 1))

    def fit(self, model: SparseNetwork, train: tuple[Tensor, Tensor], **options: Any) -> Ensemble:
        """Fits a network.

        Args:
            model: The network.
            train: (x, y).
            **options: Further options of `fit_sghmc`, such as ``epochs``.

        Returns:
            The snapshots as a posterior.
        """
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return fit_sghmc(model, train, **own, **options)

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "OneShot":
        """Returns the settings that stand in a run's `config.json`.

        Args:
            config: What ``dataclasses.asdict`` has made of the settings, perhaps by way of JSON.
        """
        sampler = {**config["sampler"], "betas": tuple(config["sampler"]["betas"])}
        return cls(**{**config, "sampler": Sampler(**sampler), "em": GroupEM(**config["em"])})
