"""Data sets as tensors: named ones, tables, images; what changes and what makes them."""

from bnn_pyro.data.datasets import DATASETS, IMAGES, Dataset, Split, has_columns, is_data, load
from bnn_pyro.data.encoding import TableEncoding

__all__ = ["DATASETS", "IMAGES", "Dataset", "Split", "TableEncoding", "has_columns", "is_data", "load"]
