"""KL weights as they are given on the command line: a number, ``auto``, or several with commas between."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bnn_pyro.recipes import PathPlan

AUTO = "auto"
"""What is given for a KL weight that a sparsity path chooses."""


def kl_weight_of(text: str | None) -> tuple[float | None, bool]:
    """Return a KL weight, None for the recipe's, and whether a path is to choose it.

    Args:
        text: A number or ``auto``; None where nothing was given.

    Raises:
        ValueError: If it is neither.
    """
    if text is None or text == AUTO:
        return None, text == AUTO
    try:
        return float(text), False
    except ValueError as error:
        raise ValueError(f"kl_weight must be a number or {AUTO}, got {text!r}") from error


def path_plan_of(text: str | None, *, refine: bool = False) -> "PathPlan":
    """Return the path of KL weights given with commas between.

    Args:
        text: Such as ``.03,.1,.3,1``; None for the usual ones.
        refine: Whether the pruned network of each point is sampled.

    Raises:
        ValueError: If they are no numbers, or not positive.
    """
    from bnn_pyro.recipes import PathPlan

    if text is None:
        return PathPlan(refine=refine)
    try:
        kl_weights = tuple(float(weight) for weight in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"kl_weights must be numbers with commas between, such as .03,.1,.3,1, got {text!r}"
        ) from error
    return PathPlan(kl_weights=kl_weights, refine=refine)
