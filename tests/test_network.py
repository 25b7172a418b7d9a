"""A network as a Pyro model: its sites, where gates multiply, and that Pyro's own tools work on it."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, TraceMeanField_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.optim import Adam  # type: ignore[attr-defined]
from torch import Tensor, nn

from bnn_pyro.likelihoods import Categorical, GaussianNoise
from bnn_pyro.network import SparseNetwork
from bnn_pyro.networks import lenet, mlp, residual_mlp
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from guides import AutoSpikeSlab, initial_value
from tests.nodes.nets import Stream


class Concat(nn.Module):
    """Two hidden layers and the inputs, read side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(6, 4), nn.Linear(6, 3, bias=False), nn.Linear(13, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Read the activations of both, with the inputs between them."""
        return self.head(torch.cat([self.a(x).sigmoid(), x, self.b(x).cos()], -1))  # type: ignore[no-any-return]


def normed() -> nn.Module:
    """A perceptron with a layer normalisation, whose parameters are no Linear layer's, and nodes behind it."""
    return nn.Sequential(nn.Linear(6, 5), nn.LayerNorm(5), nn.SiLU(), nn.Linear(5, 7), nn.Sigmoid(), nn.Linear(7, 3))


def convolutions() -> nn.Module:
    """The 6 inputs as an image of 2 x 3 pixels: convolutions, a BatchNorm, pooling and a linear layer."""
    return nn.Sequential(
        *(nn.Unflatten(1, (1, 2, 3)), nn.Conv2d(1, 4, 2, padding=1), nn.BatchNorm2d(4), nn.Sigmoid(), nn.MaxPool2d(2)),
        *(nn.Conv2d(4, 5, 1), nn.Sigmoid(), nn.Flatten(), nn.Linear(10, 4), nn.Sigmoid(), nn.Linear(4, 3)),
    )


class ResidualConvolutions(nn.Module):
    """A residual block of convolutions with BatchNorms, one of them depthwise, and a gate on each channel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 4, 2, padding=1, bias=False), nn.BatchNorm2d(4)
        self.expand, self.depthwise = nn.Conv2d(4, 5, 1), nn.Conv2d(5, 5, 3, padding=1, groups=5, bias=False)
        self.reduce, self.last_norm = nn.Conv2d(5, 4, 1), nn.BatchNorm2d(4, affine=False)
        self.squeeze, self.excite = nn.Linear(4, 3), nn.Linear(3, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the block gives, then weigh the channels."""
        h = self.norm(self.stem(x.reshape(-1, 1, 2, 3))).sigmoid()
        h = (h + self.last_norm(self.reduce(self.depthwise(self.expand(h).sigmoid()).sigmoid()))).mean((-2, -1))
        return self.head(h * self.excite(self.squeeze(h).sigmoid()).sigmoid())  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """The 6 inputs as 3 tokens of 2 numbers each, which attend to each other with two heads, and a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention = nn.Linear(2, 4), nn.MultiheadAttention(4, 2, batch_first=True)
        self.hidden, self.head = nn.Linear(4, 5), nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add what the attention gives to the tokens."""
        h = self.stem(x.unflatten(-1, (3, 2)))
        h = h + self.attention(h, h, h, need_weights=False)[0]
        return self.head(self.hidden(h).sigmoid().flatten(1))  # type: ignore[no-any-return]


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(6, (8, 7), 3),
    "no bias": lambda: mlp(6, (8, 7), 3, activation=nn.Sigmoid, bias=False),
    "residual": lambda: residual_mlp(6, 5, 2, 3, block_width=4, activation=nn.Sigmoid),
    "stream": Stream,
    "concat": Concat,
    "normed": normed,
    "convolutions": convolutions,
    "residual convolutions": ResidualConvolutions,
    "transformer": Transformer,
}
INPUTS_STAY = (
    "concat",
    "convolutions",
    "residual convolutions",
    "transformer",
)  # nets whose inputs cannot be removed one by one
"""Nets that read 6 inputs and give 3 outputs; every activation but SiLU's is not 0 at 0."""


def net_of(name: str, seed: int = 0) -> nn.Module:
    """A float64 net of the table, with parameters that are nowhere 0 or 1."""
    net = NETS[name]().double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    for buffer in net.buffers():
        if buffer.is_floating_point():
            buffer.data = 0.5 + torch.rand(buffer.shape, generator=generator, dtype=torch.float64)
    return net


