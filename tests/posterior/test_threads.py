"""Threads: predictions go on beside each other; two runs at once are refused."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bnn_pyro.inference.mcmc.plan import SamplingPlan
from bnn_pyro.inference.mcmc.sample import sample
from bnn_pyro.inference.sgmcmc.fit import fit_sghmc
from bnn_pyro.inference.sgmcmc.one_shot import OneShot
from bnn_pyro.inference.svi.fit import fit
from bnn_pyro.likelihoods import Categorical
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import mlp
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.threads import driving
from bnn_pyro.priors import Gaussian, SpikeSlab

X = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
Y = torch.arange(40) % 3
ONE_CYCLE = OneShot(cycles=1, samples_per_cycle=2)
PLAN = SamplingPlan(kernel="chees", chains=2, warmup=2, draws=4)
DRIVERS: dict[str, Callable[[SparseNetwork], Posterior]] = {
    "fit": lambda model: fit(model, (X, Y), epochs=2, seed=0),
    "fit_sghmc": lambda model: fit_sghmc(model, (X, Y), ONE_CYCLE, epochs=2, seed=0),
    "sample": lambda model: sample(model, (X, Y), PLAN, engine="eager", seed=0),
}
every_driver = pytest.mark.parametrize("name", DRIVERS)


def model_of() -> SparseNetwork:
    prior = SpikeSlab(Gaussian(), inclusion=0.3)
    return SparseNetwork(mlp(6, (8,), 3), X[:2], prior=prior, likelihood=Categorical(), num_data=40)


@every_driver
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_several_threads_predict_what_one_does(name: str) -> None:
    posterior = DRIVERS[name](model_of())
    alone = posterior.predict(X, num_samples=8)
    found: list[Tensor | Exception] = []

    def predict() -> None:
        try:
            for _ in range(4):
                found.append(posterior.predict(X, num_samples=8))
                posterior.evaluate(X, Y, num_samples=2)
        except Exception as error:
            found.append(error)

    threads = [threading.Thread(target=predict) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24 and all(isinstance(each, Tensor) for each in found)
    if posterior.num_draws is not None:  # others draw afresh
        assert all(isinstance(each, Tensor) and torch.equal(each, alone) for each in found)


@every_driver
def test_a_run_beside_another_is_refused(name: str) -> None:
    running, told, ended = threading.Event(), threading.Event(), []

    def run() -> None:
        with driving("fit"):
            running.set()
            told.wait()
        ended.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    running.wait()
    try:
        with pytest.raises(RuntimeError, match=f"{name} must not run in two threads at once"):
            DRIVERS[name](model_of())
    finally:
        told.set()
        thread.join()
    assert ended and DRIVERS[name](model_of()).model.num_data == 40
