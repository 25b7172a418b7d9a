"""That a frozen part in evaluation mode is left alone by training, evaluation and what comes after."""

from typing import Any

import torch
from torch import Tensor, nn

from bnn_pyro import Gaussian, SparseNetwork, SpikeSlab, fit, prune
from bnn_pyro.frozen import frozen_modules, train_others
from bnn_pyro.likelihoods import Categorical


def pretrained() -> nn.Sequential:
    """A frozen body with statistics of its own, and a head."""
    body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout())
    for _ in range(20):
        body(torch.randn(50, 6))
    net = nn.Sequential(body, nn.Linear(8, 2)).eval()
    body.requires_grad_(False)
    return net


def modes(net: nn.Module) -> dict[str, bool]:
    return {name: module.training for name, module in net.named_modules()}


def test_frozen_modules_are_those_in_evaluation_mode_of_which_nothing_is_trained() -> None:
    net = pretrained()
    assert frozen_modules(net, ()) == ("0", "0.0", "0.1", "0.2", "0.3")
    assert frozen_modules(net, ("0.0.weight",)) == ("0.1",)
    assert frozen_modules(net.train(), ()) == ()
    assert frozen_modules(nn.Sequential(nn.ReLU(), nn.Linear(2, 2)).eval(), ()) == ()


def test_all_others_are_trained() -> None:
    net = pretrained()
    train_others(net, frozen_modules(net, ()))
    assert [name for name, training in modes(net).items() if training] == ["", "1"]


def test_what_is_frozen_has_no_slab_unless_all_is() -> None:
    net, x = pretrained(), torch.randn(2, 6)
    how: dict[str, Any] = {"prior": SpikeSlab(Gaussian(), inclusion=0.5), "likelihood": Categorical(), "num_data": 40}
    model = SparseNetwork(net, x, **how)
    assert [parameter.name for parameter in model.bayesian] == ["1.weight", "1.bias"]
    assert model.frozen == ("0", "0.0", "0.1", "0.2", "0.3") and list(model.groups) == ["0.0"]
    whole = SparseNetwork(net.requires_grad_(False), x, **how)
    assert [parameter.name for parameter in whole.bayesian][0] == "0.0.weight" and len(whole.bayesian) == 6


def test_nodes_of_a_frozen_body_are_chosen_and_cut_and_the_others_stay() -> None:
    torch.manual_seed(0)
    net, x = pretrained(), 1 + 0.3 * torch.randn(41, 6)
    prior, y = SpikeSlab(Gaussian(), inclusion=0.5), (x[:, 0] > 1).long()
    model = SparseNetwork(net, x[:2], prior=prior, likelihood=Categorical(), num_data=41)
    posterior = fit(model, (x, y), epochs=2, batch_size=8, seed=0, progress=False)
    body = posterior.model.net.get_submodule("0")
    assert torch.equal(body(x), net[0](x)) and not body.training
    kept = torch.arange(8) % 2 == 0
    small = prune(posterior, keep={"0.0": kept})
    torch.testing.assert_close(small.get_submodule("0")(x), net[0](x)[:, kept])


def test_fit_leaves_a_frozen_body_as_it_is() -> None:
    torch.manual_seed(0)
    net = pretrained()
    x = 1 + 0.3 * torch.randn(40, 6)
    seen: list[Tensor] = []
    expected = net[0](x)

    def is_head(name: str, parameter: nn.Parameter) -> bool:
        return name.startswith("1.")

    model = SparseNetwork(net, x[:2], prior=Gaussian(), likelihood=Categorical(), num_data=32, bayesian=is_head)
    hook = model.net.get_submodule("0.1").register_forward_pre_hook(lambda module, _: seen.append(module.training))
    y = (x[:, 0] > 1).long()
    posterior = fit(model, (x, y), epochs=2, batch_size=8, seed=0, progress=False, validation=0.2)
    hook.remove()
    assert not any(seen)
    for body in (net[0], model.net.get_submodule("0"), posterior.model.net.get_submodule("0")):
        assert torch.equal(body(x), expected)
        assert not body.training and not any(parameter.requires_grad for parameter in body.parameters())
    assert torch.equal(posterior.median_model().get_submodule("0")(x), expected)
