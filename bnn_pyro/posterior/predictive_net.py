"""The predictive distribution as one plain module: draws of a posterior in a network, called together and averaged."""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call

from bnn_pyro.export import traced_program
from bnn_pyro.input_layout import Inputs, call_with, output_of
from bnn_pyro.likelihoods import Classes, Likelihood, Prediction
from bnn_pyro.posterior.base import Posterior
from bnn_pyro.posterior.network_draws import NetworkDraws
from bnn_pyro.pruning.cutting import InputSelection, put_tensors

_EXAMPLE_ROWS = 2  # torch.export takes a size of 1 for a constant


class PredictiveNet(nn.Module):
    r"""The predictive distribution of a posterior's draws, as a plain module that needs torch alone.

    With the outputs :math:`f_s(x)` of the draws :math:`s = 1, \dots, S` it is, for regression, the mean and the
    standard deviation of their mixture of normals, noise included,

    .. math::
        m(x) = \frac{1}{S} \sum_s m_s(x), \qquad
        \sigma(x)^2 = \frac{1}{S} \sum_s \sigma_s(x)^2 + \frac{1}{S} \sum_s (m_s(x) - m(x))^2,

    and for classes the mean :math:`\frac{1}{S} \sum_s p_s(y = c \mid x)` of the probabilities.

    `predictive_net` makes it, and `bnn_pyro.export.export_net` writes it.

    Args:
        drawn: The draws, in parts of one architecture each; one part at least. They are copied.
        likelihood: The likelihood, whose ``predict`` turns outputs into probabilities or normals.
        together: Whether all draws of a part are called at once, by ``torch.vmap``, which is fast for small networks,
            and whose memory grows with draws times rows; or one after the other, in a program as long as that.

    Attributes:
        draws: How many draws there are.
    """

    def __init__(self, drawn: list[NetworkDraws], likelihood: Likelihood, *, together: bool = True) -> None:
        super().__init__()
        self.nets = nn.ModuleList(_StackedNet(part, together=together) for part in drawn)
        self.mixture = _Mixture(likelihood, [part.latent for part in drawn if part.latent is not None])
        self.draws = sum(map(len, drawn))
        self.eval()

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Predict, on the scale of the targets that the model saw.

        Args:
            *inputs: Inputs, shape ``(rows, *input_shape)``, all of them even where the network reads a few; several as
                the network itself takes them, by position or by name.
            **named: Inputs by name.

        Returns:
            Class probabilities, shape ``(rows, classes)``; or mean and standard deviation, shape ``(rows,)`` each.
        """
        predicted: Tensor | tuple[Tensor, Tensor] = self.mixture(self.outputs(*inputs, **named))
        return predicted

    def outputs(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return what the network gives in each draw.

        Args:
            *inputs: Inputs, as `forward` takes them.
            **named: Inputs by name.

        Returns:
            Outputs, shape ``(draws, rows, out)``.
        """
        return torch.cat([net(*inputs, **named) for net in self.nets])

    def extra_repr(self) -> str:
        """Say how many draws there are."""
        return f"draws={self.draws}"


@torch.no_grad()
def predictive_net(posterior: Posterior, *, draws: int = 100) -> PredictiveNet:
    """Return the predictive distribution of some draws as one plain module, ready for `bnn_pyro.export.export_net`.

    The draws are those that ``posterior.predict(x, num_samples=draws)`` averages over: evenly spaced over all Markov
    chains, the last snapshots, or made once by a guide, from the global random state. They are called together where
    ``torch.export`` can then leave the number of rows open, as for perceptrons, and else one after the other, as for
    most networks with convolutions, which makes a longer program.

    Args:
        posterior: A posterior of any kind.
        draws: How many draws; all where there are fewer.

    Returns:
        The module, in eval mode and without gradients, on the device and in the dtype of the posterior's network.

    Raises:
        ValueError: If ``draws`` is below 1, or the likelihood's ``predict`` returns none of the known predictions or
            cannot be exported by ``torch.export``, as one that reads values out of tensors or calls numpy.
    """
    if draws < 1:
        raise ValueError(f"draws must be at least 1, got {draws}")
    model = posterior.model
    drawn = posterior.network_draws(num_samples=draws)
    net = PredictiveNet(drawn, model.likelihood, together=False)
    like = model.net.get_parameter(model.bayesian[0].name)
    x = model.layout.native(like.new_zeros(_EXAMPLE_ROWS, *model.input_shape))
    net.mixture.check(call_with(net.outputs, x))
    faster = PredictiveNet(drawn, model.likelihood)
    return faster if _exports(faster, x) else net


