"""Every data set, prior, net and method has settings that hold together."""

import dataclasses
import json

import pytest

from bnn_pyro.data import DATASETS
from bnn_pyro.data.augmentation import Augmentation
from bnn_pyro.networks.named import NETS
from bnn_pyro.priors import SpikeSlab
from bnn_pyro.recipes import PRIORS, Recipe, check_data, recipe


@pytest.mark.parametrize("prior", PRIORS)
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("data", DATASETS)
def test_every_data_set_has_a_recipe_for_every_prior_and_net(data: str, net: str, prior: str) -> None:
    images = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar10-jpeg")
    task = "classification" if data in images else "regression"
    for rows in (100, 50_000):
        settings = recipe(data, prior, task, net=net, rows=rows)  # type: ignore[arg-type]
        assert (settings.prior, settings.net) == (prior, net)
        assert isinstance(settings.make_prior(), SpikeSlab) == prior.startswith("ss-") == settings.has_gates
        assert settings.has_gates or settings.schedule.hold == settings.schedule.freeze == 0
        for epochs in (1, 2, 3, 7, 1000):
            assert settings.with_epochs(epochs).epochs == epochs


@pytest.mark.parametrize("prior", ["ss-ig", "ig", None])
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("data", DATASETS)
def test_every_data_set_can_be_sampled(data: str, net: str, prior: str | None) -> None:
    settings = recipe(data, prior, net=net, method="sghmc")
    assert settings.method == "sghmc" and settings.prior == (prior or "ss-ig")
    for epochs in (1, 2, 3, 1000):
        short = settings.with_epochs(epochs)
        assert short.epochs == epochs and short.one_shot is not None and short.one_shot.cycles <= epochs


def test_sampling_needs_a_gaussian_slab() -> None:
    for prior in ("ss-gl", "ghs"):
        with pytest.raises(ValueError, match=f"prior must be ss-ig or ig, .* for method sghmc, got '{prior}'"):
            recipe("digits", prior, method="sghmc")


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist"])
def test_the_images_have_the_net_of_the_literature(data: str) -> None:
    settings = recipe(data)
    net = settings.make_net((1, 28, 28), 10)
    assert sum(parameter.numel() for parameter in net.parameters()) == 478_410
    assert settings.select_inputs


@pytest.mark.parametrize("data", ["mnist", "fashion-mnist"])
def test_lenet_has_settings_of_its_own_with_every_prior(data: str) -> None:
    chosen = recipe(data, "ss-ghs", net="lenet")
    assert (
        chosen.schedule.shrink_below is not None and chosen.schedule.hold > 0
    )  # the gates wait until the slabs have settled
    frozen = chosen.schedule.frozen_kl_weight
    assert frozen is not None and frozen < chosen.kl_weight
    for prior in ("ss-gl", "ss-ig"):
        other = recipe(data, prior, net="lenet")
        assert dataclasses.replace(other, prior="ss-ghs") == chosen
    dense, perceptron = recipe(data, "ghs", net="lenet"), recipe(data, "ss-ghs")
    assert dense.schedule.hold == dense.schedule.freeze == 0 and dense.sigma == chosen.sigma
    assert perceptron.init_scale != chosen.init_scale and perceptron.sigma != chosen.sigma


