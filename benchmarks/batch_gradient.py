"""The gradient of a batch of chains against one written by hand for the same network, on one core.

The posterior is that of a perceptron with a Gaussian prior and Gaussian noise of unknown scale, in ``float32``. The one
by hand has the chains first: a ``baddbmm`` a layer, the gradient's products as ``bmm``, all chains at once. Ours is the
program that MCLMC calls, compiled and traced, block by block as it calls it. ``other layout`` is the compiled program
with the chains last where ours has them first, and the other way round. The ratios are processor seconds over those by
hand: less is better. Each row has the commit, the versions and the settings. The file is written case by case; the one
in ``results`` is of the second command, stopped early, and has the first cases only::

    python benchmarks/batch_gradient.py
    python benchmarks/batch_gradient.py --chains 16 --rounds 3
    python benchmarks/batch_gradient.py --quick --out quick.json
"""

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import pyro
import timing
import torch
from torch import Tensor, nn

from bnn_pyro import Gaussian, SparseNetwork, networks
from bnn_pyro.inference.mcmc.potential.microcanonical import Flow
from bnn_pyro.inference.mcmc.potential.noncentered import noncentered
from bnn_pyro.inference.mcmc.potential.potential import Potential
from bnn_pyro.likelihoods import GaussianNoise
from bnn_pyro.tracing import batch

CHAINS = (4, 16, 64)
MOST = 64 * 10_000  # rows of all chains: more would not fit beside others
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "tanh": nn.Tanh}


@dataclass(frozen=True)
class Case:
    """A network and its data.

    Args:
        rows: Rows of data.
        inputs: Inputs of the network.
        widths: Nodes of each hidden layer.
        activation: One of `ACTIVATIONS`.
    """

    rows: int
    inputs: int
    widths: tuple[int, ...]
    activation: str = "silu"

    def __str__(self) -> str:
        return f"{self.rows} x {self.inputs}-{'-'.join(map(str, self.widths))}-1 {self.activation}"

    def data(self) -> tuple[Tensor, Tensor]:
        """Return inputs and targets."""
        torch.manual_seed(0)
        return torch.randn(self.rows, self.inputs), torch.randn(self.rows)

    def potential(self, *, compiled: bool) -> Potential:
        """Return the potential energy.

        Args:
            compiled: Whether its programs are compiled.
        """
        x, y = self.data()
        net = networks.mlp(self.inputs, self.widths, 1, activation=ACTIVATIONS[self.activation])
        network = SparseNetwork(net, x[:2], prior=Gaussian(), likelihood=GaussianNoise(), num_data=self.rows)
        made = Potential(noncentered(network), x, y, compiled=compiled)
        made._program("gradient", made._gradient, torch.zeros(made.size))  # which `block` asks
        return made


CASES = (
    Case(1353, 9, (18, 18)),
    Case(1353, 9, (18, 18), "tanh"),
    Case(40_000, 9, (18, 18)),
    Case(300, 9, (18, 18)),
    Case(1353, 8, (50, 50)),
    Case(277, 7, (10, 10)),
    Case(1353, 8, (16, 16, 16, 16)),
    Case(10_000, 8, (16, 16, 16, 16)),
    Case(1353, 8, (4, 4)),
    Case(277, 8, (50,)),
    Case(1353, 32, (18, 18)),
)


# ---- by hand ---------------------------------------------------------------------------------------------------------


