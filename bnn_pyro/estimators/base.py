"""SparseBayesEstimator: what the estimators share, from parameters to a fitted posterior."""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor, nn

from bnn_pyro.data import Dataset
from bnn_pyro.estimators.inputs import KeptInputs
from bnn_pyro.estimators.original_units import OriginalUnits
from bnn_pyro.estimators.scaling import Floats, Scaling
from bnn_pyro.estimators.table_recipe import Refine, table_recipe
from bnn_pyro.estimators.threads import threads_for
from bnn_pyro.inference.generators import seeded
from bnn_pyro.likelihoods import Classes, Normals
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.diagnostics import LEAST_DRAWS, MIXED_MEDIAN, MIXED_TAIL, r_hat_summary
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.predictive_net import PredictiveNet
from bnn_pyro.posterior.prune import prune
from bnn_pyro.posterior.sampled import SampledPosterior, some_rows
from bnn_pyro.posterior.scores import known
from bnn_pyro.recipes import train_run
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.refined_measures import SCORED_DRAWS

Table = Any
"""Numbers in rows and columns, as scikit-learn takes them: an array, a DataFrame, a list of lists."""

_ROWS_AT_ONCE = 256  # so that memory does not grow with draws times rows
_LEAST_SHARE = 0.1  # of the rows, that weights sum to without a warning
_SHOWN_ROWS = 1_000  # training rows that are kept for the importance of inputs without gates


class SparseBayesEstimator(KeptInputs, BaseEstimator):  # type: ignore[misc]
    """What `SparseBayesRegressor` and `SparseBayesClassifier` share; they say what the parameters mean."""

    def __init__(
        self,
        *,
        prior: str = "ss-ghs",
        hidden: int | Sequence[int] | None = None,
        kl_weight: float | None = None,
        select_inputs: bool | None = None,
        refine: Refine = "auto",
        steps: int | None = None,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        verbose: int = 0,
    ) -> None:
        self.prior = prior
        self.hidden = hidden
        self.kl_weight = kl_weight
        self.select_inputs = select_inputs
        self.refine = refine
        self.steps = steps
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def __sklearn_is_fitted__(self) -> bool:
        """Return whether a `fit` has come to its end."""
        return hasattr(self, "_predictive")

    def prune(self) -> nn.Module:
        """Return the pruned network as a plain module that takes raw inputs.

        It is the median-probability model of ``posterior_`` without its closed nodes: a single small network, whose
        predictions are near those of `predict`, but no average over a posterior. Standardising is part of it, by
        buffers. The estimator is not changed.

        Returns:
            A module from inputs in their own units, shape ``(rows, n_features_in_)``, to the predicted mean in the
            target's units, shape ``(rows,)``, or to the logits of ``classes_``, shape ``(rows, classes)``.

        Raises:
            NotFittedError: If the estimator is not fitted.
        """
        check_is_fitted(self)
        is_regression = not self.posterior_.is_classification
        return OriginalUnits(prune(self.posterior_), self._scaling, is_regression=is_regression)

    # ---- fitting -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def _dataset(self, x: Floats, y: Any, weight: Floats | None) -> tuple[Dataset, Scaling]:
        """Return checked arrays as the data of a run, and their scaling."""

    def _checked(self, X: Table, **options: Any) -> Any:
        """Return X, or X and y, as arrays of float64; keep or check the inputs' number and names."""
        try:
            return validate_data(self, X, dtype=np.float64, **options)
        except ValueError as error:
            if "could not convert" not in str(error):
                raise
            raise ValueError(
                f"X must hold numbers{_text_columns(X)}: {error}. Encode text columns first, for instance by a "
                "OneHotEncoder in a ColumnTransformer"
            ) from error

    def _fit(self, X: Table, y: Any, sample_weight: ArrayLike | None, **options: Any) -> None:
        """Check data and parameters, run the recipe and keep what predictions need."""
        x, y = self._checked(X, y=y, ensure_min_samples=2, **options)
        x, y, weight = _weighted(x, y, sample_weight)
        dataset, scaling = self._dataset(x, y, weight)
        settings = table_recipe(
            dataset.task,
            len(x),
            inputs=x.shape[1],
            prior=self.prior,
            hidden=self.hidden,
            kl_weight=self.kl_weight,
            select_inputs=self.select_inputs,
            refine=self.refine,
            steps=self.steps,
        )
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with threads_for(settings.hidden):
            run = train_run(dataset, settings, seed=seed, device=self.device, progress=bool(self.verbose))
        is_asked = settings.refinement is not None and not settings.refine_if_worth
        self._keep(run, scaling, seed, refine_was_asked_for=is_asked)
        shown = np.linspace(0, len(x) - 1, min(len(x), _SHOWN_ROWS)).round().astype(int)
        self._rows = (x[shown], np.asarray(y)[shown], None if weight is None else weight[shown])
        self._importances = None

    def _keep(self, run: Run, scaling: Scaling, seed: int, *, refine_was_asked_for: bool) -> None:
        """Keep a finished run, and warn of what makes it useless."""
        self.posterior_: Posterior = run.posterior
        self.refined_: SampledPosterior | None = run.refined
        self.not_refined_ = "" if run.refined is not None else run.not_refined or "refine='no'"
        self.n_iter_ = len(run.posterior.history)
        self._scaling, self._seed = scaling, seed
        for message in self._doubts(run, refine_was_asked_for=refine_was_asked_for):
            warnings.warn(message, ConvergenceWarning, stacklevel=4)
        best = run.posterior if run.refined is None else run.refined
        with seeded(seed, run.test[0].device):
            drawn = best.network_draws(num_samples=None if run.refined is None else SCORED_DRAWS)
        # of double precision, in which a row's prediction does not depend on the rows beside it
        self._predictive = PredictiveNet(drawn, best.model.likelihood).double()

    def _doubts(self, run: Run, *, refine_was_asked_for: bool) -> Iterator[str]:
        """Yield in words what makes a run useless, and what to do about it."""
        for name in empty_groups(run.posterior.keep()):
            yield (
                f"the pruned network is a constant: no node of {name!r} is left. Use a kl_weight below "
                f"{run.posterior.kl_weight:g}, more steps or rows, or a prior without gates, such as "
                f"{self.prior.removeprefix('ss-')!r}"
            )
        if refine_was_asked_for and run.refined is None:
            yield f"the pruned network is not refined: {run.not_refined}"
        if run.refined is not None and run.refined.draws.energy.shape[1] >= LEAST_DRAWS and run.train_x is not None:
            median, tail = r_hat_summary(run.refined.prediction_r_hat(some_rows(run.train_x)))
            if median > MIXED_MEDIAN or tail > MIXED_TAIL:
                yield (
                    f"the chains of the refined network have not mixed: R-hat of their predictions on training rows is "
                    f"{median:.3f} in the median and {tail:.3f} at 95 %, and should be at most {MIXED_MEDIAN:g} and "
                    f"{MIXED_TAIL:g}. Give them more time by refine=Refinement(...), or leave them out by refine='no'"
                )

    # ---- predicting --------------------------------------------------------------------------------------------------

    def _predicted(self, X: Table) -> Iterator[Classes | Normals]:
        """Yield what each draw predicts, on the scale of the network, some rows at a time."""
        check_is_fitted(self)
        x = self._scaling.inputs(self._checked(X, reset=False))
        net = self._predictive
        device = next(net.parameters()).device
        with torch.no_grad():
            for rows in x.split(_ROWS_AT_ONCE):
                yield known(net.mixture.likelihood.predict(net.outputs(rows.to(device)), net.mixture.latent))