def inputs(rows: int = 12, features: int = 6) -> Tensor:
    """Inputs in float64, the same each time."""
    return torch.randn(rows, features, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def labels(rows: int = 12) -> Tensor:
    """Labels of three classes that depend on the inputs."""
    x = inputs(rows)
    return (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def network(net: str | nn.Module = "mlp", **options: Any) -> SparseNetwork:
    """A network on 12 rows, small and cheap unless told otherwise."""
    given = {"prior": SpikeSlab(Gaussian(), inclusion=0.3), "likelihood": Categorical(), "num_data": 12, **options}
    return SparseNetwork(net_of(net) if isinstance(net, str) else net, inputs(), **given)


def sites(program: Callable[..., Any], *args: Any) -> dict[str, Any]:
    """The latent and observed sites of a program, by name."""
    trace = poutine.trace(program).get_trace(*args)
    return {name: trace.nodes[name] for name in [*trace.stochastic_nodes, *trace.observation_nodes] if name != "data"}


def hints(model: SparseNetwork) -> dict[str, Any]:
    """The gates that each parameter's site names; an index as a list."""

    def plain(hint: Any) -> Any:
        if isinstance(hint, list):
            return [plain(part) for part in hint]
        return hint if isinstance(hint, int) else (hint[0], hint[1].tolist())

    found = sites(model.prior)
    return {
        p.name: {gate: plain(hint) for gate, hint in found[p.name]["infer"].get("gates", {}).items()}
        for p in model.bayesian
    }


# ---- sites and hints -------------------------------------------------------------------------------------------------


def test_sites_of_a_perceptron() -> None:
    layers = ("hidden1", "hidden2", "output")
    expected = {f"{layer}.{leaf}" for layer in layers for leaf in ("weight", "bias", "tau.alpha", "tau.beta")}
    expected |= {"hidden1.gate", "hidden2.gate", "global_scale.alpha", "global_scale.beta"}
    found = sites(network(prior=SpikeSlab(GroupHorseshoe(), inclusion=0.3)).prior)
    assert set(found) == expected
    shapes = {name: tuple(found[name]["value"].shape) for name in ("hidden1.gate", "hidden2.weight", "output.tau.beta")}
    assert shapes == {"hidden1.gate": (8,), "hidden2.weight": (7, 8), "output.tau.beta": (3,)}
    assert all(site["value"].dtype == torch.float64 for site in found.values())


def test_gates_of_a_perceptron() -> None:
    assert hints(network()) == {
        "hidden1.weight": {"hidden1.gate": -2},
        "hidden1.bias": {"hidden1.gate": -1},
        "hidden2.weight": {"hidden2.gate": -2, "hidden1.gate": -1},
        "hidden2.bias": {"hidden2.gate": -1},
        "output.weight": {"hidden2.gate": -1},
        "output.bias": {},
    }


def test_gates_of_selected_inputs() -> None:
    model = network(select_inputs=True)
    assert list(model.groups) == ["inputs", "hidden1", "hidden2"] and model.groups["inputs"].size == 6
    assert hints(model)["hidden1.weight"] == {"hidden1.gate": -2, "inputs.gate": -1}


def test_gates_of_residual_blocks() -> None:
    found = hints(network("residual"))
    assert found["stem.bias"] == {"stem.gate": -1}
    for block in ("blocks.0", "blocks.1"):
        assert found[f"{block}.hidden.weight"] == {f"{block}.hidden.gate": -2, "stem.gate": -1}
        assert found[f"{block}.output.weight"] == {"stem.gate": -2, f"{block}.hidden.gate": -1}
        assert found[f"{block}.output.bias"] == {"stem.gate": -1}
    assert found["head.weight"] == {"stem.gate": -1}


def test_a_group_at_both_ends_of_a_weight_is_named_twice() -> None:
    assert hints(network("stream"))["block.weight"] == {"stem.gate": [-2, -1]}


def test_gates_of_a_concatenation_stand_at_their_positions() -> None:
    a, b = [0, 1, 2, 3, *[-1] * 9], [*[-1] * 10, 0, 1, 2]
    assert hints(network("concat"))["head.weight"] == {"a.gate": (-1, a), "b.gate": (-1, b)}


def test_gates_of_convolutions() -> None:
    """A BatchNorm has its channel's gate; each channel is read by the columns of all its pixels."""
    columns = [node for node in range(5) for _ in range(2)]
    assert hints(network("convolutions")) == {
        "1.weight": {"1.gate": -4},
        "1.bias": {"1.gate": -1},
        "2.weight": {"1.gate": -1},
        "2.bias": {"1.gate": -1},
        "5.weight": {"5.gate": -4, "1.gate": -3},
        "5.bias": {"5.gate": -1},
        "8.weight": {"8.gate": -2, "5.gate": (-1, columns)},
        "8.bias": {"8.gate": -1},
        "10.weight": {"8.gate": -1},
        "10.bias": {},
    }


def test_gates_of_a_depthwise_convolution_and_of_excited_channels() -> None:
    found = hints(network("residual convolutions"))
    assert found["depthwise.weight"] == {"expand.gate": -4}
    assert found["reduce.weight"] == {"stem.gate": -4, "expand.gate": -3}
    assert found["squeeze.weight"] == {"squeeze.gate": -2, "stem.gate": -1}
    assert found["excite.weight"] == {"stem.gate": -2, "squeeze.gate": -1}
    assert "last_norm.weight" not in found


def test_gates_of_heads() -> None:
    found, heads = hints(network("transformer")), [0, 0, 1, 1]
    assert found["attention.in_proj_weight"] == {"attention.gate": (-2, heads * 3)}
    assert found["attention.in_proj_bias"] == {"attention.gate": (-1, heads * 3)}
    assert found["attention.out_proj.weight"] == {"attention.gate": (-1, heads)}


def test_weights_a_node() -> None:
    """A filter's weights and its bias share a scale, and so do the weight and the bias of a BatchNorm's channel."""
    model = network("convolutions", prior=SpikeSlab(GroupLasso(), inclusion=0.3))
    assert model.layers == {"1": (4, 5), "2": (4, 2), "5": (5, 5), "8": (4, 11), "10": (3, 5)}
    found = sites(model.prior)
    concentration = found["2.tau_squared"]["fn"].base_dist.concentration
    assert concentration.tolist() == [1.5] * 4  # (m + 1) / 2 for m = 2
    assert found["1.weight"]["value"].shape == (4, 1, 2, 2)
    scale = found["1.tau_squared"]["value"].sqrt()
    torch.testing.assert_close(found["1.weight"]["fn"].base_dist.scale[:, 0, 1, 1], scale)


def test_transposed_convolutions_are_points_that_are_gated() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 2), nn.Sigmoid(), nn.ConvTranspose2d(4, 4, 2), nn.Flatten(), nn.Linear(24, 3))
    options: Any = {"prior": SpikeSlab(Gaussian(), inclusion=0.3), "likelihood": Categorical(), "num_data": 12}
    x = inputs().reshape(12, 1, 2, 3)
    model = SparseNetwork(net.double(), x, **options)
    assert [p.name for p in model.bayesian] == ["0.weight", "0.bias", "4.weight", "4.bias"]
    weights, gates = drawn(model, 0)
    values, start = model.assemble(weights, gates, absent=True), model.net.get_parameter("2.weight")
    torch.testing.assert_close(values["2.weight"], start * gates["0"].reshape(4, 1, 1, 1) * gates["2"].reshape(4, 1, 1))


