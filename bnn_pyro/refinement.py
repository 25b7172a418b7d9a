"""refine: the posterior of the pruned network, sampled."""

import copy
import logging
import os
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bnn_pyro.arguments import check_choice, check_seed, check_type, check_types, check_whole
from bnn_pyro.inference.checkpoint import Checkpoint
from bnn_pyro.inference.checks import Data, as_pair
from bnn_pyro.inference.mcmc.budget import transitions_within, within
from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import check_draws, sample
from bnn_pyro.inference.mcmc.starts import starting_points
from bnn_pyro.inference.mcmc.stopping import StoppingRule
from bnn_pyro.likelihoods import Likelihood, RowWeights
from bnn_pyro.network import SparseNetwork
from bnn_pyro.nodes import Nodes
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior, some_rows
from bnn_pyro.priors import Gaussian, Slab
from bnn_pyro.pruning.cutting import cut_inputs, kept_positions
from bnn_pyro.pruning.shrink import smaller_model
from bnn_pyro.tracing.engine import EngineName

logger = logging.getLogger(__name__)

Start = Literal["ensemble", "draws"]
Weights = Literal["equal", "stacking"]

_EQUAL_SHARE = 0.5  # of the weight of chains that are stacked
_LEAST_SHARE = 0.01  # parameters per row, below which sampling gains little
_FEWEST = 200  # transitions of a chain, below which it gets hardly away from where it starts


@dataclass(frozen=True, kw_only=True)
class Refinement:
    """How the posterior of a pruned network is sampled.

    Args:
        plan: The kernel, the number and the length of the chains; one that moves all chains as one batch.
        until: When the chains stop; None makes the plan's transitions.
        start: Where the chains start: ``"ensemble"`` trains one dense net of the chosen widths per chain, which finds
            more modes; ``"draws"`` takes draws of the posterior itself, cut to the kept nodes, of one of our guides.
        slab: Prior of the weights that are left; None for the model's own. The usual one is a plain Gaussian, as a slab
            with learned scales has done its work when the nodes are chosen: of networks that the group horseshoe had
            selected it predicted held-out rows better, or as well (``benchmarks/select_then_sample.py --choose``).
        likelihood: Likelihood of the sampled network, for the same outputs; None for the model's own. A noise that
            variational inference fits badly, such as `MeanDependentNoise`, is no trouble to sample.
        weights: How chains weigh that have not mixed, by R-hat of their predictions on training rows against the limits
            of ``until``: ``"equal"``, or by ``"stacking"`` of PSIS-LOO on the training rows, half of the weight shared
            equally (:meth:`~bnn_pyro.posterior.sampled.SampledPosterior.weighted_by_stacking`). Chains that have mixed
            weigh the same. In shortened runs on three tables the half that is shared was chosen with the rows that it
            was then scored on, so equal weights stay the usual ones (``benchmarks/select_then_sample.py`` has both).
        least_chains: Where rows and weights are so many that the chains of ``plan`` would make fewer than 2,000
            transitions each in the seconds of ``until``, there are fewer chains, down to this number. How many is
            counted, not timed (:func:`~bnn_pyro.inference.mcmc.budget.within`), and is the same on all machines.

    Raises:
        ValueError: If the kernel moves one chain after another, there is no such start or weighting, a number is below
            1, or there are fewer than 4 draws per chain to tell by whether they have mixed.
    """

    plan: SamplingPlan = SamplingPlan(  # noqa: RUF009  (frozen)
        kernel="mclmc", chains=16, warmup=6000, draws=100, thinning=100, target_error=0.02
    )
    until: StoppingRule | None = StoppingRule(seconds=120.0)  # noqa: RUF009  (frozen)
    start: Start = "ensemble"
    weights: Weights = "equal"
    slab: Slab | None = Gaussian()  # noqa: RUF009  (frozen)
    likelihood: Likelihood | None = None
    least_chains: int = 4

    def __post_init__(self) -> None:
        check_type("plan", self.plan, SamplingPlan)
        if self.until is not None:
            check_type("until", self.until, StoppingRule)
        if not self.plan.is_batch:
            raise ValueError(f"plan must have a kernel that moves all chains as one batch, got {self.plan.kernel!r}")
        if self.plan.gates != "relaxed":
            raise ValueError(f"plan must leave gates as they are, as none are left, got gates={self.plan.gates!r}")
        if self.until is not None or self.weights == "stacking":
            check_draws(self.plan)
        for name, kind in {"start": Start, "weights": Weights}.items():
            check_choice(name, getattr(self, name), get_args(kind))
        check_whole("least_chains", self.least_chains)

    def plan_for(self, model: SparseNetwork) -> SamplingPlan:
        """Return the plan for a network, of fewer chains where the seconds are too few for all of them.

        Args:
            model: The network, without gates.
        """
        if self.until is None or self.until.seconds is None:
            return self.plan
        return within(self.plan, model, self.until.seconds, least=self.least_chains)


