"""Whether the hand-written network has the bound that ours has, so that their times can be compared."""

from dataclasses import replace
from operator import attrgetter
from typing import Any

import torch
from contestants import CASES, NUM_DATA, by_hand
from handwritten import SparsePerceptron
from torch import Tensor

from bnn_pyro import SparseNetwork
from bnn_pyro.inference.svi.elbo import SparseELBO
from guides import AutoSpikeSlab


def check_same_bound(*, draws: int = 200, tolerance: float = 5.0) -> str:
    """Check that the hand-written bound is ours: divergences equal, log-likelihoods within the error of their means.

    Args:
        draws: Draws of each, on a small net with parameters off their starting values, in double precision.
        tolerance: Largest difference of means, in standard errors.

    Returns:
        A line that says how near they are.

    Raises:
        RuntimeError: If they differ.
    """
    case = replace(CASES[-1], name="check")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(2)
        model, guide = case.posterior(torch.device("cpu"))
        for module in (model, guide):
            module.double()
        for parameter in guide.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
        x, y = ((t.double() if t.is_floating_point() else t) for t in case.batches(torch.device("cpu"))[0])
        pairs = [_bounds(by_hand(case, local).double(), model, guide, x, y, draws) for local in (False, True)]
    lines = []
    for name, (ours_kl, their_kl, gap) in zip(("weights", "local"), pairs, strict=True):
        if abs(ours_kl / their_kl - 1) > 1e-9 or abs(gap) > tolerance:
            raise RuntimeError(f"handwritten-{name} has another bound: KL {their_kl}, ours {ours_kl}; NLL off {gap} se")
        lines.append(f"{name}: KL {ours_kl:.6f} = {their_kl:.6f}, NLL {gap:+.1f} standard errors apart")
    return "hand-written bound against ours, " + "; ".join(lines)


def _bounds(
    net: SparsePerceptron, model: SparseNetwork, guide: AutoSpikeSlab, x: Tensor, y: Tensor, draws: int
) -> tuple[float, float, float]:
    """Return both divergences, and the difference of the log-likelihoods in standard errors."""
    _take_parameters(net, guide)
    free, full = (SparseELBO(kl_weight=weight) for weight in (0.0, 1.0))
    torch.manual_seed(3)
    whole = full.differentiable_loss(model, guide, x, y)
    torch.manual_seed(3)
    kl = whole - free.differentiable_loss(model, guide, x, y)
    first = torch.stack([free.differentiable_loss(model, guide, x, y) / NUM_DATA for _ in range(draws)])
    second = torch.stack([net.loss(x, y, kl_weight=0.0) for _ in range(draws)])
    gap = (first.mean() - second.mean()) / ((first.var() + second.var()) / draws).sqrt()
    return float(kl), float(net.kl()), float(gap)


def _take_parameters(net: SparsePerceptron, guide: AutoSpikeSlab) -> None:
    """Copies a guide's parameters into the hand-written network."""
    names = [f"hidden{depth}" for depth in range(1, len(net.layers))] + ["output"]
    for name, layer in zip(names, net.layers, strict=True):
        for leaf in ("weight", "bias"):
            getattr(layer, f"{leaf}_loc").copy_(_of(guide.locs, name, leaf))
            getattr(layer, f"{leaf}_rho").copy_(_rho(guide.scales, name, leaf))
        _take_factors(layer.tau, guide, name, "tau")
        if layer.logits is not None:
            layer.logits.copy_(_of(guide.logits, name, "gate"))
    _take_factors(net.global_scale, guide, "global_scale")


def _take_factors(pair: Any, guide: AutoSpikeSlab, *path: str) -> None:
    for i, factor in enumerate(("alpha", "beta")):
        pair.loc[i].copy_(_of(guide.locs, *path, factor).reshape(-1))
        pair.rho[i].copy_(_rho(guide.scales, *path, factor).reshape(-1))


def _of(owner: Any, *path: str) -> Tensor:
    value: Tensor = attrgetter(".".join(path))(owner)
    return value.detach()


def _rho(owner: Any, *path: str) -> Tensor:
    return _of(owner, *path).log()
