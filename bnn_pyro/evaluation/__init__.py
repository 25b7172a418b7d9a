"""Tensors in, numbers out: predictive distributions and their scores (metrics, intervals), cost, memory and agreement.

Pages and pictures are made in `reports`.
"""

from bnn_pyro.evaluation.class_probabilities import ClassProbabilities
from bnn_pyro.evaluation.cost import (
    Cost,
    CostComparison,
    Latency,
    compare_cost,
    count_flops,
    count_parameters,
    measure_cost,
    measure_latency,
    nodes_kept,
    one_sided_parameters,
)
from bnn_pyro.evaluation.intervals import interval_metrics
from bnn_pyro.evaluation.metrics import (
    CoverageCurve,
    ReliabilityCurve,
    classification_metrics,
    coverage_curve,
    regression_metrics,
    reliability_curve,
)
from bnn_pyro.evaluation.normal_mixture import NormalMixture
from bnn_pyro.evaluation.predicted_cost import predict_cost

__all__ = [
    "ClassProbabilities",
    "Cost",
    "CostComparison",
    "CoverageCurve",
    "Latency",
    "NormalMixture",
    "ReliabilityCurve",
    "classification_metrics",
    "compare_cost",
    "count_flops",
    "count_parameters",
    "coverage_curve",
    "interval_metrics",
    "measure_cost",
    "measure_latency",
    "nodes_kept",
    "one_sided_parameters",
    "predict_cost",
    "regression_metrics",
    "reliability_curve",
]