def test_excluded_layers_have_no_gate() -> None:
    model = network(exclude=["hidden1"])
    assert list(model.groups) == ["hidden2"]
    assert hints(model)["hidden2.weight"] == {"hidden2.gate": -2}


def test_bayesian_parameters_can_be_chosen() -> None:
    weights = network(bayesian=lambda name, _: name.endswith("weight"))
    assert [p.name for p in weights.bayesian] == ["hidden1.weight", "hidden2.weight", "output.weight"]
    assert weights.layers == {"hidden1": (8, 6), "hidden2": (7, 8), "output": (3, 7)}
    last = network(bayesian=lambda name, parameter: parameter.shape[0] == 3)
    assert set(sites(last.prior)) == {"hidden1.gate", "hidden2.gate", "output.weight", "output.bias"}
    assert [n for n, p in last.net.named_parameters() if p.requires_grad] == [
        f"hidden{i}.{leaf}" for i in (1, 2) for leaf in ("weight", "bias")
    ]


def test_other_parameters_are_points() -> None:
    model = network("normed")
    assert {name for name, p in model.net.named_parameters() if p.requires_grad} == {"1.weight", "1.bias"}
    model(inputs(), labels())
    store = dict(pyro.get_param_store().named_parameters())
    assert set(store) == {"net.1.weight", "net.1.bias"}
    assert store["net.1.weight"] is model.net.get_parameter("1.weight")


