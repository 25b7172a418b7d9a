"""Which of a thousand or more inputs matter: the three sparse examples by method B, one row a seed.

    python benchmarks/sparse_examples.py --examples example1 example2 example3 --seeds 0 1 2 3 4
    python benchmarks/sparse_examples.py --ratio
    python benchmarks/sparse_examples.py --table

Rows that are there already (same example, seed and settings) are skipped. Train and test rows come from different
random streams. Tiny ReLU nets may lose units at the start, so the harder two examples are trained from several initial
nets (`starts.py`), of which fewer and fewer go on, those with the lowest training losses. The best (`finalists`) go on
in `fit_sghmc` for another cycle, pruned as they are by then, and the one whose training loss is the lowest in the end
is taken. That cycle has smaller steps in the second example and ten times larger ones in the third, which train its
few weights faster, but with all inputs there leave more of them in. Settings were chosen on held-out training rows of
other seeds, and by training losses.

`loss` is that of the last draw, the network that is shipped; `ensemble_loss` that of the mean prediction of all draws;
`floor` is the loss of the truth itself on the same test rows. MSE for the regressions, binary cross-entropy for the
classification.

The ratios set the time of a direct implementation (one tensor after the other, masks in place of removal; batches by
indexing, or by torch's DataLoader) on example 1 against ours, in the same process, a few epochs of each in turns: more
is better. An epoch of theirs always costs the same, so that they run one for ten of ours, and their time is scaled up.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from results_file import locked, write_whole
from starts import Settings, trials
from torch import Tensor, nn
from torch.nn import functional as F

from bnn_pyro import Gaussian, SparseNetwork, SpikeSlab, networks, prune
from bnn_pyro.data.sparse_examples import ROWS, SPARSE_EXAMPLES, TEST_ROWS, SparseExample
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.group_em import GroupEM
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.sgmcmc.sampler import Sampler
from bnn_pyro.likelihoods import Categorical, GaussianNoise, Likelihood
from bnn_pyro.posterior.ensemble import Ensemble
from bnn_pyro.reports.markdown import markdown_table

RESULTS = Path(__file__).parent / "results" / "sparse_examples.json"


SETTINGS = {
    "example1": Settings(hidden=(5, 3), epochs=3000, lr=0.01, slab_decay=2e-4),
    "example2": Settings(
        hidden=(6, 4, 3), epochs=400, lr=0.01, slab_decay=5e-4, trial=1400, starts=12, halving=(300, 4), last_lr=0.003
    ),
    "example3": Settings(
        hidden=(6, 4, 3),
        epochs=1000,
        lr=0.1,
        slab_decay=5e-4,
        soft=2e-2,
        trial=1000,
        starts=16,
        halving=(150, 6),
        finalists=4,
        last_lr=1.0,
    ),
}


@dataclass(frozen=True, eq=False)
class Fitted:
    """A posterior, and which of the example's inputs it was given: all, or those that a trial left."""

    posterior: Ensemble
    inputs: Tensor

    @property
    def loss(self) -> float:
        """The training loss of the last epoch."""
        return float(self.posterior.history[-1]["loss"])

    @property
    def kept(self) -> Tensor:
        """The inputs that are left, by number."""
        return self.inputs[self.posterior.keep()["inputs"]]


class Logits(nn.Module):
    """Turns the log-odds of label 1 into the logits (0, log-odds) of two classes."""

    def forward(self, log_odds: Tensor) -> Tensor:
        """Puts a 0 before the log-odds."""
        return F.pad(log_odds, (1, 0))


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument(
        "--ratio", action="store_true", help="measure the time against a direct implementation, and stop"
    )
    parser.add_argument("--epochs", type=int, help="epochs of the ratio, of the example's by default")
    parser.add_argument("--table", action="store_true", help="print the table of all rows and stop")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    if options.ratio:
        add_ratio(options.epochs)
    elif not options.table:
        for seed in options.seeds:
            for example in options.examples:
                add_row(example, seed)
    print(table(read()))


# ---- rows ------------------------------------------------------------------------------------------------------------