def _exports(net: nn.Module, x: Inputs) -> bool:
    """Return whether a network can be traced for any number of rows."""
    try:
        traced_program(net, x)
    except Exception:  # whatever the operations of the network make torch raise
        return False
    return True


class _StackedNet(nn.Module):
    """A network whose tensors are stacks of draws, each in the place of the tensor that it has the draws of."""

    def __init__(self, drawn: NetworkDraws, *, together: bool) -> None:
        super().__init__()
        self.together = together
        self.net = copy.deepcopy(drawn.model.net).requires_grad_(False)
        self.names = tuple(drawn.tensors)
        put_tensors(self.net, {name: self._stack(name, values) for name, values in drawn.tensors.items()})
        index = drawn.model.selection
        self.select = nn.Identity() if index is None else InputSelection(index.clone())

    def _stack(self, name: str, values: Tensor) -> Tensor:
        """Return the draws as a parameter or a buffer, as which the network has the tensor."""
        own = values.detach().clone(memory_format=torch.contiguous_format)
        is_parameter = name in dict(self.net.named_parameters())
        return nn.Parameter(own, requires_grad=False) if is_parameter else own

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Return the outputs, shape ``(draws, rows, out)``."""
        own = dict((*self.net.named_parameters(), *self.net.named_buffers()))
        stacked = {name: own[name] for name in self.names}
        inputs = tuple(map(self.select, inputs))
        if not self.together:
            each = zip(*(tensor.unbind() for tensor in stacked.values()), strict=True)
            return torch.stack([self._call(dict(zip(stacked, draw, strict=True)), inputs, named) for draw in each])
        output: Tensor = torch.vmap(self._call, in_dims=(0, None, None))(stacked, inputs, named)
        return output

    def _call(self, tensors: Mapping[str, Tensor], inputs: tuple[Tensor, ...], named: Mapping[str, Tensor]) -> Tensor:
        return output_of(functional_call(self.net, dict(tensors), inputs, dict(named)))


class _Mixture(nn.Module):
    """What a likelihood makes of the outputs of all draws, averaged over them."""

    latent: Tensor | None

    def __init__(self, likelihood: Likelihood, latents: list[Tensor]) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.register_buffer("latent", torch.cat(latents).detach() if latents else None)

    def forward(self, output: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return probabilities, or mean and standard deviation, of outputs of shape ``(draws, rows, out)``."""
        predicted = self.likelihood.predict(output, self.latent)
        return predicted.probabilities if isinstance(predicted, Classes) else predicted.moments()

    def check(self, output: Tensor) -> None:
        """Raise unless the likelihood's prediction is of a known kind and made of what can be exported."""
        name = type(self.likelihood).__name__
        predicted = self.likelihood.predict(output, self.latent)
        if not isinstance(predicted, Prediction):
            got = f"{type(predicted).__name__} of {name}.predict"
            raise ValueError(f"likelihood must predict Classes, Normals or a Mixture, got {got}")
        try:
            traced_program(_RowsFirst(self), output.movedim(1, 0))
        except Exception as error:  # whatever the likelihood makes torch raise
            raise ValueError(
                f"likelihood must have a predict that torch.export can trace, got {name}: use operations of torch "
                f"alone, which do not depend on values or on the number of rows ({error})"
            ) from error


class _RowsFirst(nn.Module):
    """A mixture of outputs whose first dimension is the rows'."""

    def __init__(self, mixture: _Mixture) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, output: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return what the mixture gives for outputs of shape ``(rows, draws, out)``."""
        predicted: Tensor | tuple[Tensor, Tensor] = self.mixture(output.movedim(0, 1))
        return predicted
