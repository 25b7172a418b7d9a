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
from bnn_pyro.networks import mlp, residual_mlp
from bnn_pyro.priors import Gaussian, GroupHorseshoe, GroupLasso, SpikeSlab
from guides import AutoSpikeSlab, initial_value


class Stream(nn.Module):
    """A residual block of one layer, so that one group of nodes stands at both ends of its weight."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block, self.head = nn.Linear(6, 5), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Add the block's output to the stem's."""
        h = self.stem(x)
        return self.head((h + self.block(h.sigmoid())).sigmoid())  # type: ignore[no-any-return]


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


NETS: dict[str, Callable[[], nn.Module]] = {
    "mlp": lambda: mlp(6, (8, 7), 3),
    "no bias": lambda: mlp(6, (8, 7), 3, activation=nn.Sigmoid, bias=False),
    "residual": lambda: residual_mlp(6, 5, 2, 3, block_width=4, activation=nn.Sigmoid),
    "stream": Stream,
    "concat": Concat,
    "normed": normed,
}
"""Nets that read 6 inputs and give 3 outputs; every activation but SiLU's is not 0 at 0."""


def net_of(name: str, seed: int = 0) -> nn.Module:
    """A float64 net of the table, with parameters that are nowhere 0 or 1."""
    net = NETS[name]().double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
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


@pytest.mark.parametrize("chosen", ["Linear layers", "weights"])
@pytest.mark.parametrize("name", NETS)
def test_absent_nodes_are_zero_and_change_no_output(name: str, chosen: str) -> None:
    bayesian = None if chosen == "Linear layers" else lambda name, parameter: name.endswith("weight")
    model = network(name, select_inputs=name != "concat", bayesian=bayesian)
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
