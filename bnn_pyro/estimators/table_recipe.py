"""table_recipe: an estimator's parameters, checked, as the recipe of a run."""

from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, Literal

from bnn_pyro.recipes import Recipe, recipe
from bnn_pyro.refinement import Refinement

Refine = Literal["auto", "no", "yes"] | bool | Refinement
"""Whether the pruned network is sampled, in words or as a bool; or how it is, and then in any case."""


def table_recipe(
    task: Literal["classification", "regression"],
    rows: int,
    *,
    inputs: int | None = None,
    prior: str = "ss-ghs",
    hidden: int | Sequence[int] | None = None,
    kl_weight: float | None = None,
    select_inputs: bool | None = None,
    refine: Refine = "auto",
    steps: int | None = None,
) -> Recipe:
    """Return the default recipe of a table with what was asked for in its place.

    Args:
        task: What the targets are.
        rows: Number of training rows.
        inputs: Number of input features; None if it is not known.
        prior: One of `bnn_pyro.recipes.PRIORS`.
        hidden: Width of each hidden layer, or of a single one; None for the recipe's.
        kl_weight: Weight of the divergence; None for the recipe's.
        select_inputs: Whether inputs have gates too; None for the recipe's choice.
        refine: Whether the pruned network is sampled, and how.
        steps: Steps of dense training and of variational inference, each; None for the recipe's.

    Returns:
        The recipe.

    Raises:
        ValueError: If a value is out of range, or values do not fit each other.
        TypeError: If a value is of another kind.
    """
    if not isinstance(prior, str):
        raise TypeError(f"prior must be the name of a prior, got {prior!r}")
    settings = recipe("table.npz", prior, task, rows=rows, inputs=inputs)
    changes: dict[str, Any] = {}
    if hidden is not None:
        changes["hidden"] = _widths(hidden)
    if kl_weight is not None:
        if not isinstance(kl_weight, Real) or isinstance(kl_weight, bool):
            raise TypeError(f"kl_weight must be a number or None, got {kl_weight!r}")
        settings = settings.with_kl_weight(float(kl_weight))  # of the posterior in the end
    if select_inputs is not None:
        changes["select_inputs"] = bool(select_inputs)
    refinement, if_worth = _refinement(refine, settings.refinement or Refinement())
    settings = replace(settings, **changes, refinement=refinement, refine_if_worth=if_worth)
    return settings if steps is None else _with_steps(settings, steps, rows)


def _widths(hidden: object) -> tuple[int, ...]:
    widths = (hidden,) if isinstance(hidden, Integral) else hidden
    try:
        found = tuple(width for width in widths)  # type: ignore[attr-defined]
    except TypeError:
        found = (None,)
    if not found or not all(isinstance(width, Integral) and not isinstance(width, bool) for width in found):
        raise TypeError(f"hidden must be a whole number or a sequence of them, or None, got {hidden!r}")
    return tuple(int(width) for width in found)


def _refinement(refine: object, usual: Refinement) -> tuple[Refinement | None, bool]:
    """Return how a run is refined, and whether only if that is worth it."""
    if isinstance(refine, Refinement):
        return refine, False
    if isinstance(refine, bool):
        refine = "yes" if refine else "no"
    if refine not in ("auto", "no", "yes"):
        raise ValueError(f"refine must be auto, no, yes, a bool or a Refinement, got {refine!r}")
    return (None, False) if refine == "no" else (usual, refine == "auto")


def _with_steps(settings: Recipe, steps: object, rows: int) -> Recipe:
    """Return the same recipe with both of its trainings as long as some steps, in whole epochs."""
    if not isinstance(steps, Integral) or isinstance(steps, bool):
        raise TypeError(f"steps must be a whole number or None, got {steps!r}")
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    epochs, dense = (max(1, round(int(steps) / -(-rows // size))) for size in _batch_sizes(settings))
    return replace(settings, dense=replace(settings.dense, epochs=dense)).with_epochs(epochs)


def _batch_sizes(settings: Recipe) -> tuple[int, int]:
    return settings.batch_size, settings.dense.batch_size
