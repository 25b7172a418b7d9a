"""Comparison of variational inference with samplers, on one data set and one network."""

from bnn_pyro.comparison.answers import Answer, Sample, answer, distances
from bnn_pyro.comparison.folder import COMPARISON_FILES, check_comparison_folder, write_comparison
from bnn_pyro.comparison.methods import METHODS, Comparison
from bnn_pyro.comparison.run import Compared, compare

__all__ = [
    "COMPARISON_FILES",
    "METHODS",
    "Answer",
    "Compared",
    "Comparison",
    "Sample",
    "answer",
    "check_comparison_folder",
    "compare",
    "distances",
    "write_comparison",
]
