"""The picture of partial dependence that a run's folder gets."""

import pytest
import torch

from bnn_pyro.data.encoding import NumberColumn, TableEncoding, TargetEncoding
from bnn_pyro.reports import dependence_file
from bnn_pyro.reports.dependence_file import draw_dependence
from tests.reports.finished import classification, refined, regression


def test_the_refined_network_is_drawn_where_there_is_one() -> None:
    run = refined(regression())
    x = run.test[0]
    for drawn, title in (
        (None, "Partial dependence, tempered posterior"),
        (run.refined, "Partial dependence, refined"),
    ):
        figure = draw_dependence(run.posterior, x, refined=drawn, y_mean=1000.0, y_std=2.0)
        assert figure is not None and figure.get_suptitle().startswith(title)
        assert len(figure.axes) == 4 and figure.axes[0].get_ylim()[0] > 900
    columns = tuple(NumberColumn(name, 0.0) for name in "abcd")
    encoding = TableEncoding(columns, (50.0,) * 4, (2.0,) * 4, TargetEncoding("species", classes=("x", "y", "z")))
    plain = draw_dependence(classification(kl_weight=1.0).posterior, x, encoding=encoding)
    assert plain is not None and plain.get_suptitle() == "Partial dependence, posterior"
    assert {axes.get_xlabel() for axes in plain.axes} == {"a", "b", "c", "d"}


def test_nothing_random_is_left_behind() -> None:
    run = regression()
    state = torch.get_rng_state()
    figures = [draw_dependence(run.posterior, run.test[0]) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    limits = [figure.axes[0].get_ylim() for figure in figures if figure is not None]
    assert len(limits) == 2 and limits[0] == limits[1]


def test_images_have_none() -> None:
    run = regression()
    assert draw_dependence(run.posterior, run.test[0], input_shape=(1, 2, 2)) is None


def test_a_picture_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(dependence_file, "plot_partial_dependence", fail)
    run = regression()
    assert draw_dependence(run.posterior, run.test[0]) is None
    assert "the picture of partial dependence cannot be drawn: no ink" in caplog.text
