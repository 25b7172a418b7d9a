"""The table of rows that generic laws run over: one a prior, slab, distribution, guide and likelihood.

A new public member of ``bnn_pyro.priors``, ``guides`` or ``bnn_pyro.likelihoods`` gets a row here; without one
``test_laws.py`` of its folder fails.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bnn_pyro.likelihoods import (
    Bernoulli,
    Categorical,
    ClassMap,
    CorrelatedNoise,
    GaussianNoise,
    HeteroscedasticNoise,
    Likelihood,
    MeanDependentNoise,
    MultiOutputNoise,
    NegativeBinomial,
    Poisson,
    RowWeights,
    StudentT,
)
from bnn_pyro.priors import (
    AtomicRelaxedBernoulli,
    Gaussian,
    GroupHorseshoe,
    GroupLasso,
    gate,
    gaussian,
    group_horseshoe_scale,
    group_lasso_rate,
    group_lasso_scale,
    half_cauchy,
    slab,
    spike_slab_gaussian,
    spike_slab_group_horseshoe,
    spike_slab_group_lasso,
)
from bnn_pyro.priors.slab import Slab
from guides import (
    AutoCentered,
    AutoProgram,
    AutoSpikeSlab,
    AutoSpikeSlabMultivariate,
    GatedNormal,
    HardGate,
    NonCenteredNormal,
)

NODES, FAN_IN = 4, 3


@dataclass(frozen=True)
class PriorCase:
    """A prior function: a program that samples it in a dtype, the shape of what it returns, its sites' shapes."""

    member: str
    program: Callable[[torch.dtype], Tensor]
    shape: tuple[int, ...]
    sites: dict[str, tuple[int, ...]]
    label: str = ""

    def __str__(self) -> str:
        return f"{self.member}{self.label and '-' + self.label}"


@dataclass(frozen=True)
class SlabCase:
    """A slab's hyper-parameters, the sites of what all groups share, and those of a group's scale."""

    member: str
    slab: Slab
    shared: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    label: str = ""

    def __str__(self) -> str:
        return f"{self.member}{self.label and '-' + self.label}"


@dataclass(frozen=True)
class DistributionCase:
    """A distribution made from parameters of shape (3,), and the distribution that its draws have."""

    member: str
    make: Callable[[torch.dtype], Any]

    def __str__(self) -> str:
        return self.member


@dataclass(frozen=True)
class GuideCase:
    """A guide, for any model."""

    member: str
    guide: type[AutoProgram]

    def __str__(self) -> str:
        return self.member


@dataclass(frozen=True)
class LikelihoodCase:
    """A likelihood, the shape of a network's output for one row, and that of its targets."""

    member: str
    likelihood: Likelihood
    output: tuple[int, ...] = (1,)
    target: tuple[int, ...] = ()
    label: str = ""

    def __str__(self) -> str:
        return f"{self.member}{self.label and '-' + self.label}"


