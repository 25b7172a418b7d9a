"""Variational guides for spike-and-slab models: they need torch and pyro only, and work on any Pyro model."""

from guides.centered import AutoCentered
from guides.gated import GatedNormal, HardGate, NonCenteredNormal
from guides.multivariate import AutoSpikeSlabMultivariate
from guides.program import AutoProgram
from guides.sites import initial_value
from guides.spike_slab import AutoSpikeSlab

__all__ = [
    "AutoCentered",
    "AutoProgram",
    "AutoSpikeSlab",
    "AutoSpikeSlabMultivariate",
    "GatedNormal",
    "HardGate",
    "NonCenteredNormal",
    "initial_value",
]
