"""BlackJAX's MCLMC and NUTS on the posteriors of ``reference_posteriors.py``; blackjax and jax have to be installed.

The log densities are written anew in JAX, in double precision, over the coordinates of our own samplers: Normals
non-centred, positive latents by their logarithms, in the order of the potential energy's vector. Before a run their
gradients are held against those of the potential energy. All chains go side by side through ``vmap``, and each tunes
itself, which is how BlackJAX's own tuning works.

Source: Cabezas et al. (2024), *BlackJAX: Composable Bayesian inference in JAX*.
"""

import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import torch
from blackjax.mcmc.integrators import isokinetic_mclachlan
from reference_posteriors import HORSESHOE_NOISE
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.potential.potential import Potential

jax.config.update("jax_enable_x64", True)

GRADIENTS = 2  # of a step of the isokinetic McLachlan integrator
TUNED = 3  # times the warm-up is the num_steps of the tuning, which takes a third of it by default
TOLERANCE = 1e-8  # between gradients, relative to the largest
VERSIONS = {name: importlib.metadata.version(name) for name in ("blackjax", "jax")}

Density = Callable[[Any], Any]
Chains = tuple[Any, ...]


# ---- log densities ---------------------------------------------------------------------------------------------------


def _log_half_cauchy(log_value: Any, scale: float) -> Any:
    r"""Return the log density of the logarithm of a half-Cauchy value, up to a constant.

    .. math:: \log p(u) = u - \log(1 + e^{2u} / s^2).

    Args:
        log_value: u, any shape.
        scale: s.
    """
    return log_value - jnp.logaddexp(0.0, 2 * (log_value - math.log(scale)))


def _standard_normal(x: Any) -> Any:
    return -jnp.square(x).sum() / 2


def _normal(factor: Any) -> Density:
    r"""Return :math:`-\tfrac12 \|L^{-1} x\|^2` as a function of x, for a Cholesky factor L of shape ``(n, n)``."""
    whitening = np.linalg.inv(factor)
    return lambda x: _standard_normal(whitening @ x)


def _schools(y: Any, sigma: Any) -> Density:
    r"""Return the log density of eight schools, the effects non-centred.

    For coordinates :math:`(m, u, z)` of shapes ``()``, ``()`` and ``(8,)``

    .. math:: y_i \sim N(5 m + e^u z_i, \sigma_i^2), \quad m, z_i \sim N(0, 1), \quad e^u \sim C^+(0, 5).
    """

    def log_density(x: Any) -> Any:
        mean, log_spread, z = x[0], x[1], x[2:]
        effect = 5.0 * mean + jnp.exp(log_spread) * z
        prior = _standard_normal(mean) + _standard_normal(z) + _log_half_cauchy(log_spread, 5.0)
        return prior + _standard_normal((y - effect) / sigma)

    return log_density


def _linear(rows: Any, y: Any) -> Density:
    r"""Return the log density of the linear regression with unknown noise.

    For coordinates :math:`(z, u)` of shapes ``(columns,)`` and ``()``

    .. math:: y_i \sim N(10\, x_i^\top z, e^{2u}), \quad z_j \sim N(0, 1), \quad e^u \sim C^+(0, 1).
    """

    def log_density(x: Any) -> Any:
        z, log_noise = x[:-1], x[-1]
        residual = (y - rows @ (10.0 * z)) / jnp.exp(log_noise)
        prior = _standard_normal(z) + _log_half_cauchy(log_noise, 1.0)
        return prior + _standard_normal(residual) - len(y) * log_noise

    return log_density


def _logistic(rows: Any, y: Any) -> Density:
    r"""Return the log density of the logistic regression.

    .. math:: \log p(w) = \sum_i \left( y_i x_i^\top w - \log(1 + e^{x_i^\top w}) \right) - \tfrac12 \|w\|^2.
    """

    def log_density(x: Any) -> Any:
        logits = rows @ x
        return _standard_normal(x) + y @ logits - jnp.logaddexp(0.0, logits).sum()

    return log_density


def _horseshoe(rows: Any, y: Any) -> Density:
    r"""Return the log density of the horseshoe regression, the coefficients non-centred.

    For coordinates :math:`(u, v, z)` of shapes ``()``, ``(columns,)`` and ``(columns,)``

    .. math:: y_i \sim N(\textstyle\sum_j x_{ij} e^{u + v_j} z_j, 0.7^2), \quad
        z_j \sim N(0, 1), \quad e^u, e^{v_j} \sim C^+(0, 1).
    """
    columns = rows.shape[1]

    def log_density(x: Any) -> Any:
        whole, own, z = x[0], x[1 : 1 + columns], x[1 + columns :]
        prior = _standard_normal(z) + _log_half_cauchy(whole, 1.0) + _log_half_cauchy(own, 1.0).sum()
        return prior + _standard_normal((y - rows @ (jnp.exp(whole + own) * z)) / HORSESHOE_NOISE)

    return log_density


