"""The loss: the ELBO per datum at a weight of the divergence, ours and Pyro's alike."""

from typing import Any

import pyro
import pytest
import torch
from pyro.infer import ELBO, Trace_ELBO

from bnn_pyro.inference import SparseELBO
from bnn_pyro.inference.svi.loss import Loss, weighted
from bnn_pyro.posterior.guide import copies
from bnn_pyro.pruning.shrink import shrink
from tests.inference.svi.test_fit import X, Y
from tests.posterior.test_guide import posterior_of


def at(loss: Loss, weight: float) -> float:
    """The loss on the same draw."""
    torch.manual_seed(0)
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        return float(loss(X, Y, torch.tensor(weight, dtype=X.dtype)).detach())


@pytest.mark.parametrize("objective", [SparseELBO(kl_weight=0.3), Trace_ELBO()], ids=["ours", "Pyro's"])
def test_is_linear_in_the_weight(objective: ELBO) -> None:
    """And at weight 1 it is the ELBO's own loss; the ELBO's own weight is put back."""
    posterior = posterior_of()
    loss = Loss(posterior.model, posterior.guide, objective)
    nothing, half, one = (at(loss, weight) for weight in (0.0, 0.5, 1.0))
    assert half == pytest.approx((nothing + one) / 2) and one > nothing
    torch.manual_seed(0)
    plain: Any = SparseELBO() if isinstance(objective, SparseELBO) else objective
    with pyro.get_param_store().scope(), pyro.validation_enabled(False):
        expected = float(plain.differentiable_loss(posterior.model, posterior.guide, X, Y).detach())
    assert one == pytest.approx(expected / posterior.model.num_data)
    assert getattr(objective, "kl_weight", 0.3) == 0.3


def test_the_weight_is_put_back_after_an_error() -> None:
    objective = SparseELBO(kl_weight=0.3)
    with pytest.raises(RuntimeError, match="stop"), weighted(objective, 0.7):
        assert objective.kl_weight == 0.7
        raise RuntimeError("stop")
    assert objective.kl_weight == 0.3


def test_follows_a_shrunk_model_and_the_gates() -> None:
    posterior = posterior_of()
    loss = Loss(*copies(posterior.model, posterior.guide), SparseELBO(), "bf16")
    loss.guide.gate_mode = "frozen"  # type: ignore[assignment]
    assert loss.gate_mode == "frozen"
    shrunk = shrink(posterior.model, posterior.guide, posterior.keep())
    moved = loss.moved_to(shrunk)
    assert (moved.model, moved.guide, moved.precision) == (shrunk.model, shrunk.guide, "bf16")
    assert moved.objective is loss.objective
