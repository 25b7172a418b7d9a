"""Inputs that are kept, and their importance."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.feature_selection import SelectFromModel

from bnn_pyro.estimators import SparseBayesClassifier, SparseBayesRegressor
from bnn_pyro.posterior.empty_groups import empty_groups
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.recipes import runs
from bnn_pyro.recipes.input_trial import InputTrial
from bnn_pyro.recipes.trials import Trials
from tests.estimators.tables import LEARNING, names, numbers, tiny
from tests.pruning.masks import Masks, set_gates


def close_gates(model: SparseBayesRegressor, masks: Masks) -> None:
    """Settle the gates of a fitted estimator."""
    assert isinstance(model.posterior_, GuidePosterior)
    set_gates(model.posterior_, masks)


@pytest.fixture(scope="module")
def selecting() -> SparseBayesRegressor:
    """An estimator of three inputs, the second of which is closed."""
    model = tiny(select_inputs=True)
    close_gates(model, {"inputs": torch.tensor([True, False, True]), "hidden1": torch.ones(8).bool()})
    return model


def test_support_is_a_mask_or_numbers(selecting: SparseBayesRegressor) -> None:
    assert selecting.get_support().tolist() == [True, False, True]
    assert selecting.get_support(indices=True).tolist() == [0, 2]
    assert selecting.get_feature_names_out().tolist() == ["x0", "x2"]
    assert selecting.get_feature_names_out(["a", "b", "c"]).tolist() == ["a", "c"]
    with pytest.raises(ValueError, match="input_features must have 3 names, got 2"):
        selecting.get_feature_names_out(["a", "b"])


def test_importance_is_inclusion_where_inputs_have_gates(selecting: SparseBayesRegressor) -> None:
    gamma = selecting.posterior_.inclusion()["inputs"].numpy()
    np.testing.assert_allclose(selecting.feature_importances_, gamma)
    chosen = SelectFromModel(selecting, prefit=True, threshold=0.5)
    assert chosen.transform(numbers()[0]).shape == (120, 2)


def test_a_constant_reads_no_input() -> None:
    model = tiny(select_inputs=True)
    close_gates(model, {"inputs": torch.ones(3).bool(), "hidden1": torch.zeros(8).bool()})
    assert empty_groups(model.posterior_.keep()) == ["hidden1"]
    assert not model.get_support().any()
    assert model.get_feature_names_out().tolist() == []
    network = model.prune()
    assert network(torch.from_numpy(numbers()[0])).unique().numel() == 1


@pytest.mark.parametrize("kind", [SparseBayesRegressor, SparseBayesClassifier])
def test_importance_is_that_of_permuted_columns_where_inputs_have_no_gates(
    kind: type[SparseBayesRegressor | SparseBayesClassifier],
) -> None:
    x, y = numbers() if kind is SparseBayesRegressor else names()
    model = kind(**{**LEARNING, "prior": "ghs", "select_inputs": False}).fit(x, y)
    assert model.get_support().all()
    importances = model.feature_importances_
    assert importances.shape == (3,) and importances[0] > 0.2 > abs(importances[1:]).max()
    assert model.feature_importances_ is importances  # computed once
    other = model.fit(x[:, ::-1], y).feature_importances_
    assert other[2] == other.max() > 0.2


def test_nothing_is_known_before_a_fit() -> None:
    model = SparseBayesRegressor()
    for ask in (model.get_support, model.get_feature_names_out, lambda: model.feature_importances_):
        with pytest.raises(NotFittedError):
            ask()


def test_support_is_what_the_network_reads_where_a_trial_has_dropped_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    trial = InputTrial(0.1, 0.05, 24, (0.75, 0.25, 0.875))
    monkeypatch.setattr(runs, "hold_trials", lambda *_, **__: Trials(inputs=trial))
    model = tiny(select_inputs=None)
    assert model.get_support().tolist() == [True, False, True] and model.get_support(indices=True).tolist() == [0, 2]
    assert model.feature_importances_[1] == 0.0 and (model.feature_importances_[[0, 2]] != 0.0).all()
