"""Each named net can be made for the inputs that it reads, and says which widths it takes."""

import pytest
import torch

from bnn_pyro.networks.named import NETS, check_widths, default_widths, make_net, reads_images


@pytest.mark.parametrize("name", NETS)
def test_nets_are_made_for_their_inputs(name: str) -> None:
    widths = {"mlp": (3, 4), "residual-mlp": (3, 4, 4), "lenet": (2, 3, 4)}.get(name, (2,))
    net = make_net(name, widths, (3, 16, 20), 5).eval()
    x = torch.zeros(2, 3, 16, 20)
    assert net(x if reads_images(name) else x.flatten(1)).shape == (2, 5)


@pytest.mark.parametrize("name", NETS)
def test_default_widths_fit(name: str) -> None:
    check_widths(name, default_widths(name, (50,)))
    assert reads_images(name) or default_widths(name, (50, 40))[0] == 50


def test_default_widths_are_those_of_the_literature() -> None:
    sizes = {
        name: sum(p.numel() for p in make_net(name, default_widths(name, (9,)), shape, 10).parameters())
        for name, shape in (("lenet", (1, 28, 28)), ("resnet20", (3, 32, 32)), ("resnet18", (3, 32, 32)))
    }
    assert sizes == {"lenet": 1_071_880, "resnet20": 272_474, "resnet18": 11_173_962}
    assert default_widths("residual-mlp", (9,)) == (9, 9)


@pytest.mark.parametrize(
    ("name", "widths", "message"),
    [
        ("mlp", (), "hidden must be the widths of one hidden layer or more"),
        ("resnet20", (0,), "hidden must be the widths of one hidden layer or more, each at least 1"),
        ("residual-mlp", (50,), "hidden must be the width of the channels and then that of each block"),
        ("residual-mlp", (50, 40, 30), "hidden must be the width of the channels and then that of each block"),
        ("lenet", (20,), "hidden must be the filters of both convolutions"),
        (
            "resnet20",
            (16, 32),
            r"hidden must be the channels of the first stage for a resnet20, such as 16; got \(16, ",
        ),
    ],
)
def test_bad_widths_are_refused(name: str, widths: tuple[int, ...], message: str) -> None:
    for call in (lambda: check_widths(name, widths), lambda: make_net(name, widths, (3, 32, 32), 10)):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_nets_that_read_images_need_some(name: str) -> None:
    with pytest.raises(ValueError, match=rf"mlp, residual-mlp for inputs of shape \(64,\), got '{name}', which reads"):
        make_net(name, default_widths(name, (1,)), (64,), 10)
