"""What the benchmarks of tables share: scores of a prediction, trees and bde as contestants, rows of a file."""

import argparse
import math
import resource
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import timing
import torch
from results_file import locked, write_whole
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import Tensor, nn

from bnn_pyro import SparseNetwork, train_ensemble
from bnn_pyro.data import Dataset, Split, load
from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.likelihoods import NOISE_SITE, Classes, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.recipes import Recipe, recipe

SMALL = (
    "boston-housing",
    "concrete",
    "energy",
    "wine-red",
    "yacht",
    "australian",
    "glass",
    "heart",
    "ionosphere",
    "sonar",
)
LARGE = ("power-plant", "kin8nm", "naval", "protein", "bikesharing")
BDE: dict[str, Any] = {
    "n_members": 8,
    "hidden_layers": [16, 16, 16, 16],
    "seed": 0,
    "epochs": 1000,
    "patience": 20,
    "warmup_steps": 20_000,
    "n_samples": 1000,
    "n_thinning": 10,
}
ESTIMATORS: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "forest": (partial(RandomForestRegressor, random_state=0), partial(RandomForestClassifier, random_state=0)),
    "trees": (
        partial(HistGradientBoostingRegressor, random_state=0),
        partial(HistGradientBoostingClassifier, random_state=0),
    ),
    "mlp": (partial(MLPRegressor, random_state=0), partial(MLPClassifier, random_state=0)),
    "linear": (LinearRegression, LogisticRegression),
    "constant": (DummyRegressor, partial(DummyClassifier, strategy="prior")),
}
Row = dict[str, Any]


def load_split(table: str, data_dir: Path, split: int, *, validation: float = 0.0) -> Dataset:
    """Return a table of the folder in one of its splits."""
    own = data_dir / "tables" / f"{table}.npz"
    return load(str(own) if own.exists() else table, data_dir=data_dir, split=split, validation=validation)


def recipe_of(data: Dataset, prior: str | None = None) -> Recipe:
    """Return the default recipe of a table."""
    return recipe(data.name, prior, data.task, rows=len(data.train), inputs=data.train.x[0].numel())


def weights_of(net: nn.Module) -> int:
    """Return how many parameters a network has."""
    return sum(parameter.numel() for parameter in net.parameters())


def nodes_of(posterior: Posterior) -> dict[str, int]:
    """Return how many nodes of each group are kept."""
    return {name: int(mask.sum()) for name, mask in posterior.keep().items()}


# ---- contestants -----------------------------------------------------------------------------------------------------
def as_classes(probabilities: Tensor) -> Classes:
    """Return the prediction of a single classifier."""
    return Classes(probabilities, probabilities.unsqueeze(0))


def ensemble(model: SparseNetwork, train: tuple[Tensor, Tensor], x: Tensor, *, members: int = 5) -> Classes | Normals:
    """Return what dense networks predict together, each trained from its own seed."""
    values = train_ensemble(model, train, members=members, seed=0, progress=False)
    weights = {parameter.name: values[parameter.name] for parameter in model.bayesian}
    with torch.no_grad():
        outputs = torch.vmap(model.call_net, in_dims=(0, None))(weights, x)
    return model.likelihood.predict(outputs, values.get(NOISE_SITE))


def sklearn_prediction(name: str, data: Dataset, x: Tensor) -> Classes | Tensor:
    """Return what an estimator of scikit-learn with its defaults predicts: classes, or means."""
    regressor, classifier = ESTIMATORS[name]
    rows, y = data.train.x.flatten(1).numpy(), data.train.y.numpy()
    if data.num_classes is None:
        return torch.from_numpy(regressor().fit(rows, y).predict(x.numpy())).to(x)
    fitted = classifier().fit(rows, y)
    probabilities = torch.zeros(len(x), data.num_classes)
    probabilities[:, fitted.classes_] = torch.from_numpy(fitted.predict_proba(x.numpy())).to(x)
    return as_classes(probabilities)


def bde(data: Dataset, x: Tensor) -> Classes | Normals:
    """Return what sklearn-contrib-bde predicts, which has to be installed."""
    from bde import BdeClassifier, BdeRegressor

    rows, y = data.train.x.flatten(1).numpy(), data.train.y.numpy()
    if data.num_classes is None:
        raw = BdeRegressor(**BDE).fit(rows, y).predict(x.numpy(), raw=True)
        found = torch.tensor(raw.tolist()).flatten(0, 1)
        return Normals(found[..., 0], torch.nn.functional.softplus(found[..., 1]) + 1e-6)
    return as_classes(torch.tensor(BdeClassifier(**BDE).fit(rows, y).predict_proba(x.numpy()).tolist()))


# ---- scores ----------------------------------------------------------------------------------------------------------
def scores(found: Classes | Normals | Tensor, test: Split, y_std: float) -> Row:
    """Return scores in the units of the targets.

    Args:
        found: A prediction, or the means of one that has no density.
        test: The rows that were predicted.
        y_std: What the targets were divided by.

    Returns:
        Accuracy, NLL and Brier score of classes; or RMSE, NLL, CRPS and the coverage of central 90 % intervals.
    """
    y = test.y
    if isinstance(found, Classes):
        picked = found.probabilities.gather(1, y.unsqueeze(1)).clamp(min=1e-12)
        right = (found.probabilities.argmax(1) == y).float()
        truth = torch.nn.functional.one_hot(y, found.probabilities.shape[1])
        return {
            "accuracy": float(right.mean()),
            "accuracy_se": float(right.std() / math.sqrt(len(y))),
            "nll": float(-picked.log().mean()),
            "nll_se": float(picked.log().std() / math.sqrt(len(y))),
            "brier": float((found.probabilities - truth).square().sum(1).mean()),
        }
    if isinstance(found, Tensor):
        return {"rmse": y_std * float((found - y).square().mean().sqrt())}
    mixture, original = NormalMixture(found.mean, found.sd.expand_as(found.mean)).scaled(std=y_std), y_std * y.double()
    density, (low, high) = mixture.log_prob(original), mixture.interval(0.9)
    return {
        "rmse": float((mixture.mean - original).square().mean().sqrt()),
        "nll": -float(density.mean()),
        "nll_se": float(density.std() / math.sqrt(len(y))),
        "crps": float(mixture.crps(original).mean()),
        "coverage90": float(((original > low) & (original < high)).double().mean()),
    }


# ---- rows ------------------------------------------------------------------------------------------------------------
def processor_seconds() -> float:
    """Return what this process and its compilers have used."""
    own, theirs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + theirs.ru_utime + theirs.ru_stime


def add(path: Path, row: Row, **settings: Any) -> None:
    """Add a row to a file, with the day, the commit, versions and settings, and print what is new in it."""
    origin = {"date": str(date.today()), **timing.origin(**settings)}
    with locked(path):
        write_whole(path, {"rows": [*timing.read(path), row | origin]})
    print(row, flush=True)


def parser(doc: str | None, tables: tuple[str, ...]) -> argparse.ArgumentParser:
    """Return a parser of the options that these benchmarks share."""
    found = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--tables", nargs="+", default=tables, choices=(*SMALL, *LARGE))
    found.add_argument("--splits", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    found.add_argument("--data-dir", type=Path, default=Path("data"))
    found.add_argument("--table", action="store_true", help="print the table of all rows and stop")
    return found
