"""tempering: how a posterior that is not Bayes' own is called, wherever its results appear."""

from typing import Literal

Temperature = float | Literal["cooled", "adapted"]
"""Temperature of draws relative to the posterior's; that of a sampler that is cooled, or adapts to its draws."""


def tempering(kl_weight: float, temperature: Temperature | None = None) -> str:
    """Return in words how a posterior is tempered; nothing if it is the posterior itself.

    Args:
        kl_weight: Weight of the divergence that it was fitted with.
        temperature: Temperature of its draws; None where they were not taken at one.
    """
    if temperature is None:
        return f"tempered (cold) posterior, KL weight {kl_weight:g}" if kl_weight < 1 else ""
    if temperature == "cooled":
        return "draws of a cooled sampler"
    if temperature == "adapted":
        return "draws of a sampler that adapts its prior or its preconditioner to them"
    return f"draws at temperature {temperature:g}" if temperature < 1 else ""