def test_small_tables_have_more_epochs_than_large_ones() -> None:
    epochs = [recipe("my.csv", rows=rows).epochs for rows in (50, 500, 5_000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)


@pytest.mark.parametrize("rows", [30, 500, 5_000, 50_000])
def test_tables_have_about_as_many_steps_whatever_their_rows(rows: int) -> None:
    found = recipe("my.csv", rows=rows)
    per_epoch = -(-rows // found.batch_size)
    assert 7_900 <= found.epochs * per_epoch <= max(8_100, 20 * per_epoch)
    assert found.dense.epochs * per_epoch >= 2_000


def test_held_out_rows_stop_the_dense_training_of_a_table_that_is_not_tiny() -> None:
    assert recipe("my.csv", rows=500).dense.validation == 0.1
    assert recipe("my.csv", rows=40).dense.validation is recipe("digits").dense.validation is None


def test_a_table_of_few_inputs_has_a_wider_slab_for_the_sampled_network() -> None:
    """What a node of the first layer is given has a standard deviation of 2 at least."""
    slabs = [recipe("my.csv", rows=40, inputs=inputs).refinement.slab for inputs in (1, 2, 4, 30, None)]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="inputs must be at least 1, got 0"):
        recipe("my.csv", rows=40, inputs=0)
    assert [slab.sigma for slab in slabs] == pytest.approx([2.0, 2**0.5, 1.0, 1.0, 1.0])  # type: ignore[union-attr]


def test_nodes_of_tables_are_selected_by_a_tempered_posterior_and_slabs_alone_are_not_tempered() -> None:
    assert recipe("yacht", task="regression").kl_weight == recipe("my.csv", task="classification").kl_weight == 0.3
    assert recipe("my.csv", "ghs", "regression").kl_weight == 1
    assert recipe("my.csv", "ghs", "classification").kl_weight == 0.2


@pytest.mark.parametrize("data", ["mnist", "cifar10", "cifar10-jpeg"])
def test_images_are_changed_while_they_are_learnt_from(data: str) -> None:
    settings = recipe(data, net="resnet20")
    assert settings.augmentation is not None and settings.fit_options()["augmentation"] is settings.augmentation
    assert recipe(data, net="lenet").augmentation == settings.augmentation
    assert recipe(data).augmentation is None and recipe(data, net="resnet20", method="sghmc").augmentation is None
    values = json.loads(json.dumps(dataclasses.asdict(settings)))
    assert Augmentation.of(values["augmentation"]) == settings.augmentation


def test_digits_are_not_mirrored() -> None:
    shifted = recipe("mnist", net="lenet").augmentation
    assert shifted is not None and shifted.padding > 0 and shifted.flip == 0
    with pytest.raises(ValueError, match="augmentation must be None for a mlp, which reads no images as they are"):
        Recipe(augmentation=Augmentation())


def test_unknown_data_lists_the_known() -> None:
    with pytest.raises(ValueError, match="data must be one of digits, mnist, fashion-mnist, .*yacht, or a path"):
        check_data("cifar")
    check_data("some/table.CSV")


def test_only_nets_of_colour_images_normalise() -> None:
    normalizing = {(data, net) for data in DATASETS for net in NETS if recipe(data, net=net).normalize}
    images = [net for net in NETS if net not in ("mlp", "residual-mlp")]
    assert normalizing == {(data, net) for data in ("cifar10", "cifar10-jpeg") for net in images}
    with pytest.raises(ValueError, match="normalize must be False for a mlp, which reads no images"):
        Recipe(normalize=True)


def test_lenet_is_pruned_by_thresholds_of_its_own_layers() -> None:
    lenet, perceptron = (recipe("mnist", net=net, method="sghmc").one_shot for net in ("lenet", "mlp"))
    assert lenet is not None and lenet.em is not None and perceptron is not None and perceptron.em is not None
    layers = {"conv1", "conv2", "hidden1", "hidden2"}
    for threshold in (lenet.em.soft, lenet.em.hard):
        assert isinstance(threshold, dict) and threshold.keys() == layers
    assert lenet.em.measure == "mean_square" and perceptron.em.measure == "norm"
    normalising = recipe("cifar10", net="lenet", method="sghmc").one_shot  # its layers have other names
    assert normalising is not None and normalising.em is not None and normalising.em.measure == "relative"


def test_the_noise_of_small_tables_is_left_to_held_out_rows() -> None:
    assert [recipe("my.csv", task="regression", rows=rows).noise for rows in (2_000, 2_001)] == ["auto", "constant"]
    assert recipe("my.csv", "ig", "regression", rows=500).noise == recipe("digits").noise == "constant"
