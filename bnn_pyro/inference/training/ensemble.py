"""train_ensemble: many dense networks of one form, trained side by side, each from weights of its own."""

import copy
from collections.abc import Mapping

import pyro
import torch
from pyro import poutine
from torch import Tensor, nn
from torch.distributions import Transform, biject_to
from torch.func import grad_and_value, vmap
from tqdm.auto import tqdm

from bnn_pyro.arguments import check_reals, check_seed, check_type, check_wholes
from bnn_pyro.inference.checks import Data, as_pair, check_against
from bnn_pyro.inference.generators import seeded
from bnn_pyro.network import SparseNetwork
from bnn_pyro.tracing.engine import Engine
from guides.sites import initial_value, sites_of

Values = dict[str, Tensor]


def train_ensemble(
    model: SparseNetwork,
    data: Data,
    *,
    members: int = 5,
    steps: int = 6000,
    batch_size: int = 64,
    learning_rate: float = 3e-3,
    weight_decay: float = 1.0,
    seed: int | None = None,
    progress: bool | None = None,
) -> Values:
    r"""Train dense networks as one batch, each from weights of its own: a deep ensemble, or where chains start.

    All nodes are open. Each member w minimises by Adam, at a rate that falls to 0 by a cosine,

    .. math::
        -\frac{1}{N} \Big[ \sum_i \log p(y_i \mid f(x_i; w), \lambda) + \log p(\lambda) \Big]
        + \frac{\alpha}{2N} |w|^2

    on minibatches of its own, with the likelihood's latent :math:`\lambda` (a learned noise) trained along. Parameters
    without a slab stay at the model's values, and the net runs in evaluation mode.

    Args:
        model: The network; it is not changed. Its layers draw the weights that members start from
            (``reset_parameters``).
        data: (x, y); training happens on their device and in their dtype.
        members: Number of networks.
        steps: Steps of Adam.
        batch_size: Rows per step of each member, drawn with replacement.
        learning_rate: Of Adam, at first.
        weight_decay: :math:`\alpha`, the prior precision of a weight; 0 for none.
        seed: Seed of this call; None continues from the global random state.
        progress: Whether to show a progress bar; None shows it on a terminal.

    Returns:
        Site -> values, shape ``(members, *shape)``: the parameters with a slab, and the likelihood's latents.

    Raises:
        ValueError: If the data do not fit the model, a number is out of range, a layer cannot be drawn anew, or the
            loss of a member is not finite.

    Source: Lakshminarayanan, Pritzel, Blundell (2017), *Simple and scalable predictive uncertainty estimation using
    deep ensembles*.
    """
    check_type("model", model, SparseNetwork)
    check_wholes({"members": members, "steps": steps, "batch_size": batch_size})
    check_seed(seed, progress)
    check_reals({"learning_rate": learning_rate, "weight_decay": weight_decay})
    for name, number in {"learning_rate": learning_rate, "weight_decay": weight_decay}.items():
        if not 0 <= number < float("inf"):
            raise ValueError(f"{name} must be 0 or more and finite, got {number}")
    x, y = as_pair("data", data, model.layout, likelihood=model.likelihood)
    network = copy.deepcopy(model).to(x)
    check_against("data", network, x, y)
    with seeded(seed, x.device), network.evaluating():
        transforms, latents = _latents(network, members)
        free = {**_drawn(network, members), **latents}
        loss = _Loss(network, transforms, len(x), weight_decay)
        _minimise(loss, free, x, y, steps, min(batch_size, len(x)), learning_rate, progress)
    return {name: transforms[name](value) if name in transforms else value for name, value in free.items()}


def as_net(model: SparseNetwork, values: Mapping[str, Tensor], member: int) -> nn.Module:
    """Return one member of an ensemble as a plain module.

    Args:
        model: The network that the ensemble was trained for.
        values: What `train_ensemble` returned.
        member: Its number, from 0.

    Returns:
        A copy of ``model.net`` in eval mode with the member's weights.
    """
    net = copy.deepcopy(model.net).eval()
    with torch.no_grad():
        for parameter in model.bayesian:
            net.get_parameter(parameter.name).copy_(values[parameter.name][member])
    return net