def add_row(name: str, seed: int) -> None:
    """Trains an example and appends its row, unless it is there."""
    settings = SETTINGS[name]
    key = {"example": name, "seed": seed, "settings": json.loads(json.dumps(dataclasses.asdict(settings)))}
    if any(all(row[k] == v for k, v in key.items()) for row in read()["rows"]):
        print(f"{name} seed {seed}: there already", flush=True)
        return
    example = SPARSE_EXAMPLES[name]
    start = time.perf_counter()
    data = example.draw(ROWS, seed)
    runs, losses = fitted(example, settings, data, seed)
    best = min(runs, key=lambda run: run.loss)
    row = {**key, **scores(example, settings, best, seed), "seconds": time.perf_counter() - start}
    row |= {"trial_losses": losses, "train_losses": [run.loss for run in runs]}
    with locked(RESULTS):
        content = read()
        content["rows"].append(row)
        write(content)
    print(f"{name} seed {seed}: { {k: v for k, v in row.items() if k not in key} }", flush=True)


def fitted(
    example: SparseExample, settings: Settings, data: tuple[Tensor, Tensor], seed: int
) -> tuple[list[Fitted], list[float]]:
    """Returns the finalists once they are trained, and the training losses of all trials."""
    if not settings.trial:
        everything = torch.arange(example.inputs)
        return [Fitted(trained(example, settings, data, initial_net(example, settings, seed), seed), everything)], []
    tried = trials(data, settings, settings.starts, seed, labels=example.task == "classification")
    late = dataclasses.replace(settings, warmup=0, lr=settings.last_lr)
    runs = []
    for trial in tried[: settings.finalists]:
        rows = (data[0][:, trial.inputs], data[1])
        runs.append(Fitted(trained(example, late, rows, completed(example, trial.net), seed), trial.inputs))
    return runs, [trial.loss for trial in tried]


def initial_net(example: SparseExample, settings: Settings, seed: int) -> nn.Module:
    """Returns the untrained net."""
    with torch.random.fork_rng([]):
        torch.manual_seed(1000 * seed)
        return completed(example, networks.mlp(example.inputs, settings.hidden, 1, activation=nn.ReLU))


def completed(example: SparseExample, net: nn.Module) -> nn.Module:
    """Returns a net with what the example's likelihood asks for."""
    return net if example.task == "regression" else nn.Sequential(net, Logits())


def network(example: SparseExample, settings: Settings, x: Tensor, net: nn.Module) -> SparseNetwork:
    """Returns the model of a net; squared error as the loss of a datum is the known noise sqrt(1/2)."""
    likelihood: Likelihood = GaussianNoise(math.sqrt(0.5)) if example.task == "regression" else Categorical()
    prior = SpikeSlab(Gaussian(deviation(settings.slab_decay)), inclusion=0.5)
    return SparseNetwork(net, x[:2], prior=prior, likelihood=likelihood, num_data=ROWS, select_inputs=True)


def deviation(weight_decay: float) -> float:
    """Returns the standard deviation of the prior that a weight decay stands for."""
    return 1 / math.sqrt(ROWS * weight_decay)


def trained(
    example: SparseExample,
    settings: Settings,
    data: tuple[Tensor, Tensor],
    net: nn.Module,
    seed: int,
    **options: Any,
) -> Ensemble:
    """Trains an example from a net."""
    em = GroupEM(spike=deviation(settings.spike_decay), soft=settings.soft, hard=settings.hard, warmup=settings.warmup)
    return fit_sghmc(
        network(example, settings, data[0], net),
        data,
        OneShot(
            sampler=Sampler(lr=settings.lr),
            em=em,
            cycles=settings.cycles,
            samples_per_cycle=settings.samples_per_cycle,
        ),
        **{
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "seed": 1000 * seed,
            "progress": False,
            **options,
        },
    )


