"""Threads of small networks."""

from collections.abc import Iterator

import pytest
import torch

from bnn_pyro.estimators.threads import threads_for


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_small_networks_have_one_thread_and_the_others_all() -> None:
    for widths, threads in (((100, 20), 1), ((), 1), ((20, 101), 2)):
        with threads_for(widths):
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), threads_for((4,)):
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2
