"""A recipe makes prior, net, model and guide, and refuses what does not fit before there is any data."""

import dataclasses
import inspect
from typing import Any, get_args

import pytest
import torch
from torch import nn

from bnn_pyro.data import Split
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.inference.svi.schedule import Schedule
from bnn_pyro.inference.training.dense import train_dense
from bnn_pyro.likelihoods import Categorical, GaussianNoise, HeteroscedasticNoise, MeanDependentNoise
from bnn_pyro.networks import ResidualMLP
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from bnn_pyro.recipes import PathPlan, Recipe, recipe
from bnn_pyro.recipes.definition import NOISES, NoiseName
from bnn_pyro.recipes.dense_training import DenseTraining
from bnn_pyro.refinement import Refinement


def test_phases_keep_their_share_of_the_epochs() -> None:
    settings = Recipe(epochs=40, schedule=Schedule(hold=5, freeze=4, kl_warmup=2.5))
    long, short = settings.with_epochs(80), settings.with_epochs(2)
    assert long.schedule == Schedule(hold=10, freeze=8, kl_warmup=5.0)
    assert short.schedule == Schedule(hold=0, freeze=0, kl_warmup=0.125)


@pytest.mark.parametrize(("prior", "slab"), [("ss-ig", Gaussian), ("ss-gl", GroupLasso), ("ghs", GroupHorseshoe)])
def test_priors_are_made_by_name(prior: str, slab: type) -> None:
    gates: dict[str, Any] = {"inclusion": 0.2} if prior.startswith("ss-") else {}
    made = Recipe(prior=prior, sigma=0.3, **gates).make_prior()
    inner = made.slab if isinstance(made, SpikeSlab) else made
    assert isinstance(inner, slab)
    assert inner.sigma == 0.3  # type: ignore[attr-defined]
    assert not isinstance(made, SpikeSlab) or made.inclusion == 0.2


def test_nets_are_made_by_name() -> None:
    net = Recipe(net="residual-mlp", hidden=(8, 4, 4)).make_net((5,), 2)
    assert isinstance(net, ResidualMLP)
    shapes = [tuple(layer.weight.shape) for layer in net.modules() if isinstance(layer, nn.Linear)]
    assert shapes == [(8, 5), (4, 8), (8, 4), (4, 8), (8, 4), (2, 8)]


