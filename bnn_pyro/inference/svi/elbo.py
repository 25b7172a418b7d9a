"""The evidence lower bound of any model and guide as one tensor, with closed-form divergences and a KL weight."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Literal

import torch
from pyro import poutine
from pyro.distributions import Delta, RelaxedBernoulli, RelaxedBernoulliStraightThrough
from pyro.distributions.util import scale_and_mask, sum_rightmost
from pyro.infer import ELBO
from pyro.poutine import Trace
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor
from torch.distributions import Distribution, kl_divergence

from bnn_pyro.arguments import check_reals, check_whole
from bnn_pyro.inference.svi.local_reparameterization import LocalNormal, LocalReparameterization
from guides import AutoProgram, HardGate
from guides.divergences import relaxed_divergence
from guides.sites import Site, base_distribution, is_subsample, sites_of

Program = Callable[..., object]  # a Pyro model or guide
Args = tuple[object, ...]
Kwargs = Mapping[str, object]


@dataclass(frozen=True)
class Terms:
    r"""The parts of the bound: ``log_likelihood`` (scaled to all N rows), ``kl``, and a ``surrogate`` whose value is 0.

    The surrogate carries gradients that neither of the other two has (DisARM's of the gates).
    """

    log_likelihood: Tensor
    kl: Tensor
    surrogate: Tensor

    def loss(self, kl_weight: float | Tensor = 1.0) -> Tensor:
        r"""Returns :math:`\kappa\,KL - \log p(y \mid w)`, with the gradients of the surrogate."""
        return kl_weight * self.kl - self.log_likelihood - self.surrogate


def elbo_terms(
    model: Program,
    guide: Program,
    *args: object,
    local_reparameterization: bool | Literal["exact"] = False,
    **kwargs: object,
) -> Terms:
    r"""Returns one draw's estimate of the bound's parts.

    .. math:: \log p(y \mid w) \text{ with } w \sim q, \qquad KL = \sum_i KL(q_i \| p_i)

    Each divergence is in closed form where one is registered and :math:`\log q(w_i) - \log p(w_i)` at the draw
    elsewhere.

    Args:
        model: A Pyro model.
        guide: A guide, mean-field in the sense of Pyro's ``TraceMeanField_ELBO``.
        *args: Arguments of both.
        local_reparameterization: Whether linear layers and convolutions draw their outputs instead of their weights;
            ``"exact"`` only where an example has one row, so that the estimate is one of the same bound.
        **kwargs: Keyword arguments of both.

    Returns:
        The parts of the bound.
    """
    model_trace, guide_trace = _traces(model, guide, args, kwargs, local_reparameterization)
    log_likelihood = _log_likelihood(model_trace)
    kl = sum(_divergences(model_trace, guide_trace), log_likelihood.new_zeros(()))
    surrogate = torch.zeros_like(log_likelihood)
    if isinstance(guide, AutoProgram) and guide.gate_gradient == "disarm" and guide.gate_mode == "free":
        log_likelihood, surrogate = _disarm(model, guide_trace, log_likelihood, args, kwargs)
    return Terms(log_likelihood, kl, surrogate)


def _traces(
    model: Program, guide: Program, args: Args, kwargs: Kwargs, local: bool | Literal["exact"]
) -> tuple[Trace, Trace]:
    """Returns the model's trace and the guide's; a guide of ours runs the model itself, so both come from one pass."""
    drawing: AbstractContextManager[object] = nullcontext()
    if local:
        drawing = LocalReparameterization(exact=local == "exact")
    if isinstance(guide, AutoProgram):
        with drawing:
            both = poutine.trace(guide.run).get_trace(model, *args, **kwargs)
        return prune_subsample_sites(both), both
    with drawing:
        guide_trace = poutine.trace(guide).get_trace(*args, **kwargs)
    return _replay(model, guide_trace, args, kwargs), guide_trace


def _replay(model: Program, guide_trace: Trace, args: Args, kwargs: Kwargs) -> Trace:
    return prune_subsample_sites(poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace(*args, **kwargs))


def _log_likelihood(model_trace: Trace) -> Tensor:
    """Returns the sum of the observed sites' log-densities, each with its plate's scale and mask."""
    total: Tensor | None = None
    for site in sites_of(model_trace).values():
        if site["type"] == "sample" and site["is_observed"]:
            term = scale_and_mask(site["fn"].log_prob(site["value"]), site["scale"], site["mask"]).sum()
            total = term if total is None else total + term
    return torch.zeros(()) if total is None else total


def _divergences(model_trace: Trace, guide_trace: Trace) -> Iterator[Tensor]:
    """Yields each latent site's divergence, summed, and the log-density of each site that the guide alone has."""
    priors, answers = sites_of(model_trace), sites_of(guide_trace)
    for name, site in priors.items():
        if site["type"] != "sample" or site["is_observed"]:
            continue
        if name not in answers:
            raise ValueError(f"guide must have every latent site of the model, got none for {name!r}")
        answer, prior = answers[name], site["infer"].get("prior", site["fn"])
        yield scale_and_mask(_divergence(answer, prior), answer["scale"], answer["mask"]).sum()
    for name, site in answers.items():
        if site["type"] == "sample" and name not in priors and not is_subsample(site):
            yield scale_and_mask(site["fn"].log_prob(_drawn(site)), site["scale"], site["mask"]).sum()


def _divergence(answer: Site, prior: Distribution) -> Tensor:
    """Returns the divergence of a site in closed form, or the log ratio at its draw."""
    if _are_relaxed_gates(answer["fn"], prior):
        return _relaxed_gate_divergence(answer, prior)
    if not isinstance(base_distribution(answer["fn"]), Delta):  # Pyro's form for it leaves out its log_density
        with suppress(NotImplementedError):
            divergence: Tensor = kl_divergence(answer["fn"], prior)
            return divergence
    value = _drawn(answer)
    ratio: Tensor = answer["fn"].log_prob(value) - prior.log_prob(value)
    return ratio


def _are_relaxed_gates(answer: Distribution, prior: Distribution) -> bool:
    bases = base_distribution(answer), base_distribution(prior)
    are_relaxed = all(isinstance(base, RelaxedBernoulli) for base in bases)
    return are_relaxed and not isinstance(bases[0], RelaxedBernoulliStraightThrough)


def _relaxed_gate_divergence(answer: Site, prior: Distribution) -> Tensor:
    """Returns the divergence of relaxed gates, in closed form where both have one temperature, as at most times.

    Which it is, is not asked on the host: it would wait for the device, and the step could not be traced.
    """
    base: Any = base_distribution(answer["fn"])
    prior_base: Any = base_distribution(prior)
    drawn = _drawn(answer)
    is_same = torch.as_tensor(base.temperature == prior_base.temperature)
    value = torch.where(is_same, torch.full_like(drawn, 0.5), drawn)  # one at an end has no density, nor a gradient
    ratio = base.log_prob(value) - prior_base.log_prob(value)
    found = torch.where(is_same, relaxed_divergence(base.logits, prior_base.logits), ratio)
    summed: Tensor = sum_rightmost(found, len(answer["fn"].event_shape))
    return summed


def _drawn(site: Site) -> Tensor:
    value: Tensor = site["value"]
    return value.draw() if isinstance(value, LocalNormal) else value


def _disarm(
    model: Program, guide_trace: Trace, log_likelihood: Tensor, args: Args, kwargs: Kwargs
) -> tuple[Tensor, Tensor]:
    r"""Returns the mean log-likelihood of two antithetic draws of the gates, and the surrogate of DisARM's gradient.

    .. math:: \hat g_k = \tfrac12 (f(b) - f(\tilde b))\,(-1)^{\tilde b_k}\,1[b_k \ne \tilde b_k]\,\sigma(|\theta_k|)

    Source: Dong, Mnih, Tucker (2020), *DisARM: An antithetic gradient estimator for binary latent variables*.
    """
    partner_trace = guide_trace.copy()
    gates: list[tuple[Tensor, Tensor]] = []
    partners = sites_of(partner_trace)
    for name, site in sites_of(guide_trace).items():
        base = base_distribution(site["fn"]) if site["type"] == "sample" else None
        if isinstance(base, HardGate):
            partner = base.antithetic(site["value"])
            partners[name] = {**site, "value": partner}
            sign = site["value"] - partner
            gates.append((base.logits, sign * torch.sigmoid(base.logits.detach().abs())))
    if not gates:
        return log_likelihood, torch.zeros_like(log_likelihood)
    other = _log_likelihood(_replay(model, partner_trace, args, kwargs))
    difference = 0.5 * (log_likelihood - other).detach()
    directional = sum(((logits - logits.detach()) * slope).sum() for logits, slope in gates)
    return 0.5 * (log_likelihood + other), difference * directional


class SparseELBO(ELBO):
    r"""The bound that ``fit`` maximises, as a loss for ``pyro.infer.SVI``.

    Like Pyro's ``TraceMeanField_ELBO`` (to which it is equal for ``kl_weight=1`` and straight-through gates), and
    besides: a KL weight, DisARM's gate gradient where the guide asks for it, and local reparameterisation.

    Args:
        kl_weight: Weight :math:`\kappa` of the divergence; below 1 the posterior is a tempered (cold) one.
        num_particles: Draws a step, averaged.
        local_reparameterization: As for :func:`elbo_terms`; None lets :func:`~bnn_pyro.inference.svi.fit.fit` choose,
            ``"exact"`` for batches of up to 64 rows, and is False elsewhere. In larger batches the second product costs
            more than the draw of the weights.

    Raises:
        ValueError: If ``kl_weight`` is negative or ``num_particles`` below 1.
    """

    def __init__(
        self,
        *,
        kl_weight: float = 1.0,
        num_particles: int = 1,
        local_reparameterization: bool | Literal["exact"] | None = None,
    ) -> None:
        check_reals({"kl_weight": kl_weight})
        if not 0 <= kl_weight < math.inf:
            raise ValueError(f"kl_weight must be finite and not negative, got {kl_weight}")
        check_whole("num_particles", num_particles)
        if local_reparameterization not in (True, False, None, "exact"):
            raise ValueError(
                f"local_reparameterization must be True, False, None or 'exact', got {local_reparameterization!r}"
            )
        ELBO.__init__(self, num_particles=num_particles)
        self.kl_weight: float | Tensor = kl_weight
        self.local_reparameterization = local_reparameterization

    def _get_trace(self, model: Program, guide: Program, args: Args, kwargs: Kwargs) -> tuple[Trace, Trace]:
        return _traces(model, guide, args, kwargs, self.local_reparameterization or False)

    def differentiable_loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> Tensor:
        """Returns the negative bound of all rows, in nats, with its gradients."""
        local = self.local_reparameterization or False
        draws = [
            elbo_terms(model, guide, *args, local_reparameterization=local, **kwargs).loss(self.kl_weight)
            for _ in range(self.num_particles)
        ]
        return torch.stack(draws).mean()

    def loss(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float:
        """Returns the negative bound of all rows as a number."""
        with torch.no_grad():
            return float(self.differentiable_loss(model, guide, *args, **kwargs))

    def loss_and_grads(self, model: Program, guide: Program, *args: object, **kwargs: object) -> float:
        """Backpropagates the negative bound and returns it as a number."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()
        return float(loss.detach())
