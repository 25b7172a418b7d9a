"""The files that a refined network adds to a run's folder."""

from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure

from bnn_pyro.posterior.predictive_net import predictive_net
from bnn_pyro.reports import refined_files
from bnn_pyro.reports.measures import Run
from bnn_pyro.reports.refined_files import draw_bands, save_refined, write_bands, write_ensemble
from tests.reports.finished import classification, refined, regression, sampled


def bands(run: Run, **options: float) -> Figure | None:
    assert run.refined is not None
    return draw_bands(run.posterior, run.refined, run.test[0], **options)  # type: ignore[arg-type]


def titles(figure: Figure | None) -> list[str]:
    assert figure is not None
    return [axes.get_title(loc="left").split(":")[0] for axes in figure.axes]


def test_posteriors_are_drawn_side_by_side_by_their_names() -> None:
    run = refined(regression())
    assert run.refined is not None
    assert titles(bands(run)) == ["tempered SVI", "refined"]
    whole = sampled(run.posterior.model)
    figure = draw_bands(run.posterior, run.refined, run.test[0], reference=whole)
    assert titles(figure) == ["tempered SVI", "reference", "refined"]
    assert titles(bands(refined(classification(kl_weight=1.0)))) == ["SVI", "refined"]


def test_targets_are_drawn_on_their_own_scale() -> None:
    figure = bands(refined(regression()), y_mean=1000.0, y_std=2.0)
    assert figure is not None and figure.axes[0].get_ylim()[0] > 900


def test_a_picture_that_fails_is_left_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(*args: object, **options: object) -> None:
        raise RuntimeError("no ink")

    monkeypatch.setattr(refined_files, "plot_bands", fail)
    assert bands(refined(regression())) is None
    assert "the picture of the bands cannot be drawn: no ink" in caplog.text


def test_files_are_written_and_removed_again(tmp_path: Path) -> None:
    run = refined(regression())
    assert run.refined is not None
    x = run.test[0]
    save_refined(run.refined, tmp_path)
    write_ensemble(predictive_net(run.refined, draws=5), x, tmp_path)
    write_bands(bands(run), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(refined_files.REFINED_FILES)
    mean, _ = torch.export.load(tmp_path / "ensemble.pt2").module()(x)
    torch.testing.assert_close(mean, run.refined.predict(x, num_samples=5))
    assert (tmp_path / "bands.png").read_bytes().startswith(b"\x89PNG")
    write_ensemble(None, x, tmp_path)
    write_bands(None, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["refined.pt"]
