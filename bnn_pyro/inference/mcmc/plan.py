"""SamplingPlan: how to sample."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from bnn_pyro.arguments import check_choice, check_flags, check_reals, check_wholes

Kernel = Literal["nuts", "hmc", "chees", "mclmc", "mams"]
Gates = Literal["relaxed", "exact"]
KERNELS: tuple[Kernel, ...] = get_args(Kernel)


@dataclass(frozen=True, kw_only=True)
class SamplingPlan:
    r"""How to sample.

    ``"nuts"`` and ``"hmc"`` are Pyro's kernels, one chain after another; with a seed, a chain is the same however many
    there are. The others move all chains as one batch, which costs little more than one of them: give them dozens, and
    fewer draws of each. ``"chees"`` is HMC with trajectories of one length that adapts
    (:class:`~bnn_pyro.inference.mcmc.chees.ChEESWarmUp`). ``"mclmc"`` is microcanonical Langevin dynamics
    (:class:`~bnn_pyro.inference.mcmc.mclmc.MCLMC`), meant for networks: a transition is a single step of two
    gradients, never rejected, so that it needs thousands of them, ``thinning`` to keep few, and has a bias that grows
    with ``target_error``. ``"mams"`` is its exact form (:class:`~bnn_pyro.inference.mcmc.mams.MAMS`).

    Args:
        kernel: ``"nuts"``, ``"hmc"`` with trajectories of one length, ``"chees"``, ``"mclmc"`` or ``"mams"``.
        chains: Number of chains; two at least for ``"chees"`` and ``"mams"``.
        warmup: Transitions per chain to adapt in, which are thrown away. ``"chees"`` and ``"mams"`` judge at the end
            whether they have adapted, and if not go on for as many again, twice at most; a rule that limits the seconds
            does not let them.
        draws: Draws per chain to keep.
        thinning: Transitions per draw.
        target_accept: Acceptance probability that the step size is adapted to; None for 0.8, and 0.9 for ``"chees"``
            and ``"mams"``; ``"mclmc"`` has none.
        target_error: Energy error of a step of ``"mclmc"`` that the step size is adapted to, :math:`E[\Delta E^2] / n`
            for n coordinates; None for 5e-4. The larger it is the faster the chains move, and the larger is the bias of
            the draws, which longer runs do not reduce. On five small posteriors standard deviations were off, mostly
            too small, by up to 1.1 % at 5e-4, 2 % at 2e-2 and 3.5 % at 1e-1, in the median over quantities; single
            means of a horseshoe by 0.11 and 0.19 standard deviations at 2e-2 and 1e-1
            (``benchmarks/microcanonical.py``).
        dense_mass: Whether the mass matrix is a full one, for ``"nuts"``, ``"hmc"`` and ``"mclmc"``: of the first two
            by the draws, and of ``"mclmc"`` by the curvature where each chain is, a matrix of its own for each, which
            costs n times n numbers a chain. The curvature is taken after 1, 3 and 7 tenths of the warm-up, which has to
            be so long that no chain is far out by then: such a chain stays slow.
        max_tree_depth: NUTS, ChEES and MAMS make at most 2 to the power of it steps in a transition.
        trajectory_length: Step size times leapfrog steps of a transition of ``"hmc"``; None for :math:`2\pi`.
        gates: ``"relaxed"``, or ``"exact"`` with ``kernel="chees"``.
        noncentered: Which Normals are sampled as standard ones that are shifted and scaled: True for those whose
            location or scale depends on another latent, False for none, or the names of sites. Exact gates have all.

    Raises:
        ValueError: If an option is out of range, or the kernel does not have it.
    """

    kernel: Kernel = "nuts"
    chains: int = 4
    warmup: int = 1000
    draws: int = 1000
    thinning: int = 1
    target_accept: float | None = None
    target_error: float | None = None
    dense_mass: bool = False
    max_tree_depth: int = 10
    trajectory_length: float | None = None
    gates: Gates = "relaxed"
    noncentered: bool | tuple[str, ...] = True

    def __post_init__(self) -> None:
        names = ("chains", "warmup", "draws", "thinning", "max_tree_depth")
        check_wholes({name: getattr(self, name) for name in names})
        optional = ("target_accept", "target_error", "trajectory_length")
        check_reals({}, optional={name: getattr(self, name) for name in optional})
        check_flags({"dense_mass": self.dense_mass})
        check_choice("kernel", self.kernel, KERNELS)
        if self.target_accept is not None and not 0 < self.target_accept < 1:
            raise ValueError(f"target_accept must lie in (0, 1), got {self.target_accept}")
        length = self.trajectory_length
        if length is not None and not (self.kernel == "hmc" and 0 < length < math.inf):
            raise ValueError(f"trajectory_length must be positive, and is of kernel='hmc', got {length}")
        if self.gates not in get_args(Gates) or (self.gates == "exact" and self.kernel != "chees"):
            raise ValueError(
                "gates must be 'relaxed', or 'exact' with kernel='chees', "
                f"got gates={self.gates!r}, kernel={self.kernel!r}"
            )
        if self.gates == "exact" and self.noncentered is not True:
            raise ValueError(f"noncentered must be True with gates='exact', got {self.noncentered!r}")
        if self.kernel in ("chees", "mams") and self.chains < 2:
            raise ValueError(f"chains must be at least 2 for kernel={self.kernel!r}, got {self.chains}")
        if self.dense_mass and self.kernel not in ("nuts", "hmc", "mclmc"):
            raise ValueError(f"dense_mass is of kernel='nuts', 'hmc' and 'mclmc', got it with kernel={self.kernel!r}")
        if self.target_accept is not None and self.kernel == "mclmc":
            raise ValueError(f"target_accept is not of kernel='mclmc', got {self.target_accept}: give target_error")
        if self.target_error is not None and not (self.kernel == "mclmc" and 0 < self.target_error < math.inf):
            raise ValueError(f"target_error must be positive, and is of kernel='mclmc', got {self.target_error}")

    @property
    def is_batch(self) -> bool:
        """Whether all chains move as one batch."""
        return self.kernel not in ("nuts", "hmc")

    @property
    def transitions(self) -> int:
        """Transitions of a chain, those of the warm-up too."""
        return self.warmup + self.draws * self.thinning
