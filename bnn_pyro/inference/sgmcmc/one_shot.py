"""OneShot: how a network is sampled and pruned at the same time."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bnn_pyro.arguments import check_reals, check_types, check_whole, check_wholes
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.posterior.tempering import Temperature


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """How a network is sampled and pruned at the same time, by :func:`~bnn_pyro.inference.sgmcmc.fit.fit_sghmc`.

    The posterior itself asks for ``sampler=Sampler(temperature=1.0, eta=0.0)`` and ``em=None``. An EM moves the prior
    to where the weights are; a preconditioner that goes on adapting (``eta`` above 0) follows the draws and runs to 1
    for every weight, so that the error of a step doubles. Snapshots of one cycle's end, where steps are small, lie
    close together: take them from many cycles.

    Args:
        sampler: Options of the sampler.
        em: Prior of the groups and rule of removal; None prunes nothing.
        cycles: Number of cycles; in each the step size falls from its first value to 0.
        samples_per_cycle: Snapshots taken from each cycle.
        burn_in: Cycles at the start without snapshots, which are to find the nodes.
        tail: Fraction of a cycle, at its end, over which its snapshots are spread; the last one is always at the end.

    Raises:
        ValueError: If a number is out of range, or the cycles leave none to take snapshots from.
    """

    sampler: Sampler = Sampler()  # noqa: RUF009  (frozen)
    em: GroupEM | None = GroupEM()  # noqa: RUF009  (frozen)
    cycles: int = 4
    samples_per_cycle: int = 3
    burn_in: int = 0
    tail: float = 0.1

    def __post_init__(self) -> None:
        check_types({"sampler": (self.sampler, Sampler)} | ({} if self.em is None else {"em": (self.em, GroupEM)}))
        check_wholes({name: getattr(self, name) for name in ("cycles", "samples_per_cycle")})
        check_whole("burn_in", self.burn_in, 0)
        check_reals({"tail": self.tail})
        if not 0 <= self.burn_in < self.cycles:
            raise ValueError(
                f"burn_in must leave a cycle of the {self.cycles} to take snapshots from, got {self.burn_in}"
            )
        if not 0 <= self.tail <= 1:
            raise ValueError(f"tail must be a fraction of a cycle, in [0, 1], got {self.tail}")

    @property
    def temperature(self) -> Temperature:
        """Temperature of the draws relative to the posterior's; ``"adapted"`` in place of 1 where anything adapts."""
        adapts = self.em is not None or self.sampler.eta > 0
        return "adapted" if self.sampler.temperature == 1 and adapts else self.sampler.temperature

    def epochs_of_snapshots(self, epochs: int) -> set[int]:
        """Return after which epochs, counted from 0, a snapshot is taken.

        Args:
            epochs: Number of epochs of the run.
        """
        taken = set()
        for cycle in range(self.burn_in, self.cycles):
            begin, end = (round(epochs * c / self.cycles) for c in (cycle, cycle + 1))
            apart = max(1, int(self.tail * (end - begin) / self.samples_per_cycle))
            taken |= {max(begin, end - 1 - apart * sample) for sample in range(self.samples_per_cycle)}
        return taken

    def stretched(self, ratio: float, epochs: int) -> "OneShot":
        """Return the same settings for a longer or shorter run: its warm-up in proportion, no more cycles than epochs.

        Args:
            ratio: New number of epochs over the old one.
            epochs: The new number of epochs.
        """
        em = None if self.em is None else dataclasses.replace(self.em, warmup=int(self.em.warmup * ratio))
        cycles = min(self.cycles, epochs)
        return dataclasses.replace(self, em=em, cycles=cycles, burn_in=min(self.burn_in, cycles - 1))

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "OneShot":
        """Return the settings that stand in a run's ``config.json``.

        Args:
            config: What ``dataclasses.asdict`` has made of the settings, perhaps by way of JSON.
        """
        sampler = {**config["sampler"], "betas": tuple(config["sampler"]["betas"])}
        em = None if config["em"] is None else GroupEM(**config["em"])
        return cls(**{**config, "sampler": Sampler(**sampler), "em": em})