def test_a_bare_slab_has_no_gates() -> None:
    for slab in (Gaussian(), GroupLasso(), GroupHorseshoe()):
        model = network(prior=slab, select_inputs=True)
        assert model.groups == {} and not any(name.endswith("gate") for name in sites(model.prior))
        assert all(hint == {} for hint in hints(model).values())


def test_a_net_that_is_one_layer() -> None:
    model = network(nn.Linear(6, 3).double(), prior=GroupHorseshoe())
    assert {"weight", "bias", "net.tau.alpha", "net.tau.beta"} < set(sites(model.prior))
    assert model(inputs()).shape == (12,)


def test_inclusion_of_the_theory() -> None:
    model = SparseNetwork(
        mlp(784, (400, 400), 10),
        torch.zeros(2, 784),
        prior=SpikeSlab(Gaussian()),
        likelihood=Categorical(),
        num_data=60_000,
    )
    assert model.inclusion == pytest.approx({"hidden1": 0.001541136, "hidden2": 0.002343843}, rel=1e-6)
    probabilities = {name: site["fn"].base_dist.probs for name, site in sites(model.prior).items() if "gate" in name}
    assert float(probabilities["hidden2.gate"][0]) == pytest.approx(0.002343843, rel=1e-4)


def lenet_on(num_data: int, **sizes: Any) -> SparseNetwork:
    options: Any = {"prior": SpikeSlab(Gaussian()), "likelihood": Categorical(), "num_data": num_data}
    return SparseNetwork(lenet(**sizes), torch.zeros(2, 1, 28, 28), **options)


def test_inclusion_of_convolutions_is_that_of_the_perceptron_behind_them() -> None:
    expected = {"hidden1": 7.476536e-4, "hidden2": 1.1962462e-3, "conv1": 7.476536e-4, "conv2": 1.1962462e-3}
    assert lenet_on(60_000).inclusion == pytest.approx(expected, rel=1e-6)
    shallow = lenet_on(1_000, filters=(2, 3), hidden=(4,)).inclusion
    assert shallow["conv1"] == shallow["conv2"] == shallow["hidden1"]


def test_inclusion_of_convolutions_without_a_perceptron() -> None:
    assert set(lenet_on(1_000, filters=(2, 3), hidden=()).inclusion.values()) == {1e-4}


def test_inclusion_of_the_theory_does_not_depend_on_what_is_bayesian() -> None:
    prior = SpikeSlab(Gaussian())
    whole = network(prior=prior, select_inputs=True).inclusion
    assert whole["inputs"] == whole["hidden1"] != whole["hidden2"]
    for choice in ("output", "bias"):
        part = network(prior=prior, select_inputs=True, bayesian=lambda name, _, c=choice: c in name)
        assert part.inclusion == whole


def test_inclusion_by_group() -> None:
    given = {"hidden1": 0.2, "hidden2": 0.4}
    assert network(prior=SpikeSlab(Gaussian(), inclusion=given)).inclusion == given
    assert network(prior=SpikeSlab(Gaussian(), inclusion=0.1)).inclusion == {"hidden1": 0.1, "hidden2": 0.1}


# ---- gates -----------------------------------------------------------------------------------------------------------