def _weighted(x: Floats, y: Any, sample_weight: ArrayLike | None) -> tuple[Floats, Any, Floats | None]:
    """Return the rows whose weight is not 0, and their weights; None where all of them are 1."""
    if sample_weight is None:
        return x, y, None
    weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
    counts = weight > 0
    x, y, weight = x[counts], np.asarray(y)[counts], weight[counts]
    if len(x) < 2:
        raise ValueError(f"sample_weight must be positive in at least 2 rows, got {len(x)}")
    if weight.sum() < _LEAST_SHARE * len(x):
        warnings.warn(
            f"sample_weight sums to {weight.sum():.3g} for {len(x)} rows, which then count as so few: divide it by its "
            "mean if it says something of ratios alone",
            stacklevel=4,
        )
    return x, y, None if (weight == 1).all() else weight


def to_numpy(parts: list[Tensor]) -> Floats:
    """Return parts of a result, some rows each, as one array.

    Args:
        parts: Shapes ``(some rows, ...)``.
    """
    found: Floats = torch.cat(parts).cpu().numpy()
    return found


def _text_columns(X: Table) -> str:
    """Return the names of a DataFrame's columns that hold no numbers, for a message."""
    if not hasattr(X, "dtypes") or not hasattr(X, "columns"):
        return ""
    names = [
        str(name) for name, kind in zip(X.columns, X.dtypes, strict=True) if getattr(kind, "kind", "O") not in "biuf"
    ]
    return f", got columns of another kind: {', '.join(names)}" if names else ""
