"""Report: numbers by hand, the files of a run, and that nothing is overwritten or left half done."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnn_pyro.evaluation.metrics import classification_metrics, regression_metrics
from bnn_pyro.evaluation.report import RUN_FILES, Run, check_run_folder, evaluate_run, run_folder, write_report
from bnn_pyro.likelihoods import Categorical, GaussianNoise, Likelihood
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior import Posterior
from bnn_pyro.priors import Gaussian, SpikeSlab
from bnn_pyro.pruning import prune
from bnn_pyro.saving import load_net
from guides import AutoSpikeSlab

CONFIG = {"data": "made", "net": "mlp", "prior": "ss-ig", "seed": 3, "hidden": [6]}
KEYS = {
    *("test_accuracy", "test_nll", "test_ece", "nodes_kept", "params_kept", "flops_kept", "inclusion", "kl_weight"),
    *("pruned_test_accuracy", "pruned_max_abs_diff", "latency_ratio", "tempered", "posterior_test_accuracy"),
    *("dense_test_accuracy", "params_kept_one_sided", "latency_ratio_batch_1"),
}
HISTORY = [
    {"epoch": n, "loss": 3.0 / n, "kl_weight": 0.1, "gates": "free", "nodes_kept": {"hidden1": 6}} for n in (1, 2, 3)
]


def posterior(
    net: nn.Module, likelihood: Likelihood, keep: Tensor | None, *, kl_weight: float = 0.1, select_inputs: bool = False
) -> Posterior:
    """Return a posterior that keeps the given nodes of every group of that size; None for a prior without gates."""
    prior = Gaussian() if keep is None else SpikeSlab(Gaussian(), inclusion=0.1)
    x = torch.zeros(2, 4)
    model = SparseNetwork(net, x, prior=prior, likelihood=likelihood, num_data=100, select_inputs=select_inputs)
    guide = AutoSpikeSlab(model.prior)
    with torch.no_grad():
        for role, site, parameter in guide.named_site_parameters():
            if role == "logits" and keep is not None and site == "hidden1.gate":
                parameter.copy_(torch.where(keep, 3.0, -3.0))
            elif role == "logits":
                parameter.copy_(torch.tensor([3.0, -3.0, 3.0, 3.0]))
    return Posterior(model, guide, history=HISTORY, kl_weight=kl_weight)


def classification(keep: Tensor | None = torch.arange(6) < 2, **options: Any) -> Run:  # noqa: B008  (never changed)
    net = mlp(4, (6,), 3)
    fitted = posterior(net, Categorical(), keep, **options)
    return Run(fitted, prune(fitted), net.eval(), (torch.randn(40, 4), torch.randint(3, (40,))), num_samples=4)


def regression() -> Run:
    net = mlp(4, (6,), 1)
    fitted = posterior(net, GaussianNoise(), torch.arange(6) < 2)
    test = torch.randn(40, 4), torch.randn(40)
    return Run(fitted, prune(fitted), net.eval(), test, y_std=7.0, dense_noise=torch.tensor(0.3), num_samples=4)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, dict[str, Any], Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("report") / "a" / "run"
    run = classification(select_inputs=True)
    evaluation = evaluate_run(run)
    write_report(folder, run, evaluation, config=CONFIG, save_checkpoint=lambda path: path.touch())
    return run, evaluation.metrics, folder


# measuring


def test_metrics_have_the_promised_keys() -> None:
    assert set(evaluate_run(classification()).metrics) >= KEYS
    names = {key.replace("accuracy", "rmse") for key in KEYS}
    assert set(evaluate_run(regression()).metrics) >= names


def test_scores_are_those_of_the_median_model_and_of_the_dense_net() -> None:
    run = classification()
    x, y = run.test
    metrics = evaluate_run(run).metrics
    dense = classification_metrics(run.dense(x).softmax(1), y)
    median = classification_metrics(run.posterior.median_model()(x).softmax(1), y)
    for name in ("accuracy", "nll", "ece", "brier"):
        assert metrics[f"dense_test_{name}"] == pytest.approx(dense[name], rel=1e-5)
        assert metrics[f"test_{name}"] == pytest.approx(median[name], rel=1e-5)
        assert metrics[f"pruned_test_{name}"] == pytest.approx(median[name], rel=1e-5)
    assert metrics["posterior_test_nll"] != pytest.approx(median["nll"], rel=1e-3)


def test_regression_is_told_on_the_original_scale_with_the_noise_of_the_dense_net() -> None:
    run = regression()
    x, y = run.test
    metrics = evaluate_run(run).metrics
    mean = run.dense(x).detach().T
    dense = regression_metrics(mean, torch.full_like(mean, 0.3), y, y_std=7.0)
    for name in ("rmse", "nll", "ece", "coverage95"):
        assert metrics[f"dense_test_{name}"] == pytest.approx(dense[name], rel=1e-5)
        assert metrics[f"pruned_test_{name}"] == pytest.approx(metrics[f"test_{name}"], rel=1e-5)
    assert metrics["test_rmse"] == pytest.approx(7 * float((run.pruned(x).squeeze(1) - y).square().mean().sqrt()))


def test_counts_by_hand() -> None:
    """4-6-3 with 2 hidden nodes left: 19 of 51 parameters two-sided, 31 one-sided, 14 of 42 multiply-accumulates."""
    metrics = evaluate_run(classification()).metrics
    assert metrics["nodes_kept"] == {"hidden1": [2, 6]}
    assert metrics["params"] == [19, 51]
    assert metrics["params_kept"] == 19 / 51
    assert metrics["params_kept_one_sided"] == 31 / 51
    assert metrics["flops"] == [28, 84]
    assert metrics["flops_kept"] == pytest.approx(1 / 3)
    assert metrics["inclusion"] == {"hidden1": pytest.approx([0.952574] * 2 + [0.047426] * 4)}


def test_removed_inputs_count_two_sided_alone() -> None:
    metrics = evaluate_run(classification(select_inputs=True)).metrics
    assert metrics["nodes_kept"] == {"inputs": [3, 4], "hidden1": [2, 6]}
    assert metrics["params"] == [3 * 2 + 2 + 2 * 3 + 3, 51]
    assert metrics["params_kept_one_sided"] == 31 / 51


def test_the_difference_of_the_pruned_net_is_measured() -> None:
    run = classification()
    assert evaluate_run(run).metrics["pruned_max_abs_diff"] < 1e-5
    with torch.no_grad():
        list(run.pruned.parameters())[-1].add_(torch.tensor([0.0, 0.5, 0.0]))
    assert evaluate_run(run).metrics["pruned_max_abs_diff"] == pytest.approx(0.5, rel=1e-3)


def test_latency_is_that_of_both_nets_at_batch_1_and_256() -> None:
    metrics = evaluate_run(classification()).metrics
    for size, key in (("1", "latency_ratio_batch_1"), ("256", "latency_ratio")):
        pruned, dense = metrics["latency_ms"][size]
        assert metrics[key] == pytest.approx(pruned / dense)
        assert 0 < pruned and math.isfinite(dense)


def test_a_prior_without_gates_keeps_everything() -> None:
    metrics = evaluate_run(classification(None)).metrics
    assert metrics["nodes_kept"] == metrics["inclusion"] == {}
    assert metrics["params_kept"] == metrics["params_kept_one_sided"] == metrics["flops_kept"] == 1


def test_a_net_of_which_nothing_is_left_is_measured_and_written(tmp_path: Path) -> None:
    run = classification(torch.zeros(6, dtype=torch.bool))
    evaluation = evaluate_run(run)
    assert evaluation.metrics["params"] == [3, 51]  # the biases of the output
    write_report(tmp_path / "run", run, evaluation, config=CONFIG)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set(RUN_FILES) - {"first_layer.png", "checkpoint.pt"}


@pytest.mark.parametrize(("kl_weight", "tempered"), [(0.1, True), (1.0, False)])
def test_a_tempered_posterior_is_called_so(kl_weight: float, tempered: bool) -> None:
    metrics = evaluate_run(classification(kl_weight=kl_weight)).metrics
    assert metrics["kl_weight"] == kl_weight
    assert metrics["tempered"] is tempered


# the folder


def test_a_run_has_all_its_files(written: tuple[Run, dict[str, Any], Path]) -> None:
    _, metrics, folder = written
    assert {path.name for path in folder.iterdir()} == set(RUN_FILES)
    assert json.loads((folder / "metrics.json").read_text()) == metrics
    assert json.loads((folder / "config.json").read_text()) == CONFIG
    assert [path.name for path in folder.parent.iterdir()] == ["run"]
    page = (folder / "report.md").read_text()
    for name in ("training", "inclusion", "calibration", "first_layer"):
        assert f"({name}.png)" in page
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_the_exported_net_takes_any_number_of_rows(written: tuple[Run, dict[str, Any], Path]) -> None:
    run, _, folder = written
    loaded = torch.export.load(folder / "pruned.pt2").module()
    for rows in (1, 2, 7, 300):
        x = torch.randn(rows, 4)
        torch.testing.assert_close(loaded(x), run.pruned(x))


def test_the_weights_fit_another_net_of_the_class(written: tuple[Run, dict[str, Any], Path]) -> None:
    run, _, folder = written
    x = torch.randn(7, 4)
    assert torch.equal(load_net(folder, mlp(4, (6,), 3))(x), run.pruned(x))


def test_what_does_not_apply_is_left_out(tmp_path: Path) -> None:
    run = classification(None)
    write_report(tmp_path / "run", run, evaluate_run(run), config={})
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == set(RUN_FILES) - {"inclusion.png", "checkpoint.pt"}


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_folder_with_a_run_is_left_alone(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"out must not hold a run already, got .* with {name}"):
        check_run_folder(tmp_path)
    with pytest.raises(ValueError, match="out must not hold a run already"), run_folder(tmp_path):
        pytest.fail("the folder must be refused before anything is written")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_a_folder_of_other_things_is_added_to(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with run_folder(tmp_path) as folder:
        (folder / "report.md").write_text("page")
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "report.md"}


@pytest.mark.parametrize("exists", [True, False])
def test_a_failure_leaves_nothing(exists: bool, tmp_path: Path) -> None:
    out = tmp_path / "run"
    if exists:
        out.mkdir()
    with pytest.raises(KeyboardInterrupt), run_folder(out) as folder:
        (folder / "report.md").write_text("page")
        raise KeyboardInterrupt
    assert list(tmp_path.rglob("*")) == ([out] if exists else [])


def test_of_two_runs_with_one_folder_the_first_to_end_stays(tmp_path: Path) -> None:
    def second() -> None:
        with run_folder(tmp_path / "run") as folder:
            (folder / "report.md").write_text("second")
            with run_folder(tmp_path / "run") as other:
                (other / "report.md").write_text("first")

    with pytest.raises(ValueError, match="out must not hold a run already"):
        second()
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["run", "run/report.md"]
    assert (tmp_path / "run" / "report.md").read_text() == "first"


@pytest.mark.parametrize("below", [lambda file: file, lambda file: file / "run"])
def test_a_file_is_no_folder(below: Callable[[Path], Path], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(ValueError, match="out must be a folder that can be written to"):
        check_run_folder(below(file))
