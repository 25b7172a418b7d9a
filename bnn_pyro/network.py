"""SparseNetwork: a plain network, its nodes, a prior and a likelihood, callable as a Pyro model."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pyro
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from bnn_pyro.arguments import check_flags, check_methods, check_type, check_whole
from bnn_pyro.frozen import frozen_modules, train_others
from bnn_pyro.gated_parameters import BayesianParameter, gate_site, layer_of, layer_sizes, multiplied, readings_of
from bnn_pyro.input_layout import InputLayout, Inputs, output_of
from bnn_pyro.likelihoods import Likelihood
from bnn_pyro.nodes import NodeGroup, Nodes, find_nodes
from bnn_pyro.priors.gates import gate, inclusion_probability
from bnn_pyro.priors.slab import Slab, slab
from bnn_pyro.priors.spike_slab import SpikeSlab

_LAYERS = (nn.Linear, _ConvNd, _BatchNorm, nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)
_CONVOLUTION_INCLUSION = 1e-4  # the authors' constant for residual nets, which have no perceptron behind them


class SparseNetwork(nn.Module):
    r"""A Bayesian network as a Pyro model.

    .. math::
        z_g \sim \mathrm{RelaxedBernoulli}(T, \lambda_g), \qquad w_{lj} \sim N(0, r_{lj}^2 I), \qquad
        y \mid x \sim p(y \mid f(x; z \odot w)).

    Gates multiply once, at the columns that read a node. The user's net is copied, never changed; its parameters are
    where the guides start, so a trained net is a warm start. Parameters that are not Bayesian keep their values and are
    trained as points (where they require grad).

    Where the prior takes the theory's inclusion probabilities, each group of hidden nodes gets the one of a perceptron
    with as many nodes in its hidden layers, and the inputs that of the first hidden layer (1/2 where there is none).
    The theory does not know convolutions: the first takes that of the first hidden layer of the perceptron behind them,
    the second that of the second, and so on, the last one for all further ones; 1e-4 where there is no hidden layer.

    Args:
        net: Any plain module. It returns a tensor, or a dictionary or object with ``logits`` or ``out``.
        example_input: A batch of one or more rows: a tensor, shape ``(batch, ...)``; a tuple of tensors, the positional
            arguments of the net; or a dictionary, its keyword arguments. Whole numbers may be token ids.
        prior: A :class:`~bnn_pyro.priors.SpikeSlab`, or a bare slab for a network without gates.
        likelihood: How outputs give observations.
        num_data: Number of training rows N (after the validation split); the log-likelihood of a batch is scaled by
            N / batch.
        select_inputs: Whether the net's inputs get gates too, if the prior has a spike.
        reads: Numbers of the input features that the net is given, shape ``(read,)``, where it is not given all of
            those in ``example_input``, whose last dimension they are of; None for all.
        exclude: Names of layers whose nodes get no gate.
        bayesian: (name, parameter) -> whether it gets a slab; by default the weights and biases of all ``Linear``
            layers, convolutions, BatchNorms, ``MultiheadAttention`` and recurrent layers, whose rows are those of
            their gates. Those of transposed convolutions stay points, as their weights do not have one row a node, and
            so do the projections of an LSTM; and those that do not require grad, such as a pretrained body's, unless
            none of them does.

    Raises:
        ValueError: If ``prior`` or ``likelihood`` lacks a method; if nothing is Bayesian, or parameters of one layer
            differ in their number of rows; if the prior has a spike and there is nothing to prune; if ``inclusion``
            does not name the groups; if ``reads`` has no number, one twice, or one of no feature; if ``num_data`` is
            below 1; or if :func:`~bnn_pyro.nodes.find_nodes` refuses the net, the example or an excluded name.
    """

    def __init__(
        self,
        net: nn.Module,
        example_input: Inputs,
        *,
        prior: SpikeSlab | Slab,
        likelihood: Likelihood,
        num_data: int,
        select_inputs: bool = False,
        reads: Tensor | None = None,
        exclude: Sequence[str] = (),
        bayesian: Callable[[str, nn.Parameter], bool] | None = None,
    ) -> None:
        super().__init__()
        check_type("net", net, nn.Module)
        check_whole("num_data", num_data)
        check_flags({"select_inputs": select_inputs})
        check_methods("likelihood", likelihood, "prior", "distribution", "check", "predict")
        self.spike = prior if isinstance(prior, SpikeSlab) else None
        self.slab: Slab = prior.slab if isinstance(prior, SpikeSlab) else prior
        check_methods("prior", self.slab, "shared", "scale")
        self.likelihood, self.num_data = likelihood, num_data
        self.layout = InputLayout.of("example_input", example_input, net)
        given = example_input if reads is None else _features(self.layout, example_input, reads)
        found = find_nodes(net, given, inputs=select_inputs, exclude=exclude)
        nodes = found if self.spike is not None else Nodes((), found.dense)
        if self.spike is not None and not nodes.groups:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in nodes.dense.items())
            raise ValueError(
                f"net must have a node that can be pruned for a spike-and-slab prior, got none ({reasons}); "
                "give a bare slab as the prior instead"
            )
        self.net = copy.deepcopy(net)
        for parameter in self.net.parameters():
            parameter.data = parameter.data.contiguous()  # Pyro's store would hold, and train, a copy of any other
        self.selection: Tensor | None
        self.register_buffer(
            "selection", None if reads is None else reads.to(next(self.net.parameters()).device, copy=True)
        )
        choice = bayesian or _has_rows(net)
        self.frozen = frozen_modules(net, [name for name, p in self.net.named_parameters() if choice(name, p)])
        self._build(nodes, choice)

    def _build(self, nodes: Nodes, bayesian: Callable[[str, nn.Parameter], bool]) -> None:
        """Works out which parameters have slabs and which gates stand where."""
        chosen = {n: p for n, p in self.net.named_parameters() if bayesian(n, p)}
        if not chosen:
            raise ValueError("bayesian must choose at least one parameter of net, got none")
        for parameter in chosen.values():
            parameter.requires_grad_(False)
        self._place_gates(nodes, tuple(chosen))
        self.layers = layer_sizes(self.bayesian)
        self.inclusion = self._inclusion()

    def _place_gates(self, nodes: Nodes, bayesian: Sequence[str]) -> None:
        """Notes which gates stand at which end of which parameter."""
        self.nodes = nodes
        self.groups: dict[str, NodeGroup] = {g.name: g for g in nodes.groups}
        shapes = {n: tuple(p.shape) for n, p in self.net.named_parameters()}
        writers, readers = (readings_of(nodes.groups, side, shapes) for side in ("writers", "readers"))
        self.bayesian = tuple(
            BayesianParameter(n, layer_of(n), shapes[n], writers.get(n, ()), readers.get(n, ())) for n in bayesian
        )
        self.point_readers = {n: r for n, r in readers.items() if n not in bayesian}
        self.point_writers = {n: r for n, r in writers.items() if n not in bayesian}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, as one tensor; that of several is their number of numbers, ``(numbers,)``."""
        return self.layout.shape

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "SparseNetwork":
        """Takes the nodes' numbers along when the network is moved to another device."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        groups = tuple(_moved(group, self._like.device) for group in self.nodes.groups)
        self._place_gates(Nodes(groups, self.nodes.dense), [p.name for p in self.bayesian])
        self.layout = self.layout.to(self._like.dtype)
        return self

    def __getstate__(self) -> dict[str, object]:
        for parameter in self.parameters():
            parameter.__dict__.pop("unconstrained", None)  # by which Pyro's store refers to a point, weakly
        return self.__dict__.copy()

    def replaced(self, net: nn.Module, nodes: Nodes, selection: Tensor | None) -> "SparseNetwork":
        """Returns a copy with another net, as left by removing nodes: the prior of what is left stays the same.

        Inclusion probabilities, and the number of weights a node that a slab is told, are those of the whole network.

        Args:
            net: The smaller net, with parameters of the same names.
            nodes: Its nodes, groups of the same names.
            selection: Numbers of the inputs that the smaller net reads, shape ``(kept,)``; None for all.

        Returns:
            The smaller network; it still takes all inputs.
        """
        new = copy.deepcopy(self)
        new.net, new.selection = net, selection
        names = {p.name for p in self.bayesian}
        new._build(nodes, lambda name, parameter: name in names)
        new.inclusion = dict(self.inclusion)
        new.layers = {name: (size, self.layers[name][1]) for name, (size, _) in new.layers.items()}
        return new

    def _inclusion(self) -> dict[str, float]:
        """Returns the prior inclusion probability of each group."""
        if self.spike is None:
            return {}
        given = self.spike.inclusion
        if isinstance(given, Mapping):
            if set(given) != set(self.groups):
                raise ValueError(f"inclusion must name exactly the groups {sorted(self.groups)}, got {sorted(given)}")
            return dict(given)
        if given is not None:
            return dict.fromkeys(self.groups, given)
        hidden = [group for group in self.groups.values() if group.writers]
        linear = [group for group in hidden if isinstance(self.net.get_submodule(group.name), nn.Linear)]
        theory = self._theory([group.size for group in linear])
        named = dict(zip((group.name for group in linear), theory, strict=False))
        others = [group.name for group in hidden if group.name not in named]
        for i, name in enumerate(others):
            named[name] = theory[min(i, len(theory) - 1)] if theory else _CONVOLUTION_INCLUSION
        return {name: named.get(name, theory[0] if theory else 0.5) for name in self.groups}

    def _theory(self, hidden: Sequence[int]) -> tuple[float, ...]:
        """Returns the theory's inclusion probability of each hidden layer of a perceptron of these widths."""
        layers = [module for module in self.net.modules() if isinstance(module, nn.Linear)]
        if not hidden:
            return ()
        return inclusion_probability([layers[0].in_features, *hidden, layers[-1].out_features], self.num_data)

    def prior(self, *args: object, **kwargs: object) -> dict[str, Tensor]:
        """Samples the network's parameters from the prior: the program of all latent sites, without data.

        Args:
            *args: Ignored, so that guides can be called with the model's arguments.
            **kwargs: Ignored.

        Returns:
            Parameter name -> tensor, gates multiplied in at the readers.
        """
        return self._program({})[0]

    def _program(self, points: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
        gates = {} if self.spike is None else {n: self._gate(g, self.spike) for n, g in self.groups.items()}
        values = self.assemble({**points, **dict(self._slabs())}, gates)
        return {**points, **values}, self.likelihood.prior(like=self._like)

    def _gate(self, group: NodeGroup, spike: SpikeSlab) -> Tensor:
        like = self._like
        inclusion = torch.full((), self.inclusion[group.name], dtype=like.dtype, device=like.device)
        return gate(gate_site(group.name), inclusion, size=group.size, temperature=spike.temperature)

    def _slabs(self) -> Iterator[tuple[str, Tensor]]:
        like = self._like
        shared = self.slab.shared(list(self.layers.values()), like)
        scales: dict[str, Tensor] = {}
        for parameter in self.bayesian:
            if parameter.layer not in scales:
                size, group_size = self.layers[parameter.layer]
                scales[parameter.layer] = self.slab.scale(parameter.layer, size, group_size, shared, like)
            start, hints = self.net.get_parameter(parameter.name), parameter.hints() or None
            name, scale = parameter.name, scales[parameter.layer]
            yield name, slab(name, parameter.shape, scale=scale, gates=hints, init=start)

    @property
    def _like(self) -> Tensor:
        return self.net.get_parameter(self.bayesian[0].name)

    def assemble(
        self, weights: Mapping[str, Tensor], gates: Mapping[str, Tensor], *, absent: bool = False
    ) -> dict[str, Tensor]:
        """Multiplies gates into parameters: once, at the readers; with ``absent`` at the output side too.

        Args:
            weights: Bayesian parameter -> slab. A point, if given, is used instead of the net's own.
            gates: Group -> gates, shape ``(size,)``.
            absent: Whether the rows and biases of closed nodes become 0 as well, for gates that are frozen at 0 or 1.

        Returns:
            Parameter name -> tensor to call the net with: Bayesian parameters, and the points that gates multiply.
        """
        values: dict[str, Tensor] = {}
        for p in self.bayesian:
            values[p.name] = multiplied(weights[p.name], (*p.readers, *(p.writers if absent else ())), gates)
        for side in (self.point_readers, self.point_writers) if absent else (self.point_readers,):
            for name, readings in side.items():
                point = values.get(name, weights.get(name, self.net.get_parameter(name)))
                values[name] = multiplied(point, readings, gates)
        return values

    def call_net(self, values: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Calls the net with sampled parameters.

        Args:
            values: Parameter name -> tensor.
            x: Inputs as one tensor, shape ``(batch, *input_shape)``.

        Returns:
            The net's output.
        """
        x = x if self.selection is None else x.index_select(-1, self.selection)
        positional, named = self.layout.arguments(x)
        return output_of(functional_call(self.net, dict(values), positional, named))

    def train_net(self) -> None:
        """Puts the net in training mode, but for modules that were frozen in evaluation mode when it was given."""
        train_others(self.net, self.frozen)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Holds the net in evaluation mode: no dropout, and statistics of batches stay as they are."""
        training = [module for module in self.net.modules() if module.training]
        self.net.eval()
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def forward(self, x: Inputs, y: Tensor | None = None) -> Tensor:
        """The Pyro model: samples the prior, calls the net, observes y.

        Args:
            x: Inputs in the form of the example input, or as one tensor of shape ``(batch, *input_shape)``.
            y: Observations, shape ``(batch, ...)``; None samples them.

        Returns:
            The observations.

        Raises:
            ValueError: If the batch is empty, larger than ``num_data`` while y is given, or of another shape than the
                example input.
        """
        x = self.layout.pack("x", x, check=False)
        rows = self._check(x, y)
        points = {n: pyro.param(f"net.{n}", p) for n, p in self.net.named_parameters() if p.requires_grad}
        values, latent = self._program(points)
        output, size = self.call_net(values, x), rows if y is None else self.num_data
        with pyro.plate("data", size, subsample=torch.arange(rows, device=x.device)):
            observed: Tensor = pyro.sample("obs", self.likelihood.distribution(output, latent), obs=y)
        return observed

    def _check(self, x: Tensor, y: Tensor | None) -> int:
        if tuple(x.shape[1:]) != self.input_shape or not len(x):
            wanted = ", ".join(map(str, self.input_shape))
            raise ValueError(f"x must have shape (batch, {wanted}) and a row, got {tuple(x.shape)}")
        if y is not None and y.shape[:1] != x.shape[:1]:
            raise ValueError(f"y must have one entry a row of x ({len(x)}), got shape {tuple(y.shape)}")
        if y is not None and len(x) > self.num_data:
            raise ValueError(f"num_data must be at least the batch ({len(x)} rows), got {self.num_data}")
        return len(x)


def _features(layout: InputLayout, example: Inputs, reads: Tensor) -> Tensor:
    """Returns the features of an example that a net is given."""
    if not layout.are_features or not isinstance(example, Tensor):
        raise ValueError(f"reads must be None for a net whose inputs are no features, got inputs of {layout}")
    check_features(reads, example.shape[-1])
    return example.index_select(-1, reads.to(example.device))


def check_features(reads: Tensor, count: int) -> None:
    """Check numbers of input features.

    Args:
        reads: The numbers, int64, shape ``(read,)``.
        count: How many features there are.

    Raises:
        TypeError: If it is no tensor.
        ValueError: If it has another dtype or shape, no number, one twice, or one that is of no feature.
    """
    check_type("reads", reads, Tensor)
    if reads.dtype != torch.int64 or reads.ndim != 1 or not 0 < len(reads) == len(reads.unique()):
        raise ValueError(f"reads must have at least one whole number, and none twice, got {reads}")
    if not 0 <= int(reads.min()) <= int(reads.max()) < count:
        raise ValueError(f"reads must have numbers of the {count} features, from 0, got {reads.tolist()}")


def _has_rows(net: nn.Module) -> Callable[[str, nn.Parameter], bool]:
    """Returns the choice of the layers whose parameters have one row a node, without those that are frozen."""
    layers = [(name, module) for name, module in net.named_modules() if isinstance(module, _LAYERS)]
    chosen = [(name, module) for name, module in layers if not isinstance(module, _ConvTransposeNd)]
    leaves = ("weight", "bias", "in_proj_weight", "in_proj_bias")
    recurrent = tuple(f"{part}_{side}" for part in ("weight", "bias") for side in ("ih", "hh"))
    names = {f"{name}.{leaf}".removeprefix(".") for name, _ in chosen for leaf in leaves}
    names |= {
        f"{name}.{leaf}".removeprefix(".")
        for name, module in chosen
        if isinstance(module, nn.RNNBase | nn.RNNCellBase)
        for leaf, _ in module.named_parameters(recurse=False)
        if leaf.startswith(recurrent)
    }
    trained = {name for name, parameter in net.named_parameters() if name in names and parameter.requires_grad}
    kept = trained or names
    return lambda name, parameter: name in kept


def _moved(group: NodeGroup, device: torch.device) -> NodeGroup:
    sides = (group.writers, group.readers, group.buffers)
    moved = [tuple(replace(axis, index=axis.index.to(device)) for axis in side) for side in sides]
    return replace(group, writers=moved[0], readers=moved[1], buffers=moved[2])