def test_a_net_that_reads_images_is_made_for_their_shape() -> None:
    settings = recipe("mnist", net="lenet")
    assert settings.reads_images and not settings.select_inputs
    assert sum(p.numel() for p in settings.make_net((1, 28, 28), 10).parameters()) == 1_071_880
    settings = Recipe(net="lenet", hidden=(2, 3))
    assert settings.make_net((3, 16, 20), 4)(torch.zeros(5, 3, 16, 20)).shape == (5, 4)
    with pytest.raises(ValueError, match=r"mlp, residual-mlp for inputs of shape \(64,\), got 'lenet', which reads"):
        settings.make_net((64,), 10)
    with pytest.raises(ValueError, match="image_size must be at least 16"):
        settings.make_net((1, 8, 8), 10)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"net": "vgg"}, "net must be one of mlp, residual-mlp, lenet, .*, got 'vgg'"),
        ({"net": "lenet", "hidden": (20, 50), "select_inputs": True}, "select_inputs must be False for a lenet"),
        ({"prior": "ss-x"}, "prior must be one of ss-ig, ss-gl, ss-ghs, ig, gl, ghs, got 'ss-x'"),
        ({"hidden": ()}, "hidden must be the widths"),
        ({"hidden": (50, 0)}, "hidden must be the widths"),
        ({"net": "residual-mlp", "hidden": (50,)}, "hidden must be the width of the channels"),
        ({"inclusion": 0.0}, r"inclusion must lie in \(0, 1\), got 0.0"),
        ({"inclusion": 1.0}, r"inclusion must lie in \(0, 1\), got 1.0"),
        ({"kl_weight": 0.0}, "kl_weight must be positive and finite, got 0.0"),
        ({"kl_weight": float("nan")}, "kl_weight must be positive and finite, got nan"),
        ({"sigma": -1.0}, "sigma must be positive, got -1.0"),
        ({"epochs": 0, "schedule": Schedule()}, "epochs must be at least 1, got 0"),
        ({"epochs": 20}, r"hold \+ freeze must be below epochs"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"prior": "gl", "inclusion": 0.1}, "select_inputs and inclusion need a prior with gates"),
        ({"prior": "gl", "select_inputs": True}, "select_inputs and inclusion need a prior with gates"),
    ],
)
def test_bad_settings_are_refused_before_there_is_data(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


def test_rows_are_flattened_unless_the_net_reads_images() -> None:
    rows = Split(torch.rand(5, 1, 16, 16), torch.arange(5))
    x, y = Recipe(hidden=(4,)).tensors(rows)
    assert torch.equal(x, rows.x.flatten(1)) and torch.equal(y, rows.y)
    x, _ = Recipe(net="lenet", hidden=(2, 3)).tensors(rows)
    assert torch.equal(x, rows.x)


def test_dense_training_has_all_of_its_settings() -> None:
    settings = Recipe(net="lenet", hidden=(2, 3), dense=DenseTraining(epochs=7), augmentation=Augmentation(padding=1))
    options = dataclasses.asdict(settings.dense)
    assert options["epochs"] == 7 and settings.augmentation == Augmentation(padding=1)
    assert options.keys() <= inspect.signature(train_dense).parameters.keys()


def test_inference_has_all_of_its_settings() -> None:
    settings = Recipe(epochs=40, schedule=Schedule(hold=3), clip_norm=2.0)
    options = settings.fit_options()
    assert options["schedule"] is settings.schedule and options["epochs"] == 40 and options["clip_norm"] == 2.0
    assert options.keys() <= inspect.signature(fit).parameters.keys()


def test_the_model_has_the_prior_and_the_guide_its_start() -> None:
    settings = Recipe(prior="ss-gl", hidden=(4,), inclusion=0.25, select_inputs=True, init_inclusion=0.75)
    example = torch.zeros(2, 3)
    model = settings.make_model(settings.make_net((3,), 2), example, Categorical(), 40)
    assert [group.name for group in model.nodes.groups] == ["inputs", "hidden1"]
    assert model.num_data == 40
    assert isinstance(settings.make_prior(), SpikeSlab)
    guide = settings.make_guide(model)
    with torch.random.fork_rng():
        guide()
    start = GuidePosterior(model, guide).inclusion()["hidden1"]
    assert torch.allclose(start, torch.full((4,), 0.75))


def test_every_task_has_a_likelihood() -> None:
    found = {"constant": GaussianNoise(), "mean": MeanDependentNoise(), "input": HeteroscedasticNoise()}
    for name, likelihood in found.items():
        assert Recipe(noise=name).likelihood("regression") == likelihood  # type: ignore[arg-type]
        assert Recipe(noise=name).likelihood("classification") == Categorical()  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="task must be classification or regression, got 'ranking'"):
        Recipe().likelihood("ranking")


def test_a_noise_that_is_predicted_is_an_output_of_its_own() -> None:
    names = get_args(NoiseName)
    assert names == tuple(NOISES)
    assert [Recipe(noise=noise).outputs(None) for noise in names] == [1, 1, 2]
    assert [Recipe(noise=noise).outputs(3) for noise in names] == [3, 3, 3]


@dataclasses.dataclass(frozen=True)
class OwnSlab(Gaussian):
    """A slab that no file can name."""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refine_if_worth": True}, "refine_if_worth needs a refinement, got None"),
        ({"refinement": Refinement(slab=OwnSlab())}, "refinement.slab must be a slab of ig, gl, ghs, got OwnSlab"),
        (
            {"refinement": Refinement(start="draws"), "one_shot": OneShot(), "prior": "ss-ig"},
            "refinement.start must be 'ensemble' for method sghmc, got 'draws'",
        ),
    ],
)
def test_a_refinement_that_cannot_be_done_or_written_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(**options)


