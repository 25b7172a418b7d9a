"""Data sets as tensors: named ones, tables, images; what changes and what makes them."""

from bnn_pyro.data.datasets import DATASETS, Dataset, Split, load

__all__ = ["DATASETS", "Dataset", "Split", "load"]
