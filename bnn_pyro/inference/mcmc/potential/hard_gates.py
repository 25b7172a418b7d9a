"""A spike-and-slab model with gates that are 0 or 1, in coordinates that a sampler of exact spikes moves in."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pyro
import torch
from pyro import poutine
from pyro.distributions import Delta, Normal, RelaxedBernoulli
from pyro.distributions.torch_distribution import TorchDistribution
from pyro.infer.reparam.reparam import Reparam, ReparamMessage, ReparamResult
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid

from bnn_pyro.inference.mcmc.potential.noncentered import DECENTERED, LOGIT, Message
from guides.sites import GateHint, base_distribution, gate_product

Hints = Mapping[str, GateHint | list[GateHint]]


class Sign(TorchDistribution):
    r"""A number whose sign says whether a gate is open, :math:`P(x = 1) = \sigma(\ell)` and else x = -1.

    It stands among the real coordinates of a sampler that never moves it but by ``x = -x``; the log-mass depends on the
    sign alone, so its slope is 0.

    Args:
        logits: Log-odds :math:`\ell` of an open gate, shape ``(*batch,)``.
        validate_args: As in every distribution.
    """

    arg_constraints = {"logits": constraints.real}
    support = constraints.real

    def __init__(self, logits: Tensor, *, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: object = None) -> "Sign":
        return Sign(self.logits.expand(Size(batch_shape)), validate_args=False)

    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        logits = self.logits.expand(self._extended_shape(Size(sample_shape)))
        opened = torch.rand_like(logits) < torch.sigmoid(logits)
        return torch.where(opened, torch.ones_like(logits), -torch.ones_like(logits))

    def log_prob(self, value: Tensor) -> Tensor:
        return torch.where(value > 0, logsigmoid(self.logits), logsigmoid(-self.logits))


class HardGates:
    r"""The true spike-and-slab model that a model of relaxed gates stands for, with non-centred slabs.

    A gate ``z`` becomes 1 where its coordinate ``z_logit`` is positive, and 0 elsewhere (:class:`Sign`). A Normal ``w``
    becomes :math:`m + r u` with ``w_decentered`` = u, standard normal where all gates are open that multiply it by its
    ``infer={"gates": ...}``, and without a density where one is closed: there the likelihood does not see it, and a
    pseudo-prior takes its place. What the model's log joint density is then, is

    .. math:: \log p(y \mid z, u, s) + \log p(s) + \log p(z) + \sum_{i \text{ open}} \log N(u_i; 0, 1).

    Args:
        model: A Pyro model whose gates are relaxed Bernoullis, drawn before the slabs that name them.

    Attributes:
        slabs: Slab site -> the gates that multiply it; filled whenever the model runs.
        auxiliary: The sites that stand for gates and slabs; filled likewise.
    """

    def __init__(self, model: Callable[..., object]) -> None:
        self.model = model
        self.slabs: dict[str, Hints] = {}
        self.auxiliary: set[str] = set()

    def __call__(self, *args: object, **kwargs: object) -> object:
        gates: dict[str, Tensor] = {}

        def reparam_of(site: Message) -> Reparam | None:
            if site["is_observed"] or site["name"].endswith(DECENTERED):
                return None
            base = base_distribution(site["fn"])
            if isinstance(base, RelaxedBernoulli):
                self.auxiliary.add(f"{site['name']}{LOGIT}")
                return _GateReparam(gates)
            hints = site["infer"].get("gates", {})
            if isinstance(base, Normal):
                self.slabs[site["name"]] = hints
                self.auxiliary.add(f"{site['name']}{DECENTERED}")
                return _SlabReparam(hints, gates)
            if hints:
                raise ValueError(f"a slab with gates must be Normal, got {type(base).__name__} at {site['name']!r}")
            return None

        with poutine.reparam(config=reparam_of):
            return self.model(*args, **kwargs)


class _GateReparam(Reparam):
    """Puts the sign of a coordinate in place of a gate, and notes the gate for the slabs that it multiplies."""

    def __init__(self, gates: dict[str, Tensor]) -> None:
        self.gates = gates

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        gate, event_dim = self._unwrap(msg["fn"])  # type: ignore[no-untyped-call]
        given = None if msg["value"] is None else 2 * msg["value"] - 1
        sign = self._wrap(Sign(gate.logits), event_dim)  # type: ignore[no-untyped-call]
        x = pyro.sample(f"{msg['name']}{LOGIT}", sign, obs=given, infer={"is_observed": False})
        value = self.gates[msg["name"]] = (x > 0).to(gate.logits.dtype)
        return {"fn": Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}


class _SlabReparam(Reparam):
    """Non-centres a slab and takes the density from its closed entries."""

    def __init__(self, hints: Hints, gates: Mapping[str, Tensor]) -> None:
        self.hints, self.gates = hints, gates

    def apply(self, msg: ReparamMessage) -> ReparamResult:
        normal, event_dim = self._unwrap(msg["fn"])  # type: ignore[no-untyped-call]
        is_open = gate_product(self.hints, self.gates, cast(Distribution, msg["fn"]))
        unit = Normal(torch.zeros_like(normal.loc), torch.ones_like(normal.scale))
        if is_open is not None:
            unit = unit.mask(is_open.expand(unit.batch_shape) > 0)
        unit = self._wrap(unit, event_dim)  # type: ignore[no-untyped-call]
        given = None if msg["value"] is None else (msg["value"] - normal.loc) / normal.scale
        u = pyro.sample(f"{msg['name']}{DECENTERED}", unit, obs=given, infer={"is_observed": False})
        value = normal.loc + normal.scale * u if msg["value"] is None else msg["value"]
        return {"fn": Delta(value, event_dim=event_dim).mask(False), "value": value, "is_observed": True}