class _Loss:
    """The loss of a member on a batch, as a function of its free parameters."""

    def __init__(
        self, network: SparseNetwork, transforms: Mapping[str, Transform], rows: int, weight_decay: float
    ) -> None:
        self.network, self.transforms, self.rows, self.weight_decay = network, transforms, rows, weight_decay

    def __call__(self, free: Values, x: Tensor, y: Tensor) -> Tensor:
        network, weights = self.network, {p.name: free[p.name] for p in self.network.bayesian}
        latents = {name: transform(free[name]) for name, transform in self.transforms.items()}
        trace = poutine.trace(poutine.condition(network.likelihood.prior, latents)).get_trace(like=x)
        output = network.call_net(weights, x)
        fit = network.likelihood.distribution(output, trace.nodes["_RETURN"]["value"]).log_prob(y).mean()
        norm = torch.stack([weight.square().sum() for weight in weights.values()]).sum()
        prior = self.weight_decay / 2 * norm - (trace.log_prob_sum() if latents else 0.0)
        loss: Tensor = prior / self.rows - fit
        return loss


def _latents(network: SparseNetwork, members: int) -> tuple[dict[str, Transform], Values]:
    """Return the transforms of the likelihood's latents from unconstrained values, and those they start at."""
    trace = poutine.trace(network.likelihood.prior).get_trace(like=next(network.net.parameters()))
    sites = {name: site for name, site in sites_of(trace).items() if site["type"] == "sample"}
    transforms = {name: biject_to(site["fn"].support) for name, site in sites.items()}
    starts = {name: transforms[name].inv(initial_value(site)) for name, site in sites.items()}
    return transforms, {name: start.expand(members, *start.shape).clone() for name, start in starts.items()}


def _drawn(network: SparseNetwork, members: int) -> Values:
    """Return weights for each member, drawn as the layers draw them."""
    drawn: dict[str, list[Tensor]] = {parameter.name: [] for parameter in network.bayesian}
    layers = {name.rpartition(".")[0] for name in drawn}
    fresh = copy.deepcopy(network.net)
    for layer in layers:
        if not callable(getattr(fresh.get_submodule(layer), "reset_parameters", None)):
            raise ValueError(
                f"model must have layers that can be drawn anew by reset_parameters, got {layer!r} without it"
            )
    for _ in range(members):
        for layer in sorted(layers):
            fresh.get_submodule(layer).reset_parameters()  # type: ignore[operator]
        for name, values in drawn.items():
            values.append(fresh.get_parameter(name).detach().clone())
    return {name: torch.stack(values) for name, values in drawn.items()}


def _minimise(
    loss: _Loss,
    free: Values,
    x: Tensor,
    y: Tensor,
    steps: int,
    batch_size: int,
    learning_rate: float,
    progress: bool | None,
) -> None:
    """Train all members, in place."""
    members, names = len(next(iter(free.values()))), list(free)
    gradients = vmap(grad_and_value(loss))

    def of_step(xs: Tensor, ys: Tensor, *values: Tensor) -> tuple[Tensor, list[Tensor]]:
        found, value = gradients(dict(zip(names, values, strict=True)), xs, ys)
        return value, [found[name] for name in names]

    optimiser = torch.optim.Adam(free.values(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    engine = Engine(of_step, engine="traced")
    disable = None if progress is None else not progress
    with pyro.validation_enabled(False):
        for _ in tqdm(range(steps), unit="step", desc="ensemble", disable=disable):
            rows = torch.randint(len(x), (members, batch_size), device=x.device)
            value, found = engine("step", [x[rows], y[rows], *free.values()])
            for parameter, gradient in zip(free.values(), found, strict=True):
                parameter.grad = gradient
            optimiser.step()
            schedule.step()
    for parameter in free.values():
        parameter.grad = None
    if not torch.isfinite(value).all():
        raise ValueError(f"the loss of every member must stay finite, got {value.tolist()}: lower learning_rate")
