"""Estimators for scikit-learn: arrays and DataFrames in, predictions in original units out."""

from bnn_pyro.estimators.classifier import SparseBayesClassifier
from bnn_pyro.estimators.regressor import SparseBayesRegressor

__all__ = ["SparseBayesClassifier", "SparseBayesRegressor"]