def refine(
    posterior: Posterior,
    data: Data,
    settings: Refinement = Refinement(),  # noqa: B008  (frozen)
    *,
    inputs: Tensor | None = None,
    seed: int | None = None,
    progress: bool | None = None,
    engine: EngineName = "auto",
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
) -> SampledPosterior:
    r"""Sample the posterior of the pruned network, given the nodes that are kept.

    With all gates of the kept nodes open, closed nodes absent, and a slab whose scales r, if it has some, are latents,

    .. math::
        p(w, r, \lambda \mid y, z = 1) \propto p(r)\, p(w \mid r)\, p(\lambda) \prod_i p(y_i \mid f(x_i; w), \lambda)

    is sampled by many short chains of microcanonical Langevin dynamics. What was selected by variational inference is
    small enough for that, and is then predicted with as a whole posterior and no longer by a mean field. The KL weight
    that the nodes were chosen at plays no part: this posterior is not tempered. With ``slab=None`` it is exactly the
    model's own, given the nodes; the usual settings have a plain Gaussian in the slab's place.

    It pays where parameters are many for the rows. Where rows are many for the parameters the posterior's uncertainty
    is small beside the noise, by :func:`uncertainty_share`, and little is gained; :func:`is_worth_refining` decides.

    Args:
        posterior: The posterior that chooses the nodes (`keep`).
        data: (x, y), the training rows, all of them.
        settings: How it is sampled.
        inputs: Which input features it reads, besides those that the posterior has dropped: bool, shape
            ``(features,)``, such as :func:`~bnn_pyro.input_choice.choose_inputs` finds; None for all that are left.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show progress bars; None shows them on a terminal.
        engine: As for :func:`~bnn_pyro.inference.mcmc.sample.sample`.
        checkpoint: Likewise.

    Returns:
        The posterior of the pruned network, which has no gates and takes all inputs.

    Raises:
        ValueError: If a group has no node left, the data do not fit, or the posterior has no such draws to start at.

    Source: Sommer et al. (2025), *Microcanonical Langevin ensembles: Advancing the sampling of Bayesian neural
    networks*.
    """
    check_types({"posterior": (posterior, Posterior), "settings": (settings, Refinement)})
    check_seed(seed, progress)
    x, y = as_pair("data", data, posterior.model.layout, likelihood=posterior.model.likelihood)
    model = selected_network(posterior, slab=settings.slab, likelihood=settings.likelihood, inputs=inputs).to(x)
    settings = _fitted(settings, model)
    start: Literal["ensemble"] | Tensor = "ensemble"
    if settings.start == "draws":
        if not isinstance(posterior, GuidePosterior) or inputs is not None:
            what = "a choice of inputs" if inputs is not None else f"a {type(posterior).__name__}"
            raise ValueError(f"start must be 'ensemble' for {what}, got 'draws'")
        if settings.likelihood is not None:
            raise ValueError(f"start must be 'ensemble' for another likelihood, {settings.likelihood}, got 'draws'")
        if seed is None and checkpoint is not None:
            raise ValueError("seed must be given with a checkpoint where chains start at draws, got None")
        start = starting_points(model, (x, y), posterior.shrink(), chains=settings.plan.chains, seed=seed)
    return _sampled(model, (x, y), settings, start, seed=seed, progress=progress, engine=engine, checkpoint=checkpoint)