def by_hand(vectors: Tensor, x: Tensor, y: Tensor, widths: tuple[int, ...], activation: str) -> tuple[Tensor, Tensor]:
    """Return the gradient of a potential energy and its value, without the prior's constants.

    Args:
        vectors: Weights ``(inputs, outputs)`` and biases, layer by layer, and the log of the noise's scale, shape
            ``(chains, n)``.
        x: Inputs, shape ``(rows, inputs)``.
        y: Targets, shape ``(rows,)``.
        widths: Nodes of each hidden layer.
        activation: One of `ACTIVATIONS`.
    """
    chains, start, size = len(vectors), 0, x.shape[1]
    h, inputs, sums, weights = x.expand(chains, *x.shape), [], [], []
    for width in (*widths, 1):
        end = start + size * width
        weights.append(vectors[:, start:end].view(chains, size, width))
        inputs.append(h)
        sums.append(torch.baddbmm(vectors[:, end : end + width].unsqueeze(1), h, weights[-1]))
        h = torch.tanh(sums[-1]) if activation == "tanh" else nn.functional.silu(sums[-1])
        start, size = end + width, width
    log_scale, residual = vectors[:, -1], sums[-1] - y.unsqueeze(-1)
    precision = torch.exp(-2 * log_scale)
    squares = residual.square().sum((1, 2)) * precision
    value = 0.5 * squares + len(x) * log_scale + 0.5 * vectors.square().sum(1)
    slope, parts = residual * precision.view(-1, 1, 1), [(len(x) - squares).unsqueeze(1)]
    for i in reversed(range(len(weights))):
        parts += [slope.sum(1), torch.bmm(inputs[i].transpose(1, 2), slope).flatten(1)]
        if i:
            back = torch.bmm(slope, weights[i].transpose(1, 2))
            if activation == "tanh":
                slope = torch.ops.aten.tanh_backward(back, inputs[i])
            else:
                slope = torch.ops.aten.silu_backward(back, sums[i - 1])
    return torch.cat(parts[::-1], 1) + vectors, value


# ---- ours ------------------------------------------------------------------------------------------------------------


def _gradient(flow: Flow) -> Flow:
    return flow


def _blocks(potential: Potential, positions: Tensor) -> timing.Call:
    """Return a call that takes the gradient of all chains, block by block as MCLMC does."""
    parts = [part.contiguous() for part in positions.split(potential.block(positions.shape[1]), -1)]

    def call() -> None:
        for part in parts:
            potential.along("gradient", _gradient, part)

    call()
    return call


def _other(case: Case, positions: Tensor) -> timing.Call:
    choice = batch._is_first
    with patch.object(batch, "_is_first", lambda traced, chains: not choice(traced, positions.shape[1])):
        return _blocks(case.potential(compiled=True), positions)


def _rows(case: Case, ours: Potential, traced: Potential, chains: int, options: Namespace) -> list[timing.Row]:
    x, y = case.data()
    vectors = 0.3 * torch.randn(chains, ours.size)
    positions = vectors.t().contiguous()
    calls: dict[str, timing.Call] = {
        "by hand": lambda: by_hand(vectors, x, y, case.widths, case.activation),
        "ours": _blocks(ours, positions),
        "traced": _blocks(traced, positions),
        "other layout": _other(case, positions),
    }
    each = max(timing.timed(call, repeats=1, clock=time.process_time) for call in calls.values())
    repeats = max(1, min(50, round(0.03 / max(each, 1e-6))))
    with torch.no_grad():
        seconds = timing.interleaved(calls, rounds=options.rounds, repeats=repeats, clock=time.process_time)
    found = timing.timed_rows(f"{case} {chains} chains", seconds)
    is_first = batch._is_first(ours._single["gradient"], chains)
    more = {"weights": ours.size - 1, "chains": chains, "block": ours.block(chains), "chains first": is_first}
    return [{**row, **more} for row in found]


# ---- command line ----------------------------------------------------------------------------------------------------


def main() -> None:
    """Time all cases; print the tables and write the JSON."""
    parser = timing.parser(__doc__, "batch_gradient")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant")
    parser.add_argument("--chains", type=int, nargs="+", default=CHAINS)
    options = parser.parse_args()
    timing.prepare(options.threads)
    pyro.enable_validation(False)
    origin = timing.origin(rounds=options.rounds, threads=options.threads)
    rows: list[timing.Row] = []
    for case in CASES[:1] if options.quick else CASES:
        potentials = [case.potential(compiled=flag) for flag in (True, False)]
        for chains in options.chains[:1] if options.quick else options.chains:
            if case.rows * chains <= MOST:
                found = _rows(case, *potentials, chains, options)
                print(timing.table(found, "by hand"), flush=True)
                rows += [{**row, **origin} for row in found]
        timing.write(options.out, rows, timing.ratios_of(rows, "by hand"), clock="processor seconds of the process")


if __name__ == "__main__":
    main()
