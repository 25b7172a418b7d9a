"""Rows that settings are chosen by, before the run itself."""

import numpy as np
import torch

from bnn_pyro.data import Dataset, Split
from bnn_pyro.data.tables import hold_out


def split_rows(dataset: Dataset, fraction: float, seed: int) -> tuple[Split, Split]:
    """Return the rows to learn from and those to score.

    The latter are the validation rows of the data or, where there are none, a fraction of the training rows, of each
    class alike.

    Args:
        dataset: The data.
        fraction: Of the training rows, in (0, 1).
        seed: Seed of which rows they are.

    Raises:
        ValueError: If there are too few rows to hold some out.
    """
    if dataset.validation is not None:
        return dataset.train, dataset.validation
    train = dataset.train
    kept, held_out = hold_out(train.y.numpy(), np.arange(len(train)), fraction, seed)
    if not len(kept):
        raise ValueError(f"data must have 2 training rows at least, one of them to score, got {len(train)}")
    kept_rows, scored_rows = (torch.from_numpy(rows) for rows in (kept, held_out))
    return train.rows(kept_rows), train.rows(scored_rows)
