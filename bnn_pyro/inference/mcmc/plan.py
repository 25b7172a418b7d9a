"""SamplingPlan: how to sample."""

from dataclasses import dataclass
from typing import Literal, get_args

Kernel = Literal["nuts", "hmc", "chees"]
Gates = Literal["relaxed", "exact"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    r"""How to sample.

    ``"nuts"`` and ``"hmc"`` are Pyro's kernels, one chain after another; with a seed, a chain is the same however many
    there are. ``"chees"`` (:class:`~bnn_pyro.inference.mcmc.chees.ChEES`) moves all chains as one batch, which costs
    little more than one of them: give it dozens, and fewer draws of each.

    Args:
        kernel: ``"nuts"``, ``"hmc"`` with trajectories of one length, or ``"chees"`` with trajectories of one length
            that adapts too.
        chains: Number of chains; two at least for ``"chees"``.
        warmup: Transitions per chain to adapt in, which are thrown away.
        draws: Draws per chain to keep.
        thinning: Transitions per draw.
        target_accept: Acceptance probability that the step size is adapted to; None for 0.8, and 0.9 for ``"chees"``.
        dense_mass: Whether the mass matrix is a full one; not for ``"chees"``.
        max_tree_depth: NUTS and ChEES make at most 2 to the power of it leapfrog steps in a transition.
        trajectory_length: Step size times leapfrog steps of a transition of ``"hmc"``; None for :math:`2\pi`.
        gates: ``"relaxed"``, or ``"exact"`` with ``kernel="chees"``.

    Raises:
        ValueError: If an option is out of range, or the kernel does not have it.
    """

    kernel: Kernel = "nuts"
    chains: int = 4
    warmup: int = 1000
    draws: int = 1000
    thinning: int = 1
    target_accept: float | None = None
    dense_mass: bool = False
    max_tree_depth: int = 10
    trajectory_length: float | None = None
    gates: Gates = "relaxed"

    def __post_init__(self) -> None:
        for name in ("chains", "warmup", "draws", "thinning", "max_tree_depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.kernel not in KERNELS:
            raise ValueError(f"kernel must be one of {', '.join(KERNELS)}, got {self.kernel!r}")
        if self.target_accept is not None and not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept must lie in (0, 1), got {self.target_accept}")
        length = self.trajectory_length
        if length is not None and not (self.kernel == "hmc" and length > 0):
            raise ValueError(f"trajectory_length must be positive, and is of kernel='hmc', got {length}")
        if self.gates not in get_args(Gates) or (self.gates == "exact" and self.kernel != "chees"):
            raise ValueError(
                "gates must be 'relaxed', or 'exact' with kernel='chees', "
                f"got gates={self.gates!r}, kernel={self.kernel!r}"
            )
        if self.kernel == "chees" and (self.dense_mass or self.chains < 2):
            raise ValueError(
                "kernel='chees' needs at least 2 chains and has no dense_mass, "
                f"got chains={self.chains}, dense_mass={self.dense_mass}"
            )

    @property
    def transitions(self) -> int:
        """Transitions of a chain, those of the warm-up too."""
        return self.warmup + self.draws * self.thinning
