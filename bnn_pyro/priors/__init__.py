"""Priors as Pyro model functions, usable in anyone's model, and their hyper-parameters as frozen dataclasses."""

from bnn_pyro.priors.gates import AtomicRelaxedBernoulli, gate, inclusion_probability
from bnn_pyro.priors.gaussian import Gaussian, gaussian
from bnn_pyro.priors.group_horseshoe import GroupHorseshoe, group_horseshoe_scale, half_cauchy, regularized_scale
from bnn_pyro.priors.group_lasso import GroupLasso, group_lasso_rate, group_lasso_scale
from bnn_pyro.priors.slab import Slab, slab
from bnn_pyro.priors.spike_slab import (
    SpikeSlab,
    spike_slab_gaussian,
    spike_slab_group_horseshoe,
    spike_slab_group_lasso,
)

__all__ = [
    "AtomicRelaxedBernoulli",
    "Gaussian",
    "GroupHorseshoe",
    "GroupLasso",
    "Slab",
    "SpikeSlab",
    "gate",
    "gaussian",
    "group_horseshoe_scale",
    "group_lasso_rate",
    "group_lasso_scale",
    "half_cauchy",
    "inclusion_probability",
    "regularized_scale",
    "slab",
    "spike_slab_gaussian",
    "spike_slab_group_horseshoe",
    "spike_slab_group_lasso",
]
