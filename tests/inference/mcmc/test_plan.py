"""Plans that no sampler can follow are refused."""

from typing import Any

import pytest

from bnn_pyro.inference.mcmc.plan import KERNELS, SamplingPlan

PLAN: Any = {"kernel": "nuts", "chains": 4, "warmup": 30, "draws": 10, "thinning": 2, "max_tree_depth": 5}


@pytest.mark.parametrize("kernel", KERNELS)
def test_transitions_are_those_of_the_warm_up_and_of_all_draws(kernel: str) -> None:
    assert SamplingPlan(**{**PLAN, "kernel": kernel}).transitions == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(({name: 0}, f"{name} must be at least 1, got 0") for name in ("chains", "warmup", "draws", "thinning")),
        ({"max_tree_depth": 0}, "max_tree_depth must be at least 1, got 0"),
        ({"kernel": "gibbs"}, "kernel must be one of nuts, hmc, chees, mclmc, mams, got 'gibbs'"),
        ({"target_accept": 1.0}, r"target_accept must lie in \(0, 1\), got 1.0"),
        ({"trajectory_length": 1.0}, "trajectory_length must be positive, and is of kernel='hmc', got 1.0"),
        ({"kernel": "hmc", "trajectory_length": 0.0}, "trajectory_length must be positive"),
        ({"gates": "exact"}, "gates must be 'relaxed', or 'exact' with kernel='chees', got gates='exact'"),
        ({"kernel": "chees", "gates": "soft"}, "gates must be 'relaxed', or 'exact'"),
        ({"kernel": "chees", "chains": 1}, "chains must be at least 2 for kernel='chees', got 1"),
        ({"kernel": "mams", "chains": 1}, "chains must be at least 2 for kernel='mams', got 1"),
        (
            {"kernel": "chees", "dense_mass": True},
            "dense_mass is of kernel='nuts', 'hmc' and 'mclmc', got it with kernel='chees'",
        ),
        ({"kernel": "mclmc", "target_accept": 0.8}, "target_accept is not of kernel='mclmc', got 0.8"),
        ({"target_error": 1e-3}, "target_error must be positive, and is of kernel='mclmc', got 0.001"),
        ({"kernel": "mclmc", "target_error": 0.0}, "target_error must be positive"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingPlan(**{**PLAN, **options})
