"""What is run on the reference posteriors: each kernel with its defaults, and what came of it."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.posterior.draws import Draws
from tests.references.catalogue import posterior
from tests.references.posterior import Comparison, compare

PLANS = {
    "nuts": SamplingPlan(kernel="nuts", chains=4, warmup=300, draws=300),
    "chees": SamplingPlan(kernel="chees", chains=32, warmup=300, draws=150),
    "mams": SamplingPlan(kernel="mams", chains=32, warmup=300, draws=150),
    "mclmc": SamplingPlan(kernel="mclmc", chains=32, warmup=1500, draws=300, thinning=5),
}
"""Defaults but for the number and the length of the chains."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """A kernel on a posterior.

    Attributes:
        comparison: How far its moments are from the published ones.
        draws: Its draws.
        warnings: What was logged.
        seconds: What it took, compiling or tracing included.
        plan: How it was run.
    """

    comparison: Comparison
    draws: Draws
    warnings: list[str]
    seconds: float
    plan: SamplingPlan


def run(name: str, kernel: str, *, seed: int = 0, plan: SamplingPlan | None = None) -> Outcome:
    """Run a kernel on a posterior.

    Args:
        name: Name of the posterior.
        kernel: Name of the kernel.
        seed: The seed.
        plan: How to run it; None for ``PLANS``.
    """
    it = posterior(name)
    plan = replace(PLANS[kernel] if plan is None else plan, noncentered=it.noncentered)
    start = time.perf_counter()
    with _logged() as warnings:
        draws = it.sampled(plan, seed=seed, engine="traced")
    return Outcome(compare(it.summary, it.quantities(draws.values)), draws, warnings, time.perf_counter() - start, plan)


@contextmanager
def _logged() -> Iterator[list[str]]:
    """Collect the warnings of a block."""
    messages: list[str] = []

    class Collecting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    logger, handler = logging.getLogger("bnn_pyro"), Collecting(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
