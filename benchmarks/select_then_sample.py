"""Tables: the network that SVI selects, sampled, beside SVI, the whole net sampled, ensembles, trees and bde.

    python benchmarks/select_then_sample.py --data-dir data --tables yacht energy --splits 1 2 3 4 5
    python benchmarks/select_then_sample.py --data-dir data --tables yacht --splits 1 --contestants bde
    python benchmarks/select_then_sample.py --data-dir data --tables concrete --choose
    python benchmarks/select_then_sample.py --table

Contestants: `svi` (SS-GHS on 50-50 hidden nodes, 8,000 steps from a dense net, gates on hidden nodes; KL weight .3, so
tempered), `refined` (`bnn_pyro.refine` of it with a Gaussian slab) and `refined, own slab` (with the group horseshoe's
scales as latents), `refined, stacked` (the chains of `refined`, weighted by stacking of PSIS-LOO on the training rows)
and `refined, half stacked` (by the mean of these weights and equal ones), `whole` (the 50-50 net sampled by 8 chains
with a Gaussian prior), `whole, deep` (the same of bde's network: 16-16-16-16, of a regression with a noise that the
network predicts, which on rows held out of split 0 of yacht and boston-housing was better than 50-50 and a constant
noise), `ensemble` (five dense 50-50 nets), `trees` (scikit-learn's HistGradientBoosting) and `bde`
(sklearn-contrib-bde: 8 members, 16-16-16-16, its own heteroscedastic likelihood, 20,000 steps of warm-up; it has to be
installed). As a refined net starts from dense nets of the chosen widths it is also the answer of a dense net of these
widths that is sampled.

Settings were fixed on split 0 of yacht and energy and by `--choose`, which scores a fifth of the training rows of split
0 and keeps all it has tried in `results/select_then_sample-choice.json`; report other splits. Rows that are there
already are skipped, so that an interrupted run is taken up by the same command. Seconds are of the wall, one thread;
processor seconds, which newer rows have, are of the process and its compilers.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import timing
import torch
from matplotlib.figure import Figure
from table_scores import (
    BDE,
    SMALL,
    Row,
    add,
    bde,
    ensemble,
    load_split,
    parser,
    processor_seconds,
    scores,
    sklearn_prediction,
)
from torch import Tensor

from bnn_pyro import (
    Categorical,
    Gaussian,
    GaussianNoise,
    GroupHorseshoe,
    HeteroscedasticNoise,
    LearningRates,
    Refinement,
    SamplingPlan,
    Schedule,
    SparseNetwork,
    SpikeSlab,
    StoppingRule,
    fit,
    refine,
    sample,
    train_dense,
)
from bnn_pyro.data import Dataset
from bnn_pyro.evaluation.metrics import paired_difference
from bnn_pyro.likelihoods import Classes, Likelihood, Normals
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.diagnostics import r_hat_summary
from bnn_pyro.posterior.guide import GuidePosterior
from bnn_pyro.posterior.sampled import SampledPosterior
from bnn_pyro.posterior.scores import log_scores
from bnn_pyro.priors import Slab
from bnn_pyro.reports.figures import COLORS, MARKERS, new_panels, set_title, style_axes
from bnn_pyro.reports.markdown import markdown_table

RESULTS = timing.RESULTS / "select_then_sample.json"
CHOICE = timing.RESULTS / "select_then_sample-choice.json"
HIDDEN, DEEP = (50, 50), (16, 16, 16, 16)
STEPS, BATCH = 8000, 64
REFINED = Refinement()
WHOLE = SamplingPlan(kernel="mclmc", chains=8, warmup=6000, draws=100, thinning=100, target_error=0.02)


@dataclass
class Job:
    """A table in one of its splits.

    Args:
        data: The table.
        kl_weight: That SVI selects at.
        rule: When samplers stop.
        hidden: Widths of the hidden layers.
        varying: Whether the network predicts the noise of real targets, too.
    """

    data: Dataset
    kl_weight: float
    rule: StoppingRule
    hidden: tuple[int, ...] = HIDDEN
    varying: bool = False
    selected: GuidePosterior | None = None
    chains: SampledPosterior | None = None

    @property
    def train(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets to learn from."""
        return self.data.train.x.flatten(1), self.data.train.y

    @property
    def likelihood(self) -> Likelihood:
        """Classes, or a normal whose noise is learned."""
        if self.data.num_classes is not None:
            return Categorical()
        return HeteroscedasticNoise() if self.varying else GaussianNoise()

    def make_net(self) -> torch.nn.Module:
        """Return a dense network, not trained."""
        is_pair = self.varying and self.data.num_classes is None
        return mlp(self.train[0].shape[1], self.hidden, 2 if is_pair else self.data.outputs)

    def network(self, prior: SpikeSlab | Slab, net: torch.nn.Module | None = None) -> SparseNetwork:
        """Return the whole network."""
        x, y = self.train
        return SparseNetwork(net or self.make_net(), x[:2], prior=prior, likelihood=self.likelihood, num_data=len(y))

    def selection(self) -> GuidePosterior:
        """Return what SVI selects, once for all contestants."""
        if self.selected is None:
            x, y = self.train
            epochs = round(STEPS * BATCH / len(y))
            options: Any = {"batch_size": BATCH, "seed": 0, "progress": False}
            dense = train_dense(self.make_net(), (x, y), likelihood=self.likelihood, epochs=min(300, epochs), **options)
            schedule = Schedule(hold=epochs // 5, freeze=epochs // 7, kl_warmup=epochs / 10, shrink_below=0.03)
            rates = LearningRates(slab_locs=3e-3, slab_scales=1e-2, scales=1e-2, gates=2e-2)
            model = self.network(SpikeSlab(GroupHorseshoe(), inclusion=0.1), dense)
            self.selected = fit(
                model, (x, y), epochs=epochs, kl_weight=self.kl_weight, schedule=schedule, rates=rates, **options
            )
        return self.selected

    def refined(self) -> SampledPosterior:
        """Return the chains of `refined`, sampled once for all ways to weight them."""
        if self.chains is None:
            settings = replace(REFINED, slab=Gaussian(), until=self.rule)
            self.chains = refine(self.selection(), self.train, settings, seed=0, progress=False)
        return self.chains


# ---- contestants -----------------------------------------------------------------------------------------------------
Answer = tuple[Classes | Normals | Tensor, Row]
"""A prediction of the test rows, or means of one without a density, and what else the row says."""


def _svi(job: Job, x: Tensor) -> Answer:
    posterior = job.selection()
    kept = {name: int(mask.sum()) for name, mask in posterior.keep().items()}
    return _predicted(posterior, x), {"nodes": kept, "weights": _weights(posterior.shrink().model)}


def _refined(job: Job, x: Tensor) -> Answer:
    return _of_chains(job.refined(), x)


def _own_slab(job: Job, x: Tensor) -> Answer:
    settings = replace(REFINED, slab=None, until=job.rule)
    return _of_chains(refine(job.selection(), job.train, settings, seed=0, progress=False), x)


def _stacked(equal_share: float, job: Job, x: Tensor) -> Answer:
    chains = job.refined()
    posterior = chains.weighted_by_stacking(*job.train, equal_share=equal_share)
    assert posterior.stacking is not None
    found, more = _of_chains(posterior, x)
    weights, shapes = posterior.stacking.weights, posterior.stacking.pareto_k
    return found, {
        **more,
        "against": _predicted(chains, x),
        "weights_of_chains": [round(float(weight), 4) for weight in weights],
        "unreliable_rows": [posterior.stacking.unreliable, shapes.shape[1]],
    }


def _whole(job: Job, x: Tensor) -> Answer:
    model = job.network(Gaussian())
    return _of_chains(sample(model, job.train, WHOLE, start="ensemble", until=job.rule, seed=0, progress=False), x)


def _whole_deep(job: Job, x: Tensor) -> Answer:
    return _whole(replace(job, hidden=DEEP, varying=True), x)


def _ensemble(job: Job, x: Tensor) -> Answer:
    model = job.network(Gaussian())
    return ensemble(model, job.train, x), {"weights": 5 * _weights(model)}


def _trees(job: Job, x: Tensor) -> Answer:
    return sklearn_prediction("trees", job.data, x), {}


def _bde(job: Job, x: Tensor) -> Answer:
    return bde(job.data, x), {"bde": BDE}


CONTESTANTS: dict[str, Callable[[Job, Tensor], Answer]] = {
    "svi": _svi,
    "refined": _refined,
    "refined, own slab": _own_slab,
    "refined, stacked": partial(_stacked, 0.0),
    "refined, half stacked": partial(_stacked, 0.5),
    "whole": _whole,
    "whole, deep": _whole_deep,
    "ensemble": _ensemble,
    "trees": _trees,
    "bde": _bde,
}
OURS = tuple(name for name in CONTESTANTS if name != "bde" and "stacked" not in name)


def _predicted(posterior: Posterior, x: Tensor) -> Classes | Normals:
    return posterior.predict(x, num_samples=64 if posterior.num_draws is None else None, return_draws=True)


def _of_chains(posterior: SampledPosterior, x: Tensor) -> Answer:
    return _predicted(posterior, x), {
        "weights": _weights(posterior.model),
        "r_hat": list(r_hat_summary(posterior.prediction_r_hat(x))),
        "sampling_seconds": posterior.draws.seconds,
        "thinning": posterior.draws.thinning,
        "diverged": int(posterior.draws.diverged.sum()),
    }


def _weights(model: SparseNetwork) -> int:
    return sum(parameter.numel() for parameter in model.net.parameters())


# ---- rows ------------------------------------------------------------------------------------------------------------
def main() -> None:
    """Run what the command line asks for, and print the table."""
    parsed = parser(__doc__, SMALL)
    parsed.add_argument("--contestants", nargs="+", default=OURS, choices=CONTESTANTS)
    parsed.add_argument("--kl-weight", type=float, default=0.3)
    parsed.add_argument("--hidden", nargs="+", type=int, default=HIDDEN, help="widths of the hidden layers")
    parsed.add_argument("--varying", action="store_true", help="let the network predict the noise of real targets")
    parsed.add_argument("--rounds", type=int, default=1, help="most rounds of 10,000 steps of each sampler")
    parsed.add_argument("--seconds", type=float, help="most seconds of each sampler")
    parsed.add_argument("--choose", action="store_true", help="score a fifth of the training rows of split 0")
    options = parsed.parse_args()
    timing.prepare(1)
    torch.set_flush_denormal(True)
    path = CHOICE if options.choose else RESULTS
    if not options.table:
        for split in [0] if options.choose else options.splits:
            for table in options.tables:
                _add_rows(table, split, path, options)
    rows = timing.read(path)
    print(table_of(rows))
    if rows and not options.choose:
        picture_of(rows).savefig(path.with_suffix(".png"), dpi=110)


def _add_rows(table: str, split: int, path: Path, options: argparse.Namespace) -> None:
    data = load_split(table, options.data_dir, split, validation=0.2 if options.choose else 0.0)
    test = data.validation if options.choose else data.test
    assert test is not None
    rule = StoppingRule(rounds=options.rounds, seconds=options.seconds)
    hidden, varying = tuple(options.hidden), options.varying and data.num_classes is None
    job = Job(data, options.kl_weight, rule, hidden, varying)
    for contestant in options.contestants:
        key = {"table": table, "split": split, "contestant": contestant}
        key |= {"kl_weight": options.kl_weight} if contestant.startswith(("svi", "refined")) else {}
        key |= {"hidden": list(hidden), "varying": varying} if (hidden, varying) != (HIDDEN, False) else {}
        if any(key.items() <= row.items() for row in timing.read(path)):
            continue
        if contestant.startswith("refined"):
            job.selection()  # whose seconds are SVI's
        if "stacked" in contestant:
            job.refined()
        started, processor = time.perf_counter(), processor_seconds()
        found, more = CONTESTANTS[contestant](job, test.x.flatten(1))
        seconds = time.perf_counter() - started
        if (against := more.pop("against", None)) is not None and not isinstance(found, Tensor):
            difference = paired_difference(log_scores(against, test.y), log_scores(found, test.y))
            more["minus_refined_nll"] = list(difference)
        row = {**key, **scores(found, test, data.y_std), **more, "seconds": seconds}
        row["processor_seconds"] = processor_seconds() - processor
        row["dense_weights"] = _weights(job.network(Gaussian()))
        plans = {"refined": repr(REFINED.plan), "whole": repr(WHOLE)}
        limits = {"rounds": options.rounds, "seconds": options.seconds}
        add(path, row, plans=plans | limits, svi_steps=STEPS, threads=1)


def table_of(rows: Sequence[Row]) -> str:
    """Return means over splits, a line per table and contestant."""
    shown = ("rmse", "accuracy", "nll", "crps", "coverage90", "weights", "seconds")
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: row["table"]):
        found.setdefault((row["table"], row["contestant"], str(row.get("kl_weight", ""))), []).append(row)
    lines = [
        (*key, str(len(each)), *(_mean(each, name) for name in shown), _r_hats(each)) for key, each in found.items()
    ]
    return markdown_table(("table", "contestant", "KL weight", "splits", *shown, "R-hat median, 95 %"), lines)