def sample_whole(
    model: SparseNetwork,
    data: Data,
    settings: Refinement = Refinement(),  # noqa: B008  (frozen)
    *,
    seed: int | None = None,
    progress: bool | None = None,
    engine: EngineName = "auto",
    checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
) -> SampledPosterior:
    """Sample the posterior of the whole network with all of its nodes open: what a refined one is compared with.

    Args:
        model: The network; it is not changed.
        data: (x, y), the training rows, all of them.
        settings: As for `refine`; the chains start at an ensemble of dense networks.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show progress bars; None shows them on a terminal.
        engine: As for :func:`~bnn_pyro.inference.mcmc.sample.sample`.
        checkpoint: Likewise.

    Returns:
        The posterior of the whole network, without gates.

    Raises:
        ValueError: If the data do not fit.
    """
    rows = as_pair("data", data, model.layout, likelihood=model.likelihood)
    whole = without_gates(model, slab=settings.slab, likelihood=settings.likelihood).to(rows[0])
    fitted = _fitted(settings, whole)
    return _sampled(whole, rows, fitted, "ensemble", seed=seed, progress=progress, engine=engine, checkpoint=checkpoint)


def _fitted(settings: Refinement, model: SparseNetwork) -> Refinement:
    """Return settings with the plan for a network; say where it has fewer chains."""
    plan = settings.plan_for(model)
    if plan.chains < settings.plan.chains:
        logger.info("%d of %d chains, as there are many rows and weights", plan.chains, settings.plan.chains)
    return replace(settings, plan=plan)


def _sampled(
    model: SparseNetwork,
    rows: tuple[Tensor, Tensor],
    settings: Refinement,
    start: Literal["ensemble"] | Tensor,
    **options: Any,
) -> SampledPosterior:
    found: SampledPosterior = sample(model, rows, settings.plan, start=start, until=settings.until, **options)
    return _stacked(found, rows, settings.until or StoppingRule()) if settings.weights == "stacking" else found


def _stacked(sampled: SampledPosterior, rows: tuple[Tensor, Tensor], rule: StoppingRule) -> SampledPosterior:
    """Return the posterior of chains that have not mixed with weights by stacking; of those that have as it is."""
    if sampled.chains == 1 or rule.is_met(sampled.prediction_r_hat(some_rows(rows[0]))):
        return sampled
    found = sampled.weighted_by_stacking(*rows, equal_share=_EQUAL_SHARE)
    if found.chain_weights is not None and found.stacking is not None:
        logger.info(
            "the chains are weighted by stacking: the largest weight is %.3f, Pareto k is above 0.7 in %d of %d rows",
            float(found.chain_weights.max()),
            found.stacking.unreliable,
            len(rows[1]),
        )
    return found


def selected_network(
    posterior: Posterior,
    *,
    slab: Slab | None = None,
    likelihood: Likelihood | None = None,
    inputs: Tensor | None = None,
) -> SparseNetwork:
    """Return the network of the nodes that a posterior keeps, with a slab as its prior and no gates.

    Args:
        posterior: The posterior.
        slab: The slab; None for the model's own.
        likelihood: The likelihood; None for the model's own.
        inputs: Which input features it reads, as for `refine`; None for all that the posterior keeps.

    Returns:
        The smaller network; it still takes all inputs, and its slab is given the whole network's numbers of weights.

    Raises:
        ValueError: If a group has no node left, or ``inputs`` does not fit.
    """
    keep = posterior.masks()
    for name, mask in keep.items():
        if not mask.any():
            raise ValueError(f"posterior must keep a node of every group to be sampled, got none of {name!r}")
    model = copy.deepcopy(posterior.model)
    model.net = posterior.median_net(keep=keep)
    smaller = smaller_model(model, keep, kept_positions(model.net, model.nodes.groups, keep))
    opened = without_gates(smaller, slab=slab, likelihood=likelihood)
    return opened if inputs is None else reading_only(opened, inputs)


