"""Each likelihood through each way of inference and into a report: test NLL on made-up rows.

    python benchmarks/likelihoods.py
    python benchmarks/likelihoods.py --only Poisson
    python benchmarks/likelihoods.py --page

The targets are draws of the likelihood itself around linear functions of 4 inputs. A network with 6 hidden nodes is
trained densely (its start), fitted by `fit` with gates, sampled by `sample` (kernel ``chees``) without them and by
`fit_sghmc`, all of them short, and scored on other rows; `truth` is the NLL of the functions that the targets are of,
`constant` that of the best constant output. `report` says whether the page of a run has the likelihood's own scores.
Rows that are there already are skipped unless they are asked for. The page `docs/likelihoods.md` is written from them.
"""

import json
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import timing
import torch
from torch import Tensor, nn

from bnn_pyro import (
    Bernoulli,
    Categorical,
    CorrelatedNoise,
    Gaussian,
    GaussianNoise,
    HeteroscedasticNoise,
    LearningRates,
    MeanDependentNoise,
    MultiOutputNoise,
    NegativeBinomial,
    Poisson,
    SamplingPlan,
    Schedule,
    SparseNetwork,
    SpikeSlab,
    StudentT,
    fit,
    fit_sghmc,
    networks,
    prune,
    sample,
    train_dense,
)
from bnn_pyro.likelihoods import Likelihood, RowWeights
from bnn_pyro.likelihoods.base import latent_site, targets_alone
from bnn_pyro.posterior.scores import scores
from bnn_pyro.reports.folder import write_report
from bnn_pyro.reports.markdown import markdown_table
from bnn_pyro.reports.measures import Run, evaluate_run

PAGE = Path(__file__).parent.parent / "docs" / "likelihoods.md"
TRAIN, TEST, INPUTS, HIDDEN = 160, 400, 4, 6
WAYS = ("fit", "sample", "fit_sghmc")


@dataclass(frozen=True)
class Case:
    """A likelihood, how many outputs a network needs for it, and the spread of the functions."""

    likelihood: Likelihood
    outputs: int = 1
    spread: float = 1.0


CASES = {
    "Categorical()": Case(Categorical(), 3, 2.0),
    "Categorical(weight)": Case(Categorical((1.0, 2.0, 1.0)), 3, 2.0),
    "GaussianNoise()": Case(GaussianNoise()),
    "MeanDependentNoise()": Case(MeanDependentNoise()),
    "HeteroscedasticNoise()": Case(HeteroscedasticNoise(), 2),
    "StudentT()": Case(StudentT()),
    "MultiOutputNoise(3)": Case(MultiOutputNoise(3), 3),
    "CorrelatedNoise(3)": Case(CorrelatedNoise(3), 3),
    "Bernoulli()": Case(Bernoulli(), 1, 2.0),
    "Bernoulli(weight)": Case(Bernoulli((1.0, 2.0, 1.0)), 3, 2.0),
    "Poisson()": Case(Poisson()),
    "NegativeBinomial()": Case(NegativeBinomial()),
    "RowWeights(Poisson())": Case(RowWeights(Poisson())),
}


def main() -> None:
    """Run the cases that the command line asks for, one row at a time, and write the page."""
    parsed = timing.parser(__doc__, "likelihoods")
    parsed.add_argument("--only", nargs="+", default=[], help="parts of names; those rows are made again")
    parsed.add_argument("--page", action="store_true", help="write the page alone")
    options = parsed.parse_args()
    timing.prepare(options.threads)
    rows: dict[str, Any] = {row["likelihood"]: row for row in timing.read(options.out)}
    names = [name for name in CASES if not options.only or any(part in name for part in options.only)]
    for name in [] if options.page else names[:1] if options.quick else names:
        if options.only or name not in rows:
            rows[name] = {"likelihood": name, **measure(CASES[name]), **timing.origin()}
            print(rows[name], flush=True)
            timing.write(options.out, [rows[known] for known in CASES if known in rows], {})
    if options.out == timing.RESULTS / "likelihoods.json":
        PAGE.parent.mkdir(exist_ok=True)
        PAGE.write_text(page([rows[name] for name in CASES if name in rows]), encoding="utf-8")


