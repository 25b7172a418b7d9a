"""CorrelatedSlab: a slab whose open weights are correlated with those of the slabs before it."""

from collections.abc import Callable, Sequence

import torch
from pyro.distributions.torch_distribution import TorchDistribution
from torch import Size, Tensor
from torch.distributions import Distribution, Normal, constraints


class CorrelatedSlab(TorchDistribution):
    r"""The weights :math:`w_i = m_i + r_i (\mu_i + \sigma_i (e_i + \sum_{j<i} C_{ij} z_j e_j))` of Normal e.

    j goes over the weights of the slabs before it too, whose noise is given. Gates z of j that are closed take the
    noise of that weight away from all others, so that open weights are a multivariate Normal of the open rows and
    columns of the factor :math:`\operatorname{diag}(\sigma) C`, C of unit diagonal.

    It stands for its entries one by one: ``log_prob`` is the prior's log density plus the entry's share of the
    divergence, so that :math:`E[\log q - \log p]` is that divergence. It is a term of a bound and not the density of a
    draw.

    Args:
        loc: :math:`m + r\mu`, shape ``(*batch, *shape)``.
        scale: :math:`r\sigma`, likewise.
        prior: The prior, a Normal that broadcasts to that shape.
        shape: Of the weights of one draw.
        factor: Rows of C below its diagonal, shape ``(weights, before + weights)``.
        before: :math:`z_j e_j` of the slabs before it, shape ``(*batch, before)``.
        gates: z of its own weights, shape ``(*batch, weights)``.
        divergence: The share of each entry, shape ``(*shape,)``.
        keep: Is given :math:`z_j e_j` of a draw.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        prior: Normal,
        *,
        shape: Sequence[int],
        factor: Tensor,
        before: Tensor,
        gates: Tensor,
        divergence: Tensor,
        keep: Callable[[Tensor], None],
    ) -> None:
        self.loc, self.scale, self.prior, self.divergence = loc, scale, prior, divergence
        self._shape, self._factor, self._before, self._gates, self._keep = Size(shape), factor, before, gates, keep
        super().__init__(loc.shape, validate_args=False)

    def expand(self, batch_shape: Sequence[int], _instance: Distribution | None = None) -> "CorrelatedSlab":
        new: CorrelatedSlab = Distribution._get_checked_instance(self, CorrelatedSlab, _instance)
        new.__dict__.update(self.__dict__)
        new.loc, new.scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        new.divergence = self.divergence.expand(batch_shape)
        TorchDistribution.__init__(new, Size(batch_shape), validate_args=False)
        return new

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        if tuple(sample_shape):
            raise NotImplementedError("a CorrelatedSlab is drawn with the slabs before it: draw its guide again")
        batch = self.batch_shape[: len(self.batch_shape) - len(self._shape)]
        noise = torch.randn(*batch, len(self._factor), dtype=self.loc.dtype, device=self.loc.device)
        gated = self._gates * noise
        self._keep(gated)
        joint = torch.cat([self._before.expand(*gated.shape[:-1], -1), gated], -1)
        joint = noise + joint @ self._factor.t()
        return torch.addcmul(self.loc, self.scale, joint.reshape(self.batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        prior: Tensor = self.prior.log_prob(value)
        return prior + self.divergence