LOG_DENSITIES: dict[str, Callable[..., Density]] = {
    "normal": _normal,
    "schools": _schools,
    "linear": _linear,
    "logistic": _logistic,
    "horseshoe": _horseshoe,
}
"""Target -> from the arguments, as numpy arrays, to its log density of a vector of shape ``(n,)``, up to a constant."""


# ---- samplers --------------------------------------------------------------------------------------------------------


def _mclmc(log_density: Density, plan: SamplingPlan, start: Any, key: Any) -> Chains:
    """Run a chain of MCLMC with the parameters that its own tuning finds, a scale for each coordinate among them."""
    first, second, third = jax.random.split(key, 3)
    state, found = blackjax.mclmc_find_L_and_step_size(
        lambda scale: blackjax.mclmc.build_kernel(log_density, scale, isokinetic_mclachlan),
        TUNED * plan.warmup,
        blackjax.mclmc.init(start, log_density, first),
        second,
        desired_energy_var=plan.target_error,
        diagonal_preconditioning=True,
    )
    step = blackjax.mclmc.build_kernel(log_density, found.sqrt_diag_cov, isokinetic_mclachlan)

    def draw(state: Any, key: Any) -> Any:
        keys = jax.random.split(key, plan.thinning)
        state, _ = jax.lax.scan(lambda s, k: (step(k, s, found.L, found.step_size)[0], None), state, keys)
        return state, state.position

    _, positions = jax.lax.scan(draw, state, jax.random.split(third, plan.draws))
    count = jnp.full(plan.draws, GRADIENTS * plan.thinning)
    return positions, count, jnp.ones(plan.draws), ~jnp.isfinite(positions).all(-1), found.step_size


def _nuts(log_density: Density, plan: SamplingPlan, start: Any, key: Any) -> Chains:
    """Run a chain of NUTS with the step size and the diagonal mass matrix that its window adaptation finds."""
    first, second = jax.random.split(key)
    adaptation = blackjax.window_adaptation(
        blackjax.nuts,
        log_density,
        target_acceptance_rate=plan.target_accept,
        adaptation_info_fn=lambda *_: None,
        max_num_doublings=plan.max_tree_depth,
    )
    (state, found), _ = adaptation.run(first, start, num_steps=plan.warmup)
    step = blackjax.nuts(log_density, **found).step

    def draw(state: Any, key: Any) -> Any:
        state, info = step(key, state)
        return state, (state.position, info.num_integration_steps, info.acceptance_rate, info.is_divergent)

    _, kept = jax.lax.scan(draw, state, jax.random.split(second, plan.draws))
    return (*kept, found["step_size"])


def drawn(plan: SamplingPlan, target: str, args: tuple[Tensor, ...], potential: Potential, seed: int) -> Any:
    """Return what a run has kept, under the names of our own runs.

    Args:
        plan: The kernel, ``"mclmc"`` or ``"nuts"``, its target error or acceptance, and how many chains and draws.
        target: A name of `LOG_DENSITIES`.
        args: Arguments of the target's model.
        potential: The potential energy of the same target: gives the starting points and checks the density.
        seed: Of JAX's keys.

    Returns:
        ``vectors``, shape ``(chains, draws, n)``; ``leapfrogs`` (the gradients), ``acceptance`` and ``diverged`` (of
        MCLMC: not finite), ``(chains, draws)``; ``step_size``, ``(chains,)``.

    Raises:
        ValueError: If the density is not that of the potential energy.
    """
    log_density = LOG_DENSITIES[target](*(each.numpy() for each in args))
    starts = potential.starts(plan.chains)
    _check(log_density, potential, starts)
    run = {"mclmc": _mclmc, "nuts": _nuts}[plan.kernel]
    keys = jax.random.split(jax.random.PRNGKey(seed), plan.chains)
    found = jax.jit(jax.vmap(lambda start, key: run(log_density, plan, start, key)))(starts.numpy(), keys)
    names = ("vectors", "leapfrogs", "acceptance", "diverged", "step_size")
    return {name: torch.tensor(np.asarray(each)) for name, each in zip(names, found, strict=True)}


def _check(log_density: Density, potential: Potential, at: Tensor) -> None:
    """Raise if the gradients of a log density are not the negative ones of a potential energy, at some vectors."""
    ours = -potential.value_and_gradient(at)[1]
    theirs = torch.tensor(np.asarray(jax.vmap(jax.grad(log_density))(at.numpy())))
    error = float((ours - theirs).abs().max() / ours.abs().max())
    if not error < TOLERANCE:
        raise ValueError(f"log density must be that of the potential energy, got gradients that differ by {error:.2g}")
