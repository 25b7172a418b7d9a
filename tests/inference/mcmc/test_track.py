"""What is kept of chains: a draw every so many transitions."""

import pytest
import torch

from bnn_pyro.inference.mcmc.kernel import Move
from bnn_pyro.inference.mcmc.track import Track


def test_a_track_keeps_every_so_manyth() -> None:
    track = Track(2)
    for number in range(1, 6):
        value = torch.tensor(float(number))
        track.add(value.repeat(3), value, Move(value / 10, value > 3, value.long(), value))
    found = track.stacked()
    assert found["vectors"][:, 0].tolist() == found["energy"].tolist() == found["total_energy"].tolist() == [2, 4]
    assert found["acceptance"].tolist() == pytest.approx([0.15, 0.35])
    assert found["diverged"].tolist() == [0, 1] and found["leapfrogs"].tolist() == [3, 7]
    assert len(track.pending) == 1


def test_goes_on_from_a_state() -> None:
    """In the middle of a draw, too; a subclass's further numbers are not kept."""

    class Longer(Move):
        """What a kernel tells its warm-up."""

    tracks = Track(2), Track(2)
    for number in range(1, 7):
        value = torch.tensor(float(number))
        if number == 4:
            tracks[1].load_state_dict(tracks[0].state_dict())
        for track in tracks[: 1 if number < 4 else 2]:
            track.add(value.repeat(3), value, Longer(value / 10, value > 3, value.long(), value))
    one, two = (track.stacked() for track in tracks)
    assert one.keys() == two.keys() and all(torch.equal(value, two[name]) for name, value in one.items())