def measure(case: Case) -> dict[str, Any]:
    """Return the test NLL of each way, and whether there is a report.

    Args:
        case: The likelihood.
    """
    torch.manual_seed(0)
    x = torch.randn(TRAIN + TEST, INPUTS)
    outputs = x @ (case.spread * torch.randn(INPUTS, case.outputs) / math.sqrt(INPUTS))
    if isinstance(case.likelihood, HeteroscedasticNoise):
        outputs[:, 1] = outputs[:, 1] * 0.3 - 1  # the raw noise, which would be wild otherwise
    latent = _latent(case.likelihood, x)
    y = targets_alone(case.likelihood, case.likelihood.distribution(outputs, latent).sample())
    data: tuple[Tensor, ...] = (x[:TRAIN], y[:TRAIN])
    if isinstance(case.likelihood, RowWeights):
        data = (*data, torch.randint(1, 3, (TRAIN,)).float())
    test = (x[TRAIN:], y[TRAIN:])
    dense = train_dense(
        networks.mlp(INPUTS, (HIDDEN,), case.outputs),
        data,
        likelihood=case.likelihood,
        epochs=60,
        batch_size=40,
        learning_rate=0.01,
        seed=0,
        progress=False,
    )
    gated, plain = (_model(dense, x[:2], prior, case) for prior in (SpikeSlab(Gaussian(), inclusion=0.5), Gaussian()))
    rates = LearningRates(slab_locs=0.01, slab_scales=0.02, scales=0.03, gates=0.05)
    options: dict[str, Any] = {"batch_size": 40, "seed": 0, "progress": False}
    fitted = fit(gated, data, epochs=60, schedule=Schedule(hold=10), rates=rates, **options)
    plan = SamplingPlan(kernel="chees", chains=8, warmup=60, draws=40)
    posteriors = {
        "fit": fitted,
        "sample": sample(plain, data, plan, start="ensemble", seed=0, progress=False),
        "fit_sghmc": fit_sghmc(plain, data, epochs=40, batch_size=40, seed=0),
    }
    found = {way: round(posterior.evaluate(*test)["nll"], 4) for way, posterior in posteriors.items()}
    return {
        "truth": round(_nll(case.likelihood, outputs[TRAIN:], latent, test[1]), 4),
        "constant": round(_nll(case.likelihood, _constant(case, data[1]).expand(TEST, -1), latent, test[1]), 4),
        **found,
        "scores": sorted(fitted.evaluate(*test)),
        "report": _has_report(fitted, dense, case, test),
    }


def _latent(likelihood: Likelihood, like: Tensor) -> Tensor | None:
    """Return the latent that the targets are of: scales of 0.5 and the like, as its prior draws them."""
    latent = likelihood.prior(like=like)
    return None if latent is None else latent.clamp(0.4, 2.5)


def _model(dense: nn.Module, example: Tensor, prior: Any, case: Case) -> SparseNetwork:
    return SparseNetwork(dense, example, prior=prior, likelihood=case.likelihood, num_data=TRAIN)


def _nll(likelihood: Likelihood, outputs: Tensor, latent: Tensor | None, y: Tensor) -> float:
    predicted = likelihood.predict(outputs.unsqueeze(0), None if latent is None else latent.unsqueeze(0))
    return scores(predicted, y)["nll"]


def _constant(case: Case, y: Tensor) -> Tensor:
    """Return the output, the same for all rows, that suits the training rows best: by gradient descent."""
    output = torch.zeros(1, case.outputs, requires_grad=True)
    optimizer = torch.optim.Adam([output], 0.05)
    likelihood = case.likelihood.base if isinstance(case.likelihood, RowWeights) else case.likelihood
    latent = _latent(likelihood, output)
    for _ in range(300):
        optimizer.zero_grad()
        loss = -likelihood.distribution(output.expand(len(y), -1), latent).log_prob(y).mean()
        cast(Any, loss).backward()
        optimizer.step()
    return output.detach()


def _has_report(posterior: Any, dense: nn.Module, case: Case, test: tuple[Tensor, Tensor]) -> bool:
    """Write the report of a run, and return whether it has all scores of the likelihood."""
    site = latent_site(case.likelihood)
    noise = None if site is None else posterior.median_values()[site]
    run = Run(posterior, prune(posterior), dense, test, dense_noise=noise, num_samples=8)
    with tempfile.TemporaryDirectory() as folder:
        write_report(Path(folder), run, evaluate_run(run), config={"data": "made", "seed": 0})
        metrics = json.loads((Path(folder) / "metrics.json").read_text(encoding="utf-8"))
        is_written = (Path(folder) / "report.md").stat().st_size > 0
    return is_written and {f"posterior_test_{name}" for name in posterior.evaluate(*test)} <= metrics.keys()


def page(rows: list[dict[str, Any]]) -> str:
    """Return the page as Markdown.

    Args:
        rows: Those of the results.
    """
    head = ("likelihood", "truth", "constant", *(f"`{way}`" for way in WAYS), "report", "scores")
    lines = [
        (
            f"`{row['likelihood']}`",
            *(f"{row[name]:.3f}" for name in ("truth", "constant", *WAYS)),
            "yes" if row["report"] else "no",
            ", ".join(row["scores"]),
        )
        for row in rows
    ]
    return f"""# Likelihoods, and the ways of inference that take them

Test NLL in nats per row of short runs on made-up data of each likelihood: {TRAIN} rows to learn from, {TEST} to score,
and a network of {INPUTS} inputs and {HIDDEN} hidden nodes. `truth` is the NLL of the functions that the targets were
drawn around, with their noise; `constant` that of the best constant output with the true noise. Written by
`benchmarks/likelihoods.py` from [its results](../benchmarks/results/likelihoods.json).

{markdown_table(head, lines)}

Rows that are scored have no weights here; where they have some, the scores are weighted means. `refine`, `predictive`
and prediction bands take all likelihoods, bands those with one number or class per row; `bnn-pyro compare` and the
command line take classes and one real number per row.
"""


if __name__ == "__main__":
    main()
