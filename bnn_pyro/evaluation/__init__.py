"""Tensors in, numbers out: scores (metrics), cost, memory and agreement; pages and pictures are made in `reports`."""

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
from bnn_pyro.evaluation.metrics import (
    CoverageCurve,
    ReliabilityCurve,
    classification_metrics,
    coverage_curve,
    regression_metrics,
    reliability_curve,
)
from bnn_pyro.evaluation.predicted_cost import predict_cost

__all__ = [
    "Cost",
    "CostComparison",
    "CoverageCurve",
    "Latency",
    "ReliabilityCurve",
    "classification_metrics",
    "compare_cost",
    "count_flops",
    "count_parameters",
    "coverage_curve",
    "measure_cost",
    "measure_latency",
    "nodes_kept",
    "one_sided_parameters",
    "predict_cost",
    "regression_metrics",
    "reliability_curve",
]