def number(value: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor(value, dtype=dtype)


def vector(dtype: torch.dtype, *values: float) -> Tensor:
    return torch.tensor(values, dtype=dtype)


def _group_lasso(dtype: torch.dtype) -> Tensor:
    rate = group_lasso_rate("rate", like=torch.empty((), dtype=dtype))
    return spike_slab_group_lasso("w", (NODES, FAN_IN), rate=rate, inclusion=0.3)


def _group_horseshoe(dtype: torch.dtype, slab_width: float | None = 1.0) -> Tensor:
    s = half_cauchy("s", number(1.0, dtype))
    return spike_slab_group_horseshoe(
        "w", (NODES, FAN_IN), global_scale=s, inclusion=0.3, sigma=0.5, slab_width=slab_width
    )


_GATED = {"w.gate": (NODES,), "w.weight": (NODES, FAN_IN)}
_HORSESHOE: dict[str, tuple[int, ...]] = {
    "s.alpha": (),
    "s.beta": (),
    "w.tau.alpha": (NODES,),
    "w.tau.beta": (NODES,),
    **_GATED,
}

PRIORS = (
    PriorCase("gate", lambda d: gate("z", number(0.3, d)), (), {"z": ()}, "scalar"),
    PriorCase("gate", lambda d: gate("z", number(0.3, d), size=NODES), (NODES,), {"z": (NODES,)}),
    PriorCase("slab", lambda d: slab("w", (NODES, FAN_IN), scale=number(2, d)), (4, 3), {"w": (4, 3)}),
    PriorCase("slab", lambda d: slab("w", (3, 2, 2), scale=vector(d, 1, 2, 3)), (3, 2, 2), {"w": (3, 2, 2)}, "rows"),
    PriorCase("gaussian", lambda d: gaussian("w", (NODES,), sigma=number(0.7, d)), (NODES,), {"w": (NODES,)}),
    PriorCase("half_cauchy", lambda d: half_cauchy("s", number(2, d)), (), {"s.alpha": (), "s.beta": ()}, "scalar"),
    PriorCase(
        "half_cauchy",
        lambda d: half_cauchy("s", number(2, d), size=NODES),
        (NODES,),
        {"s.alpha": (NODES,), "s.beta": (NODES,)},
    ),
    PriorCase("group_lasso_rate", lambda d: group_lasso_rate("rate", like=number(0, d)), (), {"rate": ()}),
    PriorCase(
        "group_lasso_scale",
        lambda d: group_lasso_scale("w", NODES, group_size=FAN_IN, rate=number(2, d)),
        (NODES,),
        {"w.tau_squared": (NODES,)},
    ),
    PriorCase(
        "group_horseshoe_scale",
        lambda d: group_horseshoe_scale("w", NODES, global_scale=number(0.5, d), slab_width=None),
        (NODES,),
        {"w.tau.alpha": (NODES,), "w.tau.beta": (NODES,)},
    ),
    PriorCase(
        "spike_slab_gaussian",
        lambda d: spike_slab_gaussian("w", (NODES, FAN_IN), inclusion=number(0.3, d)),
        (NODES, FAN_IN),
        dict(_GATED),
    ),
    PriorCase(
        "spike_slab_group_lasso",
        _group_lasso,
        (NODES, FAN_IN),
        {"rate": (), "w.tau_squared": (NODES,), **_GATED},
    ),
    PriorCase("spike_slab_group_horseshoe", _group_horseshoe, (NODES, FAN_IN), _HORSESHOE),
    PriorCase(
        "spike_slab_group_horseshoe",
        lambda d: _group_horseshoe(d, None),
        (NODES, FAN_IN),
        _HORSESHOE,
        "unregularised",
    ),
)

COMPOSED = tuple(case for case in PRIORS if case.member.startswith("spike_slab"))

_S, _TAU = ("global_scale.alpha", "global_scale.beta"), ("g.tau.alpha", "g.tau.beta")

SLABS = (
    SlabCase("Gaussian", Gaussian(sigma=0.7)),
    SlabCase("GroupLasso", GroupLasso(sigma=0.7), ("rate",), ("g.tau_squared",)),
    SlabCase("GroupHorseshoe", GroupHorseshoe(sigma=0.7), _S, _TAU),
    SlabCase("GroupHorseshoe", GroupHorseshoe(slab_width=None), _S, _TAU, "unregularised"),
    SlabCase(
        "GroupHorseshoe", GroupHorseshoe(learn_slab_width=True), (*_S, "slab_width_squared"), _TAU, "learned width"
    ),
)


def _relaxed(dtype: torch.dtype) -> Any:
    return AtomicRelaxedBernoulli(number(0.5, dtype), logits=vector(dtype, -1, 0, 2))


def _hard(dtype: torch.dtype) -> Any:
    return HardGate(number(0.5, dtype), vector(dtype, -1, 0, 2))


def _gated(dtype: torch.dtype, kind: type[GatedNormal] = GatedNormal) -> Any:
    values = ((0.5, 1, -2), (0.1, 1, 2), (0, 1, 0), (1, 0.5, 3), (0, 0.3, 1))
    return kind(*(vector(dtype, *value) for value in values))


DISTRIBUTIONS = (
    DistributionCase("AtomicRelaxedBernoulli", _relaxed),
    DistributionCase("HardGate", _hard),
    DistributionCase("GatedNormal", _gated),
    DistributionCase("NonCenteredNormal", lambda d: _gated(d, NonCenteredNormal)),
)

GUIDES = (
    GuideCase("AutoSpikeSlab", AutoSpikeSlab),
    GuideCase("AutoSpikeSlabMultivariate", AutoSpikeSlabMultivariate),
    GuideCase("AutoCentered", AutoCentered),
)

LIKELIHOODS = (
    LikelihoodCase("Categorical", Categorical(), (4,)),
    LikelihoodCase("Categorical", Categorical((1.0, 2.0, 0.5, 1.0)), (4,), label="weighted"),
    LikelihoodCase("GaussianNoise", GaussianNoise(0.3), label="known"),
    LikelihoodCase("GaussianNoise", GaussianNoise()),
    LikelihoodCase("HeteroscedasticNoise", HeteroscedasticNoise(), (2,)),
    LikelihoodCase("MeanDependentNoise", MeanDependentNoise()),
    LikelihoodCase("StudentT", StudentT(6.0)),
    LikelihoodCase("Bernoulli", Bernoulli()),
    LikelihoodCase("Bernoulli", Bernoulli(weight=(1.0, 2.0, 3.0), missing=True), (3,), (3,), "weighted, with gaps"),
    LikelihoodCase("Poisson", Poisson()),
    LikelihoodCase("NegativeBinomial", NegativeBinomial()),
    LikelihoodCase("MultiOutputNoise", MultiOutputNoise(3), (3,), (3,)),
    LikelihoodCase("MultiOutputNoise", MultiOutputNoise((3, 1), shared=True, missing=True), (3,), (3, 1), "with gaps"),
    LikelihoodCase("CorrelatedNoise", CorrelatedNoise(3), (3,), (3,)),
    LikelihoodCase("CorrelatedNoise", CorrelatedNoise(2, missing=True), (2,), (2,), "with gaps"),
    LikelihoodCase("ClassMap", ClassMap(1, weight=(1.0, 2.0), missing=True), (2, 5), (5,)),
    LikelihoodCase("RowWeights", RowWeights(Poisson()), (1,), (2,)),
)

FACTORISED = tuple(case for case in GUIDES if case.guide is not AutoSpikeSlabMultivariate)
"""The guides whose slabs are drawn independently of each other, given their scales."""

# Members that are none of these: the base of the guides, what a network is given or asks for, plain functions.
OTHERS = ("AutoProgram", "Slab", "SpikeSlab", "inclusion_probability", "initial_value", "regularized_scale")


def covered() -> set[str]:
    """Returns the public members that have a row."""
    return {case.member for case in (*PRIORS, *SLABS, *DISTRIBUTIONS, *GUIDES, *LIKELIHOODS)} | set(OTHERS)