def scores(example: SparseExample, settings: Settings, fitted: Fitted, seed: int) -> dict[str, Any]:
    """Measures a posterior on the test rows, and its inputs against the true ones."""
    x, y = example.draw(TEST_ROWS, seed, test=True)
    floor = float((example.truth(x) - y).square().mean()) if example.task == "regression" else 0.0
    x, posterior = x[:, fitted.inputs], fitted.posterior
    found = torch.zeros(example.inputs, dtype=torch.bool)
    found[fitted.kept] = True
    relevant = torch.arange(example.inputs) < example.relevant
    dense = sum(parameter.numel() for parameter in initial_net(example, settings, 0).parameters())
    left = sum(parameter.numel() for parameter in prune(posterior).parameters())
    totals = [example.inputs, *settings.hidden]
    kept = [int(mask.sum()) for mask in posterior.keep().values()]
    values = {
        "tpr": float(found[relevant].float().mean()),
        "fpr": float(found[~relevant].float().mean()),
        "inputs_kept": int(found.sum()),
        "sparsity": 1 - left / dense,
        "nodes_kept": {name: list(pair) for name, *pair in zip(posterior.keep(), kept, totals, strict=True)},
        "train_loss": fitted.loss,
    }
    last, mean = posterior.evaluate_median(x, y), posterior.evaluate(x, y)
    if example.task == "regression":
        return {"loss": last["rmse"] ** 2, "ensemble_loss": mean["rmse"] ** 2, "floor": floor, **values}
    accuracies = {"accuracy": last["accuracy"], "ensemble_accuracy": mean["accuracy"]}
    return {"loss": last["nll"], "ensemble_loss": mean["nll"], "floor": floor, **accuracies, **values}


# ---- the ratio -------------------------------------------------------------------------------------------------------