def reading_only(model: SparseNetwork, inputs: Tensor) -> SparseNetwork:
    """Return a network that reads some of the input features alone.

    Args:
        model: A network without gates; it is not changed.
        inputs: Which features it reads, bool, shape ``(features,)``.

    Returns:
        The smaller network; it still takes all inputs.

    Raises:
        ValueError: If ``inputs`` has another shape or dtype, leaves no feature, or the net's inputs cannot be removed.
    """
    if not model.layout.is_plain:
        raise ValueError(f"inputs must be None for a net that does not read features alone, got {model.layout}")
    if inputs.dtype != torch.bool or tuple(inputs.shape) != model.input_shape[-1:]:
        got = f"{inputs.dtype} of shape {tuple(inputs.shape)}"
        raise ValueError(f"inputs must be bool of shape ({model.input_shape[-1]},), got {got}")
    like = next(model.net.parameters())
    every = torch.arange(len(inputs), device=like.device) if model.selection is None else model.selection
    keep = inputs.to(like.device)[every]
    if not keep.any():
        raise ValueError("inputs must leave a feature that the network reads, got none")
    if keep.all():
        return model
    example = torch.zeros(2, *model.input_shape[:-1], len(every), dtype=like.dtype, device=like.device)
    net = cut_inputs(model.net, example, keep.nonzero().flatten())
    return model.replaced(net, Nodes((), model.nodes.dense), every[keep])


def without_gates(
    model: SparseNetwork, *, slab: Slab | None = None, likelihood: Likelihood | None = None
) -> SparseNetwork:
    """Return a network with all of its nodes open for good: with a slab as its prior and no gates.

    Args:
        model: The network; it is not changed.
        slab: The slab; None for the model's own.
        likelihood: The likelihood; None for the model's own.
    """
    opened = model.replaced(model.net, Nodes((), model.nodes.dense), model.selection)
    opened.spike, opened.inclusion, opened.slab = None, {}, slab or opened.slab
    if likelihood is not None and isinstance(opened.likelihood, RowWeights) and not isinstance(likelihood, RowWeights):
        likelihood = RowWeights(likelihood, opened.likelihood.shape)  # the rows keep their weights
    opened.likelihood = likelihood or opened.likelihood
    return opened


def uncertainty_share(model: SparseNetwork) -> float:
    r"""Return about how large the parameters' uncertainty is beside the noise: parameters per row.

    In a linear model of p parameters and n rows the variance of the fitted means is :math:`\sigma^2 p / n` on average.

    Args:
        model: The network.
    """
    return sum(torch.Size(parameter.shape).numel() for parameter in model.bayesian) / model.num_data


def is_worth_refining(
    posterior: Posterior,
    settings: Refinement = Refinement(),  # noqa: B008  (frozen)
) -> tuple[bool, str]:
    """Decide whether `refine` is likely to gain something in its seconds.

    It is not where a group has no node left, where the selected network has less than 0.01 parameters per row
    (:func:`uncertainty_share`), whose uncertainty is small beside the noise, nor where rows and weights are so many
    that even the least number of chains would make fewer than 200 transitions each, as every transition takes
    gradients over all rows. How many they make is counted, for one core. The share alone would ask for more: of tables
    with .07 and .03 parameters per row the sampled network predicts held-out rows better by .07 nats all the same, as
    its chains fit more closely than variational inference does (power-plant and protein,
    ``benchmarks/table_recipe.py``).

    Args:
        posterior: The posterior that chooses the nodes.
        settings: How it would be sampled.

    Returns:
        Whether it is, and the reason in words.
    """
    empty = [name for name, mask in posterior.masks().items() if not mask.any()]
    if empty:
        return False, f"no node of {empty[0]!r} is left"
    model = selected_network(posterior)
    share = uncertainty_share(model)
    described = f"the pruned network has {share:.2g} parameters per row"
    if share < _LEAST_SHARE:
        return False, f"{described}, less than {_LEAST_SHARE:g}: their uncertainty is small beside the noise"
    plan, seconds = settings.plan_for(model), None if settings.until is None else settings.until.seconds
    if seconds is None or plan.kernel != "mclmc":
        return True, described
    made = transitions_within(model, plan, seconds)
    if made < min(_FEWEST, plan.transitions):
        work = f"{round(share * model.num_data):,} parameters for {model.num_data:,} rows"
        return False, (
            f"the pruned network has {work}: {plan.chains} chains would make about {made:,} transitions each in "
            f"{seconds:g} seconds, less than {_FEWEST:,}"
        )
    return True, described
