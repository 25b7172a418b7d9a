"""KeptInputs: which inputs of a fitted estimator are kept, and how important they are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.inspection import permutation_importance
from sklearn.utils.validation import check_is_fitted

from bnn_pyro.estimators.scaling import Floats
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.empty_groups import empty_groups

_REPEATS = 5  # permutations of a column


class KeptInputs:
    """What is said of the inputs of an estimator that has a ``posterior_``."""

    posterior_: Posterior
    n_features_in_: int
    _importances: Floats | None
    _rows: tuple[Any, Any, Any]
    _seed: int

    def get_support(self, indices: bool = False) -> NDArray[np.bool_] | NDArray[np.int64]:
        """Return which inputs the pruned network reads.

        Where inputs have gates these are the inputs of inclusion probability above 1/2, and otherwise those that
        held-out rows were predicted as well with, or all. Where a layer has no node left the pruned network is a
        constant that reads none.

        Args:
            indices: Whether to return the inputs' numbers in place of a mask.

        Returns:
            A mask, shape ``(n_features_in_,)``, or numbers, shape ``(kept,)``.

        Raises:
            NotFittedError: If the estimator is not fitted.
        """
        check_is_fitted(self)
        gamma, reads = self._inclusion(), self.posterior_.model.selection
        support = np.ones(self.n_features_in_, dtype=bool) if gamma is None else gamma > 0.5
        if gamma is None and reads is not None:
            support = np.isin(np.arange(self.n_features_in_), reads.cpu().numpy())
        if empty_groups(self.posterior_.keep()):
            support[:] = False
        return np.flatnonzero(support) if indices else support

    def get_feature_names_out(self, input_features: Sequence[str] | None = None) -> NDArray[np.object_]:
        """Return the names of the inputs that `get_support` keeps.

        Args:
            input_features: Names of all inputs; None for those of `fit`, or ``x0``, ``x1``, ... where it was given
                none.

        Returns:
            Shape ``(kept,)``.

        Raises:
            NotFittedError: If the estimator is not fitted.
            ValueError: If there are more or fewer names than inputs, or others than those of `fit`.
        """
        support = self.get_support()
        known = getattr(self, "feature_names_in_", None)
        if input_features is None:
            usual = np.array([f"x{i}" for i in range(self.n_features_in_)], dtype=object)
            return np.asarray(usual if known is None else known, dtype=object)[support]
        names = np.asarray(input_features, dtype=object)
        if names.shape != (self.n_features_in_,):
            raise ValueError(f"input_features must have {self.n_features_in_} names, got {len(names)}")
        if known is not None and not np.array_equal(names, known):
            raise ValueError(f"input_features is not equal to feature_names_in_, {list(known)}, got {list(names)}")
        return names[support]

    @property
    def feature_importances_(self) -> Floats:
        """How important each input is, shape ``(n_features_in_,)``.

        Where inputs have gates it is the probability that an input is needed, in [0, 1]; the numbers do not sum to 1,
        and 0.5 is the threshold that `get_support` has (``SelectFromModel(estimator, threshold=0.5)``). Where they have
        none it is what `score` loses on the training rows, 1,000 of them at most, when the input's column is permuted,
        the mean of five times: it is computed when it is asked for first.
        """
        check_is_fitted(self)
        gamma = self._inclusion()
        if gamma is not None:
            return gamma
        if self._importances is None:
            x, y, weight = self._rows
            how = {"n_repeats": _REPEATS, "random_state": self._seed, "sample_weight": weight}
            found = permutation_importance(self, x, y, **how)
            self._importances = found.importances_mean
        return self._importances

    def _inclusion(self) -> Floats | None:
        """Return the inclusion probability of each input; None where inputs have no gates."""
        group = self.posterior_.model.nodes.inputs
        return None if group is None else self.posterior_.inclusion()[group.name].detach().cpu().double().numpy()
