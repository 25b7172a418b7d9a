"""SamplingPlan: how to sample."""

from dataclasses import dataclass
from typing import Literal, get_args

Kernel = Literal["nuts", "hmc", "chees"]


Gates = Literal["relaxed", "exact"]


KERNELS: tuple[Kernel, ...] = get_args(Kernel)


@dataclass(frozen=True)
class SamplingPlan:
    """How to sample; the arguments of :func:`~bnn_pyro.inference.mcmc.sample.sample` of the same names.

    Raises:
        ValueError: If an option is out of range, or the kernel does not have it.
    """

    kernel: str
    chains: int
    warmup: int
    draws: int
    thinning: int
    target_accept: float | None
    dense_mass: bool
    max_tree_depth: int
    trajectory_length: float | None
    gates: str = "relaxed"

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