def drawn(model: SparseNetwork, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Slabs, and gates that are 0 or 1."""
    generator = torch.Generator().manual_seed(seed)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    gates = {name: (normal((group.size,)) > 0).double() for name, group in model.groups.items()}
    return {p.name: normal(p.shape) for p in model.bayesian}, gates


def test_prior_gives_the_parameters_with_gates_at_the_readers() -> None:
    model = network(select_inputs=True)
    trace = poutine.trace(model.prior).get_trace("ignored", y=None)
    value: dict[str, Any] = {name: site["value"] for name, site in trace.nodes.items() if site["type"] == "sample"}
    returned: Any = trace.nodes["_RETURN"]["value"]
    assert list(returned) == [name for name, _ in model.net.named_parameters()]
    torch.testing.assert_close(returned["hidden1.weight"], value["hidden1.weight"] * value["inputs.gate"])
    torch.testing.assert_close(returned["hidden2.weight"], value["hidden2.weight"] * value["hidden1.gate"])
    torch.testing.assert_close(returned["output.weight"], value["output.weight"] * value["hidden2.gate"])
    for bias in ("hidden1.bias", "hidden2.bias", "output.bias"):
        assert torch.equal(returned[bias], value[bias])


def test_a_gate_at_both_ends_multiplies_the_readers_alone() -> None:
    model = network("stream")
    weights, _ = drawn(model, 0)
    gate = torch.linspace(0.1, 0.9, 5, dtype=torch.float64)
    values = model.assemble(weights, {"stem": gate})
    torch.testing.assert_close(values["block.weight"], weights["block.weight"] * gate)
    assert torch.equal(values["stem.weight"], weights["stem.weight"])
    absent = model.assemble(weights, {"stem": gate}, absent=True)
    torch.testing.assert_close(absent["block.weight"], gate.unsqueeze(1) * weights["block.weight"] * gate)


def test_gates_of_a_concatenation_leave_the_rest_alone() -> None:
    model = network("concat")
    weights, _ = drawn(model, 0)
    gates = {"a": torch.arange(1.0, 5).double(), "b": torch.arange(5.0, 8).double()}
    factors = torch.tensor([1.0, 2, 3, 4, 1, 1, 1, 1, 1, 1, 5, 6, 7], dtype=torch.float64)
    torch.testing.assert_close(model.assemble(weights, gates)["head.weight"], weights["head.weight"] * factors)


@pytest.mark.parametrize("chosen", ["all", "weights"])
@pytest.mark.parametrize("name", NETS)
def test_absent_nodes_are_zero_and_change_no_output(name: str, chosen: str) -> None:
    bayesian = None if chosen == "all" else lambda name, parameter: name.endswith("weight")
    model = network(name, select_inputs=name not in INPUTS_STAY, bayesian=bayesian)
    weights, gates = drawn(model, seed=3)
    read, absent = model.assemble(weights, gates), model.assemble(weights, gates, absent=True)
    assert set(absent) >= {axis.parameter for group in model.groups.values() for axis in group.writers}
    torch.testing.assert_close(model.call_net(absent, inputs()), model.call_net(read, inputs()), rtol=0, atol=1e-12)
    for group_name, group in model.groups.items():
        for axis in (*group.writers, *group.readers):
            closed = axis.spread(gates[group_name]) == 0
            assert not absent[axis.parameter].movedim(axis.dim, 0)[closed].any()
    for parameter in model.bayesian:
        if not parameter.readers:
            assert torch.equal(read[parameter.name], weights[parameter.name])


def test_points_are_gated_where_they_read() -> None:
    model = network(bayesian=lambda name, _: name.startswith("output"))
    weights, gates = drawn(model, 0)
    values = model.assemble(weights, gates)
    start = model.net.get_parameter("hidden2.weight")
    assert torch.equal(values["hidden2.weight"], start * gates["hidden1"])
    given = model.assemble({**weights, "hidden2.weight": torch.ones(7, 8).double()}, gates)
    assert torch.equal(given["hidden2.weight"], gates["hidden1"].expand(7, 8))


# ---- the Pyro model --------------------------------------------------------------------------------------------------


def test_the_log_likelihood_of_a_batch_counts_for_all_rows() -> None:
    model = network(num_data=100)
    x, y = inputs()[:5], labels()[:5]
    trace = poutine.trace(model).get_trace(x, y)
    trace.compute_log_prob()
    site = trace.nodes["obs"]
    assert site["scale"] == 20 and site["is_observed"]
    values: dict[str, Any] = {n: s["value"] for n, s in trace.nodes.items() if s["type"] == "sample" and n != "obs"}
    parameters = model.assemble(values, {name: values[f"{name}.gate"] for name in model.groups})
    by_hand = torch.distributions.Categorical(logits=model.call_net(parameters, x)).log_prob(y)
    torch.testing.assert_close(site["log_prob_sum"], 20 * by_hand.sum())


def test_without_observations_they_are_sampled() -> None:
    model = network(num_data=5)
    nodes: Any = poutine.trace(model).get_trace(inputs()).nodes
    assert nodes["obs"]["value"].shape == (12,) and nodes["obs"]["scale"] == 1
    assert nodes["_RETURN"]["value"] is nodes["obs"]["value"]


def test_the_noise_is_a_latent_of_the_prior() -> None:
    model = network(mlp(6, (8, 7), 1).double(), likelihood=GaussianNoise())
    assert "noise_scale" in sites(model.prior) and "noise_scale" not in model.prior()


def test_predictive() -> None:
    model = network("normed")
    prior = Predictive(model, num_samples=3)(inputs())
    assert prior["obs"].shape == (3, 12) and prior["3.gate"].shape == (3, 1, 7)  # Pyro keeps the data plate's place
    posterior = Predictive(model, guide=AutoSpikeSlab(model.prior), num_samples=3)(inputs())
    assert posterior["obs"].shape == (3, 12)


@pytest.mark.parametrize("elbo", [TraceMeanField_ELBO, Trace_ELBO])
def test_svi_of_pyro(elbo: type[Any]) -> None:
    model = network("normed", prior=SpikeSlab(Gaussian(sigma=0.5), inclusion=0.3))
    guide = AutoSpikeSlab(model.prior)
    before = copy.deepcopy(model.net.state_dict())
    svi = SVI(model, guide, Adam({"lr": 0.02}), elbo())
    losses = [svi.step(inputs(), labels()) for _ in range(30)]
    assert sum(losses[-10:]) < sum(losses[:10]) - 100
    changed = {name for name, value in model.net.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.weight", "1.bias"}
    assert torch.equal(seeded(pickle.loads(pickle.dumps(model))), seeded(model))


def test_auto_normal_of_pyro() -> None:
    model = network(select_inputs=True)
    guide = AutoNormal(model.prior, init_loc_fn=initial_value)
    svi = SVI(model, guide, Adam({"lr": 0.02}), Trace_ELBO())
    losses = [svi.step(inputs(), labels()) for _ in range(20)]
    assert sum(losses[-5:]) < sum(losses[:5])
    pyro.clear_param_store()
    start = AutoNormal(model.prior, init_loc_fn=initial_value)
    start()
    assert torch.equal(start.median()["hidden1.weight"], model.net.get_parameter("hidden1.weight"))


def test_nuts_of_pyro() -> None:
    net = mlp(6, (2,), 3).double()
    model = network(net)
    kernel = NUTS(model, max_tree_depth=2)
    chain = MCMC(kernel, num_samples=5, warmup_steps=2, disable_progbar=True)
    chain.run(inputs(), labels())
    draws = chain.get_samples()
    assert draws["hidden1.gate"].shape == (5, 2) and 0 < draws["hidden1.gate"].min() <= draws["hidden1.gate"].max() < 1
    assert all(torch.isfinite(value).all() for value in draws.values())


def test_the_net_that_was_handed_in_is_left_alone() -> None:
    net = net_of("normed").train()
    net[4].eval()  # type: ignore[index]
    net.get_parameter("0.weight").requires_grad_(False)
    state, flags = copy.deepcopy(net.state_dict()), [p.requires_grad for p in net.parameters()]
    model = network(net)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    model(inputs(), labels())
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert [p.requires_grad for p in net.parameters()] == flags and all(p.grad is None for p in net.parameters())
    assert [m.training for m in net.modules()] == [True] * 5 + [False, True]
    assert [m.training for m in model.net.modules()] == [True] * 5 + [False, True]


def test_evaluation_mode_for_a_while() -> None:
    model = network("normed")
    model.net.get_submodule("4").eval()
    with pytest.raises(KeyError), model.evaluating():
        assert not any(module.training for module in model.net.modules())
        raise KeyError
    assert [m.training for m in model.net.modules()] == [True] * 5 + [False, True]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_draw_the_same_and_share_nothing(copied: Callable[[Any], Any]) -> None:
    model = network("concat")
    other = copied(model)
    expected = seeded(model)
    assert torch.equal(seeded(other), expected)
    for parameter in other.parameters():
        parameter.data.zero_()
    assert torch.equal(seeded(model), expected)


def seeded(model: SparseNetwork) -> Tensor:
    """Outputs for a draw of the prior."""
    torch.manual_seed(5)
    return model.call_net(model.prior(), inputs())


def test_dtype_of_the_net() -> None:
    model = network().float()
    assert all(value.dtype == torch.float32 for value in model.prior().values())
    assert network("concat").prior()["head.weight"].dtype == torch.float64


# ---- what bad input gets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_data": 0}, "num_data must be at least 1, got 0"),
        ({"bayesian": lambda name, parameter: False}, "bayesian must choose at least one parameter"),
        ({"exclude": ["hidden1", "hidden2"]}, "net must have a node that can be pruned"),
        ({"exclude": ["hidden9"]}, "exclude must be"),
        ({"prior": SpikeSlab(inclusion={"hidden1": 0.5})}, r"exactly the groups \['hidden1', 'hidden2'\], got"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_nothing_to_prune() -> None:
    with pytest.raises(ValueError, match="net must have a node that can be pruned .* give a bare slab"):
        network(nn.Linear(6, 3).double())


def test_rows_of_a_layer_must_agree() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.slope, self.other = (
                nn.Linear(6, 3),
                nn.Parameter(torch.ones(())),
                nn.Parameter(torch.ones(2)),
            )
            self.third = nn.Parameter(torch.ones(4))

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * self.slope  # type: ignore[no-any-return]

    with pytest.raises(ValueError, match=r"one row a node, alike in a layer; 'slope' has shape \(\)"):
        network(Odd().double(), prior=Gaussian(), bayesian=lambda name, _: name == "slope")
    with pytest.raises(ValueError, match=r"'third' has shape \(4,\) where others of 'net' have 2 rows"):
        network(Odd().double(), prior=Gaussian(), bayesian=lambda name, _: name in ("other", "third"))


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (inputs(12, 5), labels(), r"x must have shape \(batch, 6\) and a row, got \(12, 5\)"),
        (inputs()[:0], None, r"got \(0, 6\)"),
        (inputs()[0], None, r"got \(6,\)"),
        (inputs(), labels()[:3], r"y must have one entry a row of x \(12\), got shape \(3,\)"),
        (inputs(13), labels(13), r"num_data must be at least the batch \(13 rows\), got 12"),
    ],
)
def test_bad_data(x: Tensor, y: Tensor | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network()(x, y)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["concat", "stream"])
def test_on_a_gpu(name: str) -> None:
    on_gpu = SparseNetwork(
        net_of(name).cuda(),
        inputs().cuda(),
        prior=SpikeSlab(Gaussian()),
        likelihood=Categorical(),
        num_data=12,
    )
    for model in (on_gpu, network(name).cuda()):
        assert all(axis.index.is_cuda for group in model.groups.values() for axis in group.readers)
        assert model(inputs().cuda(), labels().cuda()).is_cuda
    on_cpu = on_gpu.cpu()
    assert not any(axis.index.is_cuda for group in on_cpu.groups.values() for axis in group.readers)
    assert on_cpu(inputs(), labels()).shape == (12,)


def test_a_net_that_is_given_some_of_the_features() -> None:
    """Its network takes all of them, and is what a posterior is fitted to, sampled and saved with."""
    small, reads = mlp(2, (4,), 3).double(), torch.tensor([1, 4])
    model = network(small, reads=reads)
    assert model.input_shape == (6,) and model.selection is not None and model.selection.tolist() == [1, 4]
    values = {p.name: small.get_parameter(p.name).detach() for p in model.bayesian}
    assert torch.equal(model.call_net(values, inputs()), small(inputs()[:, reads]))
    moved = inputs()
    moved[:, [0, 2, 3, 5]] += 3.0
    assert torch.equal(model.call_net(values, moved), model.call_net(values, inputs()))
    assert network(small, reads=reads, select_inputs=True).groups["inputs"].size == 2


@pytest.mark.parametrize(
    ("reads", "message"),
    [
        (torch.tensor([1, 6]), r"reads must have numbers of the 6 features, from 0, got \[1, 6\]"),
        (torch.tensor([-1, 1]), r"reads must have numbers of the 6 features, from 0, got \[-1, 1\]"),
        (torch.tensor([1, 1]), "reads must have at least one whole number, and none twice"),
        (torch.tensor([], dtype=torch.int64), "reads must have at least one whole number, and none twice"),
        (torch.tensor([0.0, 1.0]), "reads must have at least one whole number, and none twice"),
    ],
)
def test_features_that_are_none_are_refused(reads: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(mlp(2, (4,), 3), reads=reads)


def test_features_need_a_net_that_takes_them() -> None:
    with pytest.raises(TypeError, match="reads must be a Tensor"):
        network(mlp(2, (4,), 3), reads=[0, 1])
    with pytest.raises(ValueError, match="reads must be None for a net whose inputs are no features"):
        given: Any = {"prior": SpikeSlab(Gaussian()), "likelihood": Categorical(), "num_data": 9}
        SparseNetwork(lenet(), torch.zeros(2, 1, 28, 28), **given, reads=torch.tensor([0, 1]))
