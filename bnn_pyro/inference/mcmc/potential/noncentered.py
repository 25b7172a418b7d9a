"""A model in coordinates that Hamiltonian Monte Carlo moves in easily: slabs non-centred, gates as logits."""

from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, Logistic, RelaxedBernoulli
from pyro.infer.reparam import LocScaleReparam
from pyro.infer.reparam.reparam import Reparam, ReparamMessage, ReparamResult
from torch.distributions import Independent, Normal

DECENTERED, LOGIT = "_decentered", "_logit"
"""What the names of the auxiliary sites end in."""

Message = Mapping[str, Any]
"""What Pyro tells of a site, whose own type does not know that ``fn`` is a distribution."""


class GateReparam(Reparam):
    r"""Samples a relaxed-Bernoulli gate by its logit, from a logistic distribution at the site ``<gate>_logit``.

    For a gate :math:`z = \mathrm{sigmoid}(x)` of temperature T and logits :math:`\ell`

    .. math::
        -\log p(x) = (Tx - \ell) + 2\,\mathrm{softplus}(\ell - Tx) - \log T, \qquad
        -\frac{d}{dx} \log p(x) = T (2\,\mathrm{sigmoid}(Tx - \ell) - 1).

    It never forms :math:`\log z` or :math:`\log(1 - z)`, which in float32 have no slope beyond :math:`|x| = 16`. An
    observed gate stays as it is, so that one held at exactly 0 or 1 keeps its Bernoulli mass.

    Source: Maddison, Mnih, Teh (2017), *The Concrete Distribution*.
    """

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        """Puts the logit's site in place of the gate's.

        Args:
            msg: Name, distribution, value and whether it is observed, of a relaxed-Bernoulli site.

        Returns:
            The gate as a deterministic site.
        """
        if msg["is_observed"]:
            return {"fn": msg["fn"], "value": msg["value"], "is_observed": True}
        gate, event_dim = self._unwrap(msg["fn"])  # type: ignore[no-untyped-call]
        logistic = Logistic(gate.logits / gate.temperature, 1 / gate.temperature)
        logistic = self._wrap(logistic, event_dim)  # type: ignore[no-untyped-call]
        value = msg["value"]
        given = None if value is None else torch.logit(value, torch.finfo(value.dtype).eps)
        x = pyro.sample(f"{msg['name']}{LOGIT}", logistic, obs=given, infer={"is_observed": False})
        value = torch.sigmoid(x) if value is None else value
        return {"fn": Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}


def noncentered(model: Callable[..., object]) -> Callable[..., object]:
    """Returns a model whose latent Normals are non-centred and whose gates are logits.

    A Normal ``w`` is sampled as ``w_decentered`` from the standard Normal, by Pyro's ``LocScaleReparam(0.0)``; a
    relaxed-Bernoulli ``z`` as ``z_logit``, by :class:`GateReparam`. ``w`` and ``z`` become deterministic sites; all
    other sites stay.

    Args:
        model: A Pyro model.

    Returns:
        The model, with the same arguments.
    """
    return poutine.reparam(model, _reparam_of)


def _reparam_of(site: Message) -> Reparam | None:
    if site["is_observed"] or site["name"].endswith(DECENTERED):
        return None
    distribution = site["fn"]
    while isinstance(distribution, Independent):
        distribution = distribution.base_dist
    if isinstance(distribution, RelaxedBernoulli):
        return GateReparam()
    return LocScaleReparam(0.0) if isinstance(distribution, Normal) else None
