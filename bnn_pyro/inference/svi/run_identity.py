"""What tells a run of ``fit`` from another: by it a checkpoint is known to be of this run and of no other."""

from collections.abc import Iterator, Mapping

import torch
from pyro.infer import ELBO
from pyro.infer.autoguide import AutoGuide
from torch import Tensor

from bnn_pyro.devices import with_double
from bnn_pyro.identity import Identity, described, digest, network_identity
from bnn_pyro.network import SparseNetwork
from guides import AutoProgram

START = "the weights at the start"
_ROWS = 4  # that the net is called with
_TOLERANCE = 1e-2  # relative to the largest entry: devices differ in rounding, and other functions by more than that
_SET_BY_A_RUN = {"training", "gate_mode", "kl_weight", "master", "_reading", "_switch"}  # attributes

Rows = tuple[Tensor, Tensor]


def run_identity(model: SparseNetwork, guide: AutoGuide, train: Rows, held_out: Rows | None, elbo: ELBO) -> Identity:
    """Return what a run depends on as plain values by name: its data, network, guide and bound.

    Args:
        model: The network at the beginning of the run.
        guide: Its guide, likewise.
        train: Training inputs and observations.
        held_out: Those to validate on, or None.
        elbo: The bound.
    """
    found: Identity = {}
    for name, rows in {"data": train, "validation": held_out}.items():
        found[name] = None if rows is None else f"{len(rows[0])} rows"
        for part, tensor in zip("xy", rows or (), strict=False):
            found |= described(f"{name}.{part}", tensor)
    found |= network_identity(model)
    fixed = dict(_fixed(model))
    found |= {"network.fixed": list(fixed), "network.fixed.content": digest(list(fixed.values()))}
    for name, part in guide.named_modules():
        if isinstance(part, AutoGuide):
            found |= _options(f"guide.{name}" if name else "guide", part)
    if isinstance(guide, AutoProgram):
        found["guide.temperature"] = float(guide.temperature)
    return found | _options("elbo", elbo)


def _options(name: str, value: object) -> Identity:
    """Return the class of an object, and those of its attributes that are plain values."""
    plain = {
        key: part for key, part in vars(value).items() if part is None or isinstance(part, bool | int | float | str)
    }
    kept = {key: part for key, part in plain.items() if key not in _SET_BY_A_RUN and not key.startswith("_pyro")}
    return {name: type(value).__qualname__, **{f"{name}.{key.removeprefix('_')}": part for key, part in kept.items()}}


def _fixed(model: SparseNetwork) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the net that a run leaves as they are: frozen points, and buffers that are no statistics."""
    bayesian = {parameter.name for parameter in model.bayesian}
    for name, parameter in model.net.named_parameters():
        if not parameter.requires_grad and name not in bayesian:
            yield name, parameter
    for prefix, module in model.net.named_modules():
        if not hasattr(module, "track_running_stats"):
            for name, buffer in module.named_buffers(prefix, recurse=False):
                yield name, buffer


def probe(model: SparseNetwork, guide: AutoGuide, x: Tensor) -> dict[str, Tensor]:
    """Return numbers by which functions and starting points are compared, that no name tells apart.

    They are the net's outputs with weights that are always the same, the guide's gates, and the mean and the root mean
    square of each parameter. Global random states stay as they are.

    Args:
        model: The network at the beginning of the run.
        guide: Its guide, likewise.
        x: Training inputs, on any device.

    Returns:
        Name -> numbers, in float64 on the CPU.
    """
    found = {}
    with torch.no_grad():
        try:
            found["network.outputs"] = _outputs(model, x[:_ROWS].to(next(model.net.parameters()).device))
        except Exception:  # noqa: BLE001, S110  (a net may refuse weights that it was not made for)
            pass
        if isinstance(guide, AutoProgram) and (gates := guide.parameter_groups().get("gates")):
            found["guide.gates"] = torch.cat([parameter.reshape(-1) for parameter in gates])
        trained = [p for p in (*model.parameters(), *guide.parameters()) if p.numel()]
        found[START] = torch.stack(
            [torch.stack([p.mean(), p.square().mean().sqrt()]) for p in (with_double(p).double() for p in trained)]
        )
        return {name: with_double(numbers.detach()).double().cpu().clone() for name, numbers in found.items()}


def _outputs(model: SparseNetwork, x: Tensor) -> Tensor:
    """Return the net's outputs with weights from a generator, and its BatchNorms without statistics."""
    generator = torch.Generator("cpu").manual_seed(0)
    fixed = dict(_fixed(model))
    values: dict[str, Tensor] = {}
    for name, parameter in model.net.named_parameters():
        if name not in fixed:
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64, device="cpu")
            values[name] = (drawn / max(1, parameter[:1].numel()) ** 0.5 if parameter.dim() > 1 else drawn).to(
                parameter
            )
    for name, buffer in model.net.named_buffers():
        if name not in fixed and buffer.is_floating_point():
            values[name] = torch.full_like(buffer, float(name.endswith("running_var")))
    with torch.random.fork_rng([x.device] if x.is_cuda else []), model.evaluating():
        torch.manual_seed(0)
        return model.call_net(values, x)


def unlike(there: Mapping[str, Tensor], here: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the numbers that are others than those of a file.

    Args:
        there: What `probe` found when the file was begun; what it lacks is not compared.
        here: What it finds now.
    """
    return [name for name, numbers in there.items() if name in here and not _is_close(numbers, here[name])]


def _is_close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    finite = one[one.isfinite()]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return torch.allclose(one, other, rtol=_TOLERANCE, atol=_TOLERANCE * largest, equal_nan=True)
