"""The windows of a warm-up."""

from bnn_pyro.inference.mcmc.windows import ends_window, window_of


def test_windows_lie_side_by_side() -> None:
    assert [window_of(number, 20) for number in range(1, 21)] == [0] * 2 + [1] * 3 + [2] * 5 + [3] * 6 + [4] * 4
    assert [number for number in range(1, 21) if ends_window(number, 20)] == [2, 5, 10, 16]


def test_the_last_window_is_open() -> None:
    """What is left after the last change of the mass matrix is for the step size, so the warm-up ends no window."""
    assert not any(ends_window(transitions, transitions) for transitions in range(1, 500))
