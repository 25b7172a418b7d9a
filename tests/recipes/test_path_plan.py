"""PathPlan: what is refused."""

import pytest

from bnn_pyro.recipes import PathPlan


def test_bad_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="kl_weights must be positive and finite, and one at least"):
        PathPlan(kl_weights=())
    with pytest.raises(ValueError, match=r"path.validation must lie in \(0, 1\), got 1.0"):
        PathPlan(validation=1.0)
    assert PathPlan().kl_weights == (0.03, 0.1, 0.3, 1.0)
