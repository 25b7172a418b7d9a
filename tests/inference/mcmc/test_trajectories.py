"""The sequence that jitters the lengths of trajectories."""

from bnn_pyro.inference.mcmc.trajectories import halton


def test_halton_sequence_fills_the_interval() -> None:
    assert [halton(number) for number in range(1, 8)] == [1 / 2, 1 / 4, 3 / 4, 1 / 8, 5 / 8, 3 / 8, 7 / 8]
