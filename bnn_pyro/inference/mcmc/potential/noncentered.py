"""A model in coordinates that Hamiltonian Monte Carlo moves in easily: Normals non-centred, gates as logits."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, Logistic, RelaxedBernoulli
from pyro.infer.reparam import LocScaleReparam
from pyro.infer.reparam.reparam import Reparam, ReparamMessage, ReparamResult

from bnn_pyro.arguments import check_callable
from bnn_pyro.inference.mcmc.potential.dependence import dependent_normals
from guides.sites import base_distribution

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


def noncentered(model: Callable[..., object], sites: bool | Collection[str] = True) -> Callable[..., object]:
    """Returns a model whose Normals that depend on other latents are non-centred, and whose gates are logits.

    A Normal ``w`` is sampled as ``w_decentered`` from the standard Normal, by Pyro's ``LocScaleReparam(0.0)``; a
    relaxed-Bernoulli ``z`` as ``z_logit``, by :class:`GateReparam`. ``w`` and ``z`` become deterministic sites; all
    other sites stay. A Normal of constant location and scale gains nothing by it, and loses where its prior is vague:
    in units of the prior the posterior would be a needle.

    Args:
        model: A Pyro model.
        sites: Which Normals: True for those whose location or scale depends on another latent, found by a run of the
            model when it is first called; False for none; or the names of sites.

    Returns:
        The model, with the same arguments; it raises a ValueError if a name is not that of a latent Normal.
    """
    check_callable("model", model, "a Pyro model")
    return _NonCentred(model, sites)


class _NonCentred:
    """The model, the Normals of it that are non-centred, once they are known, and the sites that stand for others."""

    def __init__(self, model: Callable[..., object], sites: bool | Collection[str]) -> None:
        self.model, self.sites = model, sites
        self.auxiliary: set[str] = set()
        self._chosen: Collection[str] | None = () if sites is False else None

    def __call__(self, *args: object, **kwargs: object) -> object:
        if self._chosen is None:
            self._chosen = self._choice(*args, **kwargs)
        with poutine.reparam(config=self._reparam_of):
            return self.model(*args, **kwargs)

    def _choice(self, *args: object, **kwargs: object) -> Collection[str]:
        devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
        with torch.random.fork_rng(devices):
            found = dependent_normals(self.model, *args, **kwargs)
        if isinstance(self.sites, bool):
            return [name for name, depends in found.items() if depends]
        for name in self.sites:
            if name not in found:
                known = ", ".join(found) or "none"
                raise ValueError(f"noncentered must name latent Normals of the model ({known}), got {name!r}")
        return self.sites

    def _reparam_of(self, site: Message) -> Reparam | None:
        if site["is_observed"] or site["name"].endswith(DECENTERED):
            return None
        if isinstance(base_distribution(site["fn"]), RelaxedBernoulli):
            self.auxiliary.add(f"{site['name']}{LOGIT}")
            return GateReparam()
        if site["name"] not in (self._chosen or ()):
            return None
        self.auxiliary.add(f"{site['name']}{DECENTERED}")
        return LocScaleReparam(0.0)