def picture_of(rows: Sequence[Row]) -> Figure:
    """Return the picture of NLL against weights, a panel per table, of means over the splits that all there have."""
    tables = list(dict.fromkeys(row["table"] for row in rows))
    figure, panels = new_panels(len(tables), 2.6, 2.1, most=5)
    looks = {
        name: (COLORS[i % len(COLORS)], MARKERS[(i + i // len(COLORS)) % len(MARKERS)])
        for i, name in enumerate(CONTESTANTS)
    }
    for table, axes in zip(tables, panels, strict=True):
        style_axes(axes)
        axes.set(title=table, xscale="log", xlabel="weights", ylabel="test NLL")
        here = [row for row in rows if row["table"] == table and "weights" in row]
        each = [{row["split"] for row in here if row["contestant"] == name} for name in looks]
        common = set.intersection(*(splits for splits in each if splits))  # others would be of other rows
        for name, (color, marker) in looks.items():
            found = [row for row in here if row["contestant"] == name and row["split"] in common]
            if found:
                point = (mean(row[value] for row in found) for value in ("weights", "nll"))
                axes.scatter(*point, color=color, marker=marker, label=name, s=36)
    handles = {text: h for axes in panels for h, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    set_title(figure, "NLL of the test rows against the size of the network")
    return figure


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    values = [row[name] for row in rows if name in row]
    return f"{mean(values):.3g}" if values else ""


def _r_hats(rows: Sequence[Mapping[str, Any]]) -> str:
    pairs = [row["r_hat"] for row in rows if "r_hat" in row]
    return ", ".join(f"{mean(pair[i] for pair in pairs):.2f}" for i in (0, 1)) if pairs else ""


if __name__ == "__main__":
    main()