def test_quick_leaves_out_what_takes_most_of_the_time() -> None:
    whole = Recipe(refinement=Refinement(), refine_if_worth=True, reference=True, path=PathPlan())
    assert dataclasses.replace(whole, select_inputs="auto", noise="auto").quick() == Recipe()
    assert Recipe(noise="input").quick() == Recipe(noise="input")
    assert Recipe(select_inputs=True).quick() == Recipe(select_inputs=True)


def test_what_held_out_rows_are_to_decide_is_decided_before_a_model_is_made() -> None:
    settings = Recipe(hidden=(4,), select_inputs="auto")
    with pytest.raises(ValueError, match="select_inputs must be True or False where a model is made, got 'auto'"):
        settings.make_model(settings.make_net((3,), 1), torch.zeros(2, 3), GaussianNoise(), 10)
    with pytest.raises(ValueError, match="select_inputs must be True, False or 'auto', got 'some'"):
        Recipe(select_inputs="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="select_inputs must be False for a lenet"):
        Recipe(net="lenet", hidden=(4, 5, 6, 7), select_inputs="auto")
    noise = Recipe(noise="auto")  # which is constant in variational inference
    assert noise.likelihood("regression") == GaussianNoise() and noise.outputs(None) == 1
    with pytest.raises(ValueError, match="noise must be one of constant, mean, input or auto, got 'some'"):
        Recipe(noise="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="least_kl_weight must be positive or None, got 0"):
        Recipe(least_kl_weight=0)


def test_a_larger_kl_weight_has_time_to_settle() -> None:
    """Gates of digits are held for a sixth of 120 epochs at its own weight; those of a table have two fifths anyway."""
    digits = recipe("digits")
    at_1 = digits.with_kl_weight(1.0)
    assert (at_1.epochs, at_1.schedule.hold, at_1.schedule.kl_warmup, at_1.schedule.freeze) == (240, 96, 96.0, 30)
    assert at_1.kl_weight == 1.0 and at_1.schedule.frozen_kl_weight is at_1.least_kl_weight is None
    assert digits.with_kl_weight(0.05).epochs == digits.with_kl_weight(digits.kl_weight).epochs == 120
    table = recipe("my.csv", task="regression", rows=300)
    assert table.with_kl_weight(1.0).epochs == table.epochs and table.with_kl_weight(1.0).schedule == table.schedule
    assert recipe("digits", "ig").with_kl_weight(5.0).epochs == 120


def test_a_network_that_reads_some_inputs() -> None:
    settings = Recipe(hidden=(4,), reads=(0, 2))
    net, x = settings.make_net((3,), 1), torch.randn(5, 3)
    model = settings.make_model(net, x, GaussianNoise(), 10)
    assert model.selection is not None and model.selection.tolist() == [0, 2] and model.input_shape == (3,)
    values = {p.name: model.net.get_parameter(p.name) for p in model.bayesian}
    closed = x * torch.tensor([1.0, 0.0, 1.0])
    assert torch.allclose(model.call_net(values, x), net(closed), atol=1e-6)
    with pytest.raises(ValueError, match=r"reads must have numbers of the 3 features, from 0, got \[0, 3\]"):
        dataclasses.replace(settings, reads=(0, 3)).make_model(net, x, GaussianNoise(), 10)


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        ((), r"reads must be increasing numbers, and at least one, or None, got \(\)"),
        ((2, 1), r"reads must be increasing numbers, and at least one, or None, got \(2, 1\)"),
        ((1, 1), r"reads must be increasing numbers, and at least one, or None, got \(1, 1\)"),
        ((-1, 1), r"reads\[0\] must be at least 0, got -1"),
        ((0.5,), r"reads\[0\] must be a whole number, got 0.5"),
    ],
)
def test_inputs_are_numbers_that_grow(reads: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Recipe(hidden=(4,), reads=reads)


def test_images_have_no_inputs_to_read() -> None:
    with pytest.raises(ValueError, match="reads must be None for a lenet, which reads no features"):
        Recipe(net="lenet", hidden=(4, 5, 6, 7), reads=(0, 1))


@pytest.mark.parametrize("reads", [5, "01"])
def test_inputs_are_a_sequence(reads: Any) -> None:
    with pytest.raises(TypeError, match="reads must be a sequence of whole numbers, or None"):
        Recipe(hidden=(4,), reads=reads)
