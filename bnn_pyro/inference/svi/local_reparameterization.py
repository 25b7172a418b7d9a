"""Local reparameterisation: draw a layer's outputs instead of its weights."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from pyro.poutine.messenger import Messenger
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional
from torch.utils._pytree import tree_map

from guides import GatedNormal, NonCenteredNormal
from guides.sites import Site, base_distribution, is_subsample


class LocalNormal(Tensor):
    r"""A weight that is a Normal, not yet drawn.

    Multiplied by a tensor it stays one, :math:`N(\mu g, \sigma^2 g^2)`. Read by ``linear`` or a convolution it gives
    one draw an output,

    .. math:: y_b \sim N(x_b \mu^\top + v, x_b^2 (\sigma^2)^\top),

    which has the same marginals as a draw of the weights for every row, less variance in the gradient, and no noise a
    weight. Read by anything else it is drawn first. Where an example has one row, as in a perceptron, the bound's
    estimate is exact in expectation. Where it has many (the positions of a convolution, the tokens of a sequence) they
    would share the weights, but get noise of their own: an approximation, which a weight that is ``exact`` avoids by
    being drawn.

    A matrix is held as :math:`w_{ij} = c_j (m + r_i (\mu_{ij} + \sigma_{ij}\varepsilon_{ij}))`, so that factors a row
    or a column (a node's scale, its gate) multiply the layer's outputs and inputs instead of its weights.

    Source: Kingma, Salimans, Welling (2015), *Variational dropout and the local reparameterization trick*.
    """

    loc: Tensor
    sd: Tensor
    shift: Tensor | None
    row: Tensor | None
    column: Tensor | None
    noise: list[Tensor]
    exact: bool

    @staticmethod
    def of(
        loc: Tensor,
        sd: Tensor,
        *,
        exact: bool = False,
        shift: Tensor | None = None,
        row: Tensor | None = None,
        column: Tensor | None = None,
    ) -> "LocalNormal":
        """Makes one from means and standard deviations; a matrix ``(out, in)`` may have a shift and factors too.

        Args:
            loc: Means, shape ``(out, in, ...)``.
            sd: Standard deviations, of the same shape.
            exact: Whether it is drawn where an example has several rows.
            shift: m, a scalar.
            row: r, shape ``(out,)``.
            column: c, shape ``(in,)``.
        """
        weight: LocalNormal = torch.Tensor._make_subclass(LocalNormal, loc.detach())
        weight.loc, weight.sd, weight.shift, weight.row, weight.column = loc, sd, shift, row, column
        weight.noise, weight.exact = [], exact
        return weight

    @staticmethod
    def of_posterior(posterior: GatedNormal | Normal, *, exact: bool = False) -> "LocalNormal":
        """Makes one from a slab's posterior, in units of its prior where that has one mean and one scale a row."""
        if isinstance(posterior, NonCenteredNormal) and posterior.unit_loc.dim() == 2:
            mean, scale = posterior.prior_loc, posterior.prior_scale
            if not any(mean.stride()) and scale.dim() == 2 and scale.stride(-1) == 0:
                shift = mean.flatten()[0]
                loc, sd = posterior.unit_loc, posterior.unit_scale
                return LocalNormal.of(loc, sd, exact=exact, shift=shift, row=scale[:, 0])
        return LocalNormal.of(posterior.loc, posterior.scale, exact=exact)

    def times(self, factor: Tensor) -> "LocalNormal":
        """Returns the product with a tensor that broadcasts to the weight's shape; both have the same draw."""
        factor = factor.to(self.loc)  # as for scalars, whose dtype does not change a tensor's
        if self.loc.dim() == 2 and factor.numel() == [1, *factor.shape][-1]:
            column = factor.flatten() if self.column is None else self.column * factor.flatten()
            product = LocalNormal.of(self.loc, self.sd, exact=self.exact, shift=self.shift, row=self.row, column=column)
        else:
            product = LocalNormal.of(self.mean_weight() * factor, self.sd_weight() * factor, exact=self.exact)
        product.noise = self.noise
        return product

    def mean_weight(self) -> Tensor:
        """Returns the mean of each weight."""
        mean = self._scaled(self.loc)
        if self.shift is None:
            return mean
        return mean + (self.shift if self.column is None else self.shift * self.column)

    def sd_weight(self) -> Tensor:
        """Returns the standard deviation of each weight."""
        return self._scaled(self.sd)

    def _scaled(self, value: Tensor) -> Tensor:
        value = value if self.row is None else value * self.row.unsqueeze(-1)
        return value if self.column is None else value * self.column

    def draw(self) -> Tensor:
        """Returns the weight itself, drawn at the first reading."""
        if not self.noise:
            self.noise.append(torch.randn_like(self.loc))
        return torch.addcmul(self.mean_weight(), self.sd_weight(), self.noise[0])

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func in _METADATA:
            with torch._C.DisableTorchFunctionSubclass():
                return func(*args, **kwargs)
        if func in _PRODUCTS and not all(isinstance(a, LocalNormal) for a in args[:2]):
            weight, factor = (args[0], args[1]) if isinstance(args[0], LocalNormal) else (args[1], args[0])
            factor = torch.as_tensor(factor)
            if torch.broadcast_shapes(factor.shape, weight.loc.shape) == weight.loc.shape:
                return weight.times(factor)
        if func is functional.linear and _is_local(*args, **kwargs):
            return _linear(*args, **kwargs)
        if func in _CONVOLUTIONS and _is_local(*args, **kwargs):
            return _convolution(func, *args, **kwargs)
        args, kwargs = tree_map(lambda a: a.draw() if isinstance(a, LocalNormal) else a, (tuple(args), dict(kwargs)))
        return func(*args, **kwargs)


_PRODUCTS = {torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__}
_CONVOLUTIONS = {functional.conv1d, functional.conv2d, functional.conv3d}
_METADATA = {
    *torch.overrides.get_default_nowrap_functions(),
    *(getattr(Tensor, name).__get__ for name in ("shape", "ndim", "dtype", "device")),
    *(Tensor.size, Tensor.dim, Tensor.__len__, Tensor.numel),
}


def _is_local(input: Tensor, weight: object, *rest: object, **options: object) -> bool:
    """Whether a call of a layer may draw its outputs."""
    if not isinstance(weight, LocalNormal) or isinstance(input, LocalNormal):
        return False
    return not weight.exact or input.dim() <= 2 == weight.loc.dim()


def _linear(input: Tensor, weight: LocalNormal, bias: Tensor | None = None) -> Tensor:
    x = input if weight.column is None else input * weight.column
    mean = functional.linear(x, weight.loc)
    # an input row of zeros has no variance, and sqrt no slope there
    variance = functional.linear(x.square(), weight.sd.square()).clamp(min=torch.finfo(x.dtype).tiny)
    output = torch.addcmul(mean, variance.sqrt(), torch.randn_like(mean))
    output = output if weight.row is None else output * weight.row
    output = output if weight.shift is None else output + weight.shift * x.sum(-1, keepdim=True)
    return output if bias is None else output + bias


def _convolution(
    func: Callable[..., Tensor],
    input: Tensor,
    weight: LocalNormal,
    bias: Tensor | None = None,
    *rest: object,
    **options: object,
) -> Tensor:
    mean = func(input, weight.mean_weight(), None, *rest, **options)
    variance = func(input.square(), weight.sd_weight().square(), None, *rest, **options)
    variance = variance.clamp(min=torch.finfo(mean.dtype).tiny)  # as above; a fast convolution may go below 0, too
    output = torch.addcmul(mean, variance.sqrt(), torch.randn_like(mean))
    return output if bias is None else output + bias.reshape(-1, *[1] * (weight.loc.dim() - 2))


class LocalReparameterization(Messenger):
    """Leaves Normal sites of a guide that may be weights undrawn, as :class:`LocalNormal` values.

    Only values of two event dimensions (matrices) to five (filters) and no batch are touched; a model that reads such a
    value otherwise than by a product and its layer gets an ordinary draw.

    Args:
        exact: Whether only matrices are left undrawn, and drawn too where an example has several rows.
    """

    def __init__(self, *, exact: bool = False) -> None:
        super().__init__()
        self.exact = exact

    def _pyro_sample(self, msg: Site) -> None:
        if msg["is_observed"] or is_subsample(msg) or msg["done"]:
            return
        fn = msg["fn"]
        base = base_distribution(fn)
        is_weight = len(fn.event_shape) == 2 or (2 < len(fn.event_shape) <= 5 and not self.exact)
        if is_weight and not fn.batch_shape and isinstance(base, (GatedNormal, Normal)):
            msg["value"], msg["done"] = LocalNormal.of_posterior(base, exact=self.exact), True
