"""SparseBayesRegressor: a sparse Bayesian network of real targets, as a scikit-learn estimator."""

from typing import Any, Literal, cast, overload

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin

from bnn_pyro.data import Dataset
from bnn_pyro.estimators.base import SparseBayesEstimator, Table, to_numpy
from bnn_pyro.estimators.scaling import Floats, Scaling
from bnn_pyro.evaluation import NormalMixture
from bnn_pyro.likelihoods import Normals


class SparseBayesRegressor(RegressorMixin, SparseBayesEstimator):  # type: ignore[misc]
    """Regression by a small network that prunes itself, with honest uncertainty.

    A dense perceptron is trained, the posterior of a network with gates on its nodes is fitted from it by variational
    inference, closed nodes are removed, and, where that pays, the posterior of the small network that is left is
    sampled. It is what ``bnn-pyro fit`` does to a table. Inputs and targets are standardised, and predictions are in
    the target's own units.

    Args:
        prior: ``"ss-ig"``, ``"ss-gl"`` or ``"ss-ghs"``: spike and slab on every node, with a Gaussian, group-lasso or
            group-horseshoe slab; or the slab alone, ``"ig"``, ``"gl"``, ``"ghs"``, with which nothing is pruned.
        hidden: Width of each hidden layer, or of a single one, before pruning; None for the recipe's.
        kl_weight: Weight of the divergence: 1 gives the posterior, less a tempered (cold) one that keeps more nodes;
            None for the recipe's.
        select_inputs: Whether inputs have gates too, so that they can be pruned; None for the recipe's choice.
        refine: Whether the pruned network is sampled: ``"auto"`` where that is likely to pay and takes minutes at
            most, ``"yes"`` or True, ``"no"`` or False; or a `bnn_pyro.Refinement` that says how. Sampling may take two
            minutes: searches over parameters are faster with ``"no"``.
        steps: Steps of dense training and of variational inference, each; None for the recipe's.
        random_state: Seed, or numpy's generator; None takes a new seed from numpy's global state. On the CPU the same
            seed gives the same result, where no sampling was stopped by its time limit.
        device: Where to train and predict, ``"cpu"`` or ``"cuda"``.
        verbose: Whether progress bars are shown.

    Attributes:
        posterior_: The posterior that chose the nodes, a `bnn_pyro.posterior.guide.GuidePosterior` on standardised
            data.
        refined_: The posterior of the pruned network, sampled, which predictions are made with; None where it was not
            sampled: they are made with ``posterior_`` then.
        not_refined_: Why it was not sampled, in words; empty where it was.
        n_iter_: Epochs of variational inference.
        n_features_in_: Number of inputs.
        feature_names_in_: Their names, where `fit` was given a DataFrame with names of columns.
        feature_importances_: How important each input is.

    Example:
        >>> import numpy as np
        >>> from bnn_pyro.estimators import SparseBayesRegressor
        >>> rng = np.random.default_rng(0)
        >>> X = rng.uniform(-2, 2, (200, 3))
        >>> y = 100 + 10 * X[:, 0] + rng.normal(0, 1, 200)
        >>> model = SparseBayesRegressor(hidden=100, steps=60, refine="no", random_state=0).fit(X, y)
        >>> model.score(X, y) > 0.8
        True
        >>> mean, std = model.predict(X[:5], return_std=True)
        >>> low, high = model.predict_quantiles(X[:5], [0.05, 0.95]).T
        >>> bool(((low < mean) & (mean < high)).all())
        True
        >>> network = model.prune()  # a plain module: raw inputs in, original units out
    """

    def fit(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> "SparseBayesRegressor":
        """Fit the network.

        Args:
            X: Inputs, numbers of shape ``(rows, features)``; an array or a DataFrame.
            y: Targets, shape ``(rows,)``.
            sample_weight: How many rows each row counts for, shape ``(rows,)``, not negative; None for 1. A row of
                weight 2 is as good as two rows, one of weight 0 is left out. Their sum says how much there is to learn
                from beside the prior: weights that say something of ratios alone should sum to the number of rows.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the data are not finite numbers or have fewer than two rows, or a parameter is out of range.
            TypeError: If a parameter is of another kind.

        Warns:
            ConvergenceWarning: If no node of a layer is left, chains have not mixed, or refining was asked for and
                could not be done.
            UserWarning: If the weights sum to less than a tenth of the number of rows.
        """
        self._fit(X, y, sample_weight, y_numeric=True)
        return self

    @overload
    def predict(self, X: Table, return_std: Literal[False] = False) -> Floats: ...

    @overload
    def predict(self, X: Table, return_std: Literal[True]) -> tuple[Floats, Floats]: ...

    def predict(self, X: Table, return_std: bool = False) -> Floats | tuple[Floats, Floats]:
        """Predict the mean, and the standard deviation if asked for.

        Args:
            X: Inputs, shape ``(rows, features)``.
            return_std: Whether to return the standard deviation of the predictive distribution too, noise included.

        Returns:
            Means, shape ``(rows,)``; or means and standard deviations.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If X does not fit.
        """
        found = [cast(Normals, part).moments() for part in self._predicted(X)]
        mean, std = (to_numpy([pair[i] for pair in found]) for i in range(2))
        mean, std = mean * self._scaling.y_std + self._scaling.y_mean, std * self._scaling.y_std
        return (mean, std) if return_std else mean

    def predict_quantiles(self, X: Table, q: float | ArrayLike = (0.05, 0.5, 0.95)) -> Floats:
        """Predict quantiles of the predictive distribution, noise included.

        Args:
            X: Inputs, shape ``(rows, features)``.
            q: A level in (0, 1), or several.

        Returns:
            Shape ``(rows,)`` for a single level, ``(rows, levels)`` for several.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If X does not fit, or a level is out of range.
        """
        levels = np.asarray(q, dtype=np.float64)
        if levels.ndim > 1 or levels.size == 0 or not ((levels > 0) & (levels < 1)).all():
            raise ValueError(f"q must be one or several levels in (0, 1), got {q!r}")
        wanted = torch.from_numpy(np.atleast_1d(levels))
        found = to_numpy([NormalMixture(part.mean, part.sd).quantile(wanted).T for part in self._normals(X)])
        values = found * self._scaling.y_std + self._scaling.y_mean
        return values if levels.ndim else values[:, 0]

    def _normals(self, X: Table) -> list[Normals]:
        return [cast(Normals, part) for part in self._predicted(X)]

    def _dataset(self, x: Floats, y: Any, weight: Floats | None) -> tuple[Dataset, Scaling]:
        targets = np.asarray(y, dtype=np.float64)
        scaling = Scaling.of(x, targets, weight=weight)
        return scaling.dataset(x, scaling.targets(targets), weight=weight), scaling