class Direct:
    """The method as one would write it down: one tensor after the other, and masks where nodes are removed."""

    def __init__(self, example: SparseExample, settings: Settings, data: tuple[Tensor, Tensor], loader: bool) -> None:
        torch.manual_seed(0)
        self.settings, self.data = settings, data
        self.net = networks.mlp(example.inputs, settings.hidden, 1, activation=nn.ReLU)
        self.state = {p: self.start(p) for p in self.net.parameters()}
        rows = torch.utils.data.TensorDataset(*data)
        self.loader = torch.utils.data.DataLoader(rows, settings.batch_size, shuffle=True) if loader else None
        self.epoch, self.seconds = 0, 0.0

    @staticmethod
    def start(parameter: Tensor) -> dict[str, Tensor]:
        """Returns the state of a parameter at the start."""
        values = parameter.detach()
        return {
            "rho": torch.zeros_like(values),
            "tau": torch.full_like(values, 0.5),
            "momentum": 0.001 * torch.randn_like(values),
            "noise": torch.randn_like(values),
            "soft": torch.ones_like(values),
            "hard": torch.ones_like(values),
        }

    def run(self, epochs: int) -> None:
        """Goes on for so many epochs."""
        start = time.perf_counter()
        for _ in range(epochs):
            for number, (x, y) in enumerate(self.batches()):
                self.net.zero_grad()
                F.mse_loss(self.net(x).squeeze(-1), y).backward()
                self.step(number)
            self.epoch += 1
        self.seconds += time.perf_counter() - start

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the batches of an epoch."""
        if self.loader is not None:
            yield from self.loader
            return
        x, y = self.data
        for rows in torch.randperm(len(x)).split(self.settings.batch_size):
            yield x[rows], y[rows]

    @torch.no_grad()
    def step(self, number: int) -> None:
        """Makes a step."""
        s, steps = self.settings, -(-ROWS // self.settings.batch_size)
        cycle = s.epochs * steps / s.cycles
        c2 = 0.5 * s.lr * (1 + math.cos(math.pi * ((self.epoch * steps + number) % cycle) / cycle))
        scale, beta = ROWS**-0.5 * c2**0.75, 0.1
        for p, state in self.state.items():
            if number == 0 and self.epoch > s.warmup and p.dim() > 1:
                square = p.square().mean(0, keepdim=True)
                state["soft"] = (square >= s.soft).float().expand_as(p)
                state["hard"] = state["hard"] * (square >= s.hard).float()
            gradient = p.grad if p.grad is not None else torch.zeros_like(p)
            decay = s.spike_decay + (s.slab_decay - s.spike_decay) * state["soft"]
            slope = scale**2 * decay * state["tau"] + scale * state["noise"] * gradient - 1 / (ROWS * state["tau"])
            state["rho"] = state["rho"] - 0.1 * slope
            state["tau"] = torch.sigmoid(state["rho"])
            state["noise"] = torch.randn_like(p)
            kick = math.sqrt(2 + 2 * beta**2) * scale * state["noise"]
            state["momentum"] = beta * state["momentum"] - c2 * (gradient + decay * p) + kick
            p.copy_((p + state["tau"] * state["momentum"]) * state["hard"])


def add_ratio(epochs: int | None, *, chunk: int = 50, part: int = 10) -> None:
    """Runs example 1 and direct implementations in turns, a few epochs each, and notes the ratios of their times.

    An epoch of theirs costs the same from first to last, so that they run one for every `part` of ours.
    """
    example = SPARSE_EXAMPLES["example1"]
    settings = SETTINGS["example1"]
    settings = settings if epochs is None else dataclasses.replace(settings, epochs=epochs)
    data = example.draw(ROWS, 0)
    others = {"": Direct(example, settings, data, False), "-with-loader": Direct(example, settings, data, True)}
    seconds, mark = 0.0, 0.0

    def in_turns(record: dict[str, Any]) -> None:
        nonlocal seconds, mark
        if record["epoch"] % chunk == 0:
            seconds += time.perf_counter() - mark
            for other in others.values():
                other.run(chunk // part)
            mark = time.perf_counter()

    mark = time.perf_counter()
    trained(example, settings, data, initial_net(example, settings, 0), 0, callback=in_turns)
    seconds += time.perf_counter() - mark
    with locked(RESULTS):
        content = read()
        for name, other in others.items():
            key, theirs = f"example1/without-shrinking{name}", part * other.seconds
            content["ratios"][key] = theirs / seconds
            content["seconds"][key] = {
                "epochs": settings.epochs,
                "ours": seconds,
                f"theirs, {part} times a part": theirs,
            }
            print(f"{key}: {theirs:.1f} s / {seconds:.1f} s = {theirs / seconds:.2f}")
        write(content)


# ---- the file --------------------------------------------------------------------------------------------------------


def read() -> dict[str, Any]:
    """Returns the results so far."""
    if not RESULTS.exists():
        return {"machine": {}, "versions": {}, "rows": [], "ratios": {}, "seconds": {}}
    content: dict[str, Any] = json.loads(RESULTS.read_text())
    return content


def write(content: dict[str, Any]) -> None:
    """Writes the results, whole or not at all."""
    content["machine"] = {"system": platform.system(), "machine": platform.machine(), "cores": os.cpu_count()}
    content["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    write_whole(RESULTS, content)


def table(content: dict[str, Any]) -> str:
    """Returns a Markdown table, one line for the seeds of each example, and the ratios."""
    header = (
        *("example", "seeds", "true inputs found", "false inputs", "test loss, median (all)", "of all draws' mean"),
        *("floor", "accuracy, median (all)", "parameters removed", "seconds"),
    )
    lines = []
    for name, settings in SETTINGS.items():
        described = json.loads(json.dumps(dataclasses.asdict(settings)))
        rows = [row for row in content["rows"] if row["example"] == name and row["settings"] == described]
        if rows:
            lines.append(_cells(name, sorted(rows, key=lambda row: int(row["seed"]))))
    ratios = [f"{name}: {ratio:.3f}" for name, ratio in content["ratios"].items()]
    return "\n".join([markdown_table(header, lines), "", *ratios])


def _cells(name: str, rows: list[dict[str, Any]]) -> tuple[str, ...]:
    example = SPARSE_EXAMPLES[name]
    exact = sum(row["tpr"] == 1 and row["fpr"] == 0 for row in rows)
    false = ", ".join(str(round(row["fpr"] * (example.inputs - example.relevant))) for row in rows)
    losses = ", ".join(f"{row['loss']:.3f}" for row in rows)
    accuracy = [row["accuracy"] for row in rows if "accuracy" in row]
    accuracies = ", ".join(f"{value:.1%}" for value in accuracy)
    return (
        name,
        ", ".join(str(row["seed"]) for row in rows),
        f"{exact} of {len(rows)} exactly; TPR " + ", ".join(f"{row['tpr']:g}" for row in rows),
        false,
        f"{median(row['loss'] for row in rows):.3f} ({losses})",
        f"{median(row['ensemble_loss'] for row in rows):.3f}",
        f"{median(row['floor'] for row in rows):.3f}",
        f"{median(accuracy):.2%} ({accuracies})" if accuracy else "",
        f"{median(row['sparsity'] for row in rows):.2%}",
        f"{median(row['seconds'] for row in rows):.0f}",
    )


if __name__ == "__main__":
    main()
