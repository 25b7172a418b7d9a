"""How the dense network of a table is trained: learning rate, epochs, and early stopping, on rows held out of split 0.

    python benchmarks/dense_training.py --data-dir data
    python benchmarks/dense_training.py --data-dir data --tables energy heart --variants stopped

The held-out rows are those of ``table_recipe.py``: a fifth of the training rows of split 0. `before` trains for 300
epochs, or 2,000 steps if that is more, and takes the last epoch; `short` stops such a run where a tenth of the rows was
predicted best; `stopped` does so within as many epochs as the posterior is fitted for, `fast` at three times the
learning rate. `fast` fits best here, but the posterior of `naval` that starts from it was worse in two of three runs
(RMSE .0020 and .0017 for .0011), so that `stopped` is the default, ``_table_settings`` of
``bnn_pyro/recipes/defaults.py``. One seed. Rows that are there already are skipped.
"""

import argparse
import time
from dataclasses import asdict, replace
from typing import Any

import timing
import torch
from table_recipe import CLASSES, LARGE, REGRESSION, held_out
from table_scores import add, parser, read, scores

from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.recipes import Recipe, recipe
from bnn_pyro.recipes.dense_training import DenseTraining, training_noise
from bnn_pyro.reports.markdown import markdown_table
from bnn_pyro.reports.predictions import predict_net

RESULTS = timing.RESULTS / "dense_training.json"
SHORT_EPOCHS, SHORT_STEPS = 300, 2_000


def variants(settings: Recipe, rows: int) -> dict[str, DenseTraining]:
    """Return the ways to train, by name.

    Args:
        settings: The recipe of a table.
        rows: Its training rows.
    """
    per_epoch = -(-rows // settings.batch_size)
    short = min(settings.epochs, max(SHORT_EPOCHS, round(SHORT_STEPS / per_epoch)))
    return {
        "before": DenseTraining(epochs=short),
        "short": DenseTraining(epochs=short, validation=0.1),
        "stopped": DenseTraining(epochs=settings.epochs, validation=0.1),
        "fast": DenseTraining(epochs=settings.epochs, learning_rate=3e-3, validation=0.1),
    }


def main() -> None:
    """Run what the command line asks for, and print the table."""
    parsed = parser(__doc__, (*REGRESSION, *CLASSES, *LARGE))
    parsed.add_argument("--variants", nargs="+", default=["before", "short", "stopped", "fast"])
    options = parsed.parse_args()
    timing.prepare(1)
    torch.set_flush_denormal(True)
    if not options.table:
        for table in options.tables:
            for variant in options.variants:
                _add_row(table, variant, options)
    shown = ("rmse", "accuracy", "nll")
    lines = [
        (row["table"], row["variant"], *(f"{row[name]:.4g}" if name in row else "" for name in shown))
        for row in read(RESULTS)
    ]
    print(markdown_table(("table", "variant", *shown), lines))


def _add_row(table: str, variant: str, options: argparse.Namespace) -> None:
    key: dict[str, Any] = {"table": table, "variant": variant}
    if any(key.items() <= row.items() for row in read(RESULTS)):
        return
    data = held_out(table, options.data_dir, 0)
    usual = recipe(data.name, None, data.task, rows=len(data.train))
    settings = replace(usual, select_inputs=False, noise="constant")
    training = variants(settings, len(data.train))[variant]
    train, (x, _) = (settings.tensors(part) for part in (data.train, data.test))
    likelihood = settings.likelihood(data.task)
    torch.manual_seed(0)
    net = settings.make_net(data.input_shape, settings.outputs(data.num_classes))
    start = time.perf_counter()
    dense = train_dense(net, train, likelihood=likelihood, **asdict(training), seed=0, progress=False)
    seconds = time.perf_counter() - start
    noise = training_noise(dense, train, likelihood)
    found = scores(predict_net(dense, likelihood, x, noise), data.test, data.y_std)
    add(RESULTS, {**key, **found, "seconds": seconds}, threads=1, seed=0, training=asdict(training))


if __name__ == "__main__":
    main()
