"""The whole main job with settings that work: from a data set to a pruned network and its report."""

from bnn_pyro.recipes.defaults import check_data, default_prior, recipe
from bnn_pyro.recipes.definition import METHODS, PRIORS, Recipe, check_names
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.recipes.loading import load_dense, load_pruned, load_run
from bnn_pyro.recipes.path_plan import PathPlan
from bnn_pyro.recipes.prediction import predict_frame
from bnn_pyro.recipes.refined_runs import load_refined, refine_run
from bnn_pyro.recipes.runs import run, train_run
from bnn_pyro.reports.tables import load_table

__all__ = [
    "METHODS",
    "PRIORS",
    "DenseTraining",
    "PathPlan",
    "Recipe",
    "check_data",
    "check_names",
    "default_prior",
    "load_dense",
    "load_pruned",
    "load_refined",
    "load_run",
    "load_table",
    "predict_frame",
    "recipe",
    "refine_run",
    "run",
    "train_run",
]
