"""SparseBayesClassifier: a sparse Bayesian network of classes, as a scikit-learn estimator."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from bnn_pyro.data import Dataset
from bnn_pyro.estimators.base import SparseBayesEstimator, Table, to_numpy
from bnn_pyro.estimators.scaling import Floats, Scaling
from bnn_pyro.likelihoods import Classes


class SparseBayesClassifier(ClassifierMixin, SparseBayesEstimator):  # type: ignore[misc]
    """Classification by a small network that prunes itself, with probabilities averaged over a posterior.

    What it does, its parameters and its attributes are those of `bnn_pyro.estimators.SparseBayesRegressor`.

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
        classes_: The classes, sorted, shape ``(classes,)``.
        posterior_: The posterior that chose the nodes, a `bnn_pyro.posterior.guide.GuidePosterior` on standardised
            inputs.
        refined_: The posterior of the pruned network, sampled, which predictions are made with; None where it was not
            sampled: they are made with ``posterior_`` then.
        not_refined_: Why it was not sampled, in words; empty where it was.
        n_iter_: Epochs of variational inference.
        n_features_in_: Number of inputs.
        feature_names_in_: Their names, where `fit` was given a DataFrame with names of columns.
        feature_importances_: How important each input is.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> from bnn_pyro.estimators import SparseBayesClassifier
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> model = SparseBayesClassifier(hidden=100, steps=60, refine="no", random_state=0).fit(X, y)
        >>> model.predict_proba(X[:4]).shape
        (4, 3)
        >>> model.score(X, y) > 0.7
        True
    """

    classes_: NDArray[Any]

    def fit(self, X: Table, y: ArrayLike, sample_weight: ArrayLike | None = None) -> "SparseBayesClassifier":
        """Fit the network.

        Args:
            X: Inputs, numbers of shape ``(rows, features)``; an array or a DataFrame.
            y: Classes, shape ``(rows,)``, of any kind that can be sorted.
            sample_weight: How many rows each row counts for, shape ``(rows,)``, not negative; None for 1. A row of
                weight 2 is as good as two rows, one of weight 0 is left out, and so is a class without other rows.
                Their sum says how much there is to learn from beside the prior: weights that say something of ratios
                alone should sum to the number of rows.

        Returns:
            The estimator itself.

        Raises:
            ValueError: If the inputs are not finite numbers, there is only one class, or a parameter is out of range.
            TypeError: If a parameter is of another kind.

        Warns:
            ConvergenceWarning: If no node of a layer is left, chains have not mixed, or refining was asked for and
                could not be done.
            UserWarning: If the weights sum to less than a tenth of the number of rows.
        """
        self._fit(X, y, sample_weight)
        return self

    def predict(self, X: Table) -> NDArray[Any]:
        """Predict the most probable class.

        Args:
            X: Inputs, shape ``(rows, features)``.

        Returns:
            Members of ``classes_``, shape ``(rows,)``.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If X does not fit.
        """
        best = self.predict_proba(X).argmax(1)  # which raises where there are no classes yet
        found: NDArray[Any] = self.classes_[best]
        return found

    def predict_proba(self, X: Table) -> Floats:
        """Predict the probability of each class, averaged over the posterior.

        Args:
            X: Inputs, shape ``(rows, features)``.

        Returns:
            In the order of ``classes_``, shape ``(rows, classes)``.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If X does not fit.
        """
        return to_numpy([cast(Classes, part).probabilities for part in self._predicted(X)])

    def _dataset(self, x: Floats, y: Any, weight: Floats | None) -> tuple[Dataset, Scaling]:
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise ValueError(f"y must have at least two classes to tell apart, got one class: {classes[0]!r}")
        self.classes_ = classes
        scaling, numbers = Scaling.of(x, weight=weight), torch.from_numpy(labels.astype(np.int64))
        return scaling.dataset(x, numbers, tuple(map(str, classes)), weight=weight), scaling
