"""Pictures of a run: how training went, which nodes stay, how well calibrated it is, what the first layer looks at,
what is predicted along an input.

Each function returns a `matplotlib.figure.Figure` of its own, made without pyplot and so without a display or a global
state; `figure.savefig(path)` writes it.
"""

from bnn_pyro.reports.plots.bands import input_influence, kept_inputs, most_influential_input, plot_bands
from bnn_pyro.reports.plots.calibration import Curve, plot_calibration
from bnn_pyro.reports.plots.first_layer import plot_first_layer
from bnn_pyro.reports.plots.nodes import plot_inclusion, plot_nodes_kept
from bnn_pyro.reports.plots.partial_dependence import partial_dependence, plot_partial_dependence
from bnn_pyro.reports.plots.path import plot_path
from bnn_pyro.reports.plots.training import plot_training

__all__ = [
    "Curve",
    "input_influence",
    "kept_inputs",
    "most_influential_input",
    "partial_dependence",
    "plot_bands",
    "plot_calibration",
    "plot_first_layer",
    "plot_inclusion",
    "plot_nodes_kept",
    "plot_partial_dependence",
    "plot_path",
    "plot_training",
]
