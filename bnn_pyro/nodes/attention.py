"""Attention whose heads are nodes: removed, they leave a plain attention module that is narrower inside."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bnn_pyro.nodes.groups import Axis, NodeGroup


class Attention(nn.Module):
    """Multi-head attention with any number of heads, whatever the width of what it reads and gives.

    It computes what ``nn.MultiheadAttention`` does, whose heads are tied to its width, but never returns the attention
    weights. Its parameters have the names of that module's, so that the states of both fit each other.

    Args:
        other: The module whose parameters it takes over; its ``in_proj_weight`` may have lost heads.
    """

    in_proj_weight: nn.Parameter
    in_proj_bias: nn.Parameter | None
    head_dim: int

    def __init__(self, other: nn.MultiheadAttention) -> None:
        super().__init__()
        self.embed_dim, self.head_dim, self.dropout = other.embed_dim, other.head_dim, other.dropout
        self.batch_first = other.batch_first
        self._qkv_same_embed_dim = False  # tells nn.TransformerEncoderLayer that its fused kernel does not fit
        self.in_proj_weight, self.in_proj_bias = other.in_proj_weight, other.in_proj_bias
        self.out_proj = other.out_proj
        self.train(other.training)

    @property
    def num_heads(self) -> int:
        """Number of heads."""
        return len(self.in_proj_weight) // (3 * self.head_dim)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, None]:
        """Attend to values by the keys that fit the queries.

        Args:
            query: Shape ``(batch, length, embed_dim)``, or ``(length, batch, embed_dim)`` if not ``batch_first``.
            key: The same with the length of what is attended to.
            value: Like ``key``.
            key_padding_mask: True, or minus infinity, where a key is left out, shape ``(batch, keys)``.
            need_weights: Ignored: weights are never returned.
            attn_mask: True, or a number to add, for a query and a key, shape ``(queries, keys)``.
            average_attn_weights: Ignored.
            is_causal: Whether ``attn_mask`` is the causal one; it is used as it is.

        Returns:
            What was attended to, of the shape of ``query``, and None.

        Raises:
            ValueError: If the inputs are no batch, or ``attn_mask`` differs between heads.
        """
        if query.dim() != 3 or (attn_mask is not None and attn_mask.dim() != 2):
            raise ValueError("Attention needs inputs with a batch dimension, and a mask of shape (queries, keys)")
        if not self.batch_first:
            query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        output: Tensor = self.out_proj(self._attended(query, key, value, _joined(key_padding_mask, attn_mask, query)))
        return (output if self.batch_first else output.transpose(0, 1)), None

    def _attended(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Return the heads' outputs side by side, ``(batch, length, heads * head_dim)``."""
        heads = self.num_heads
        if not heads:
            return query[..., :0]
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, weight, bias).unflatten(-1, (heads, self.head_dim)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout).transpose(1, 2).flatten(2)

    def extra_repr(self) -> str:
        """Say how many heads there are."""
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, head_dim={self.head_dim}"


def _joined(key_padding_mask: Tensor | None, attn_mask: Tensor | None, like: Tensor) -> Tensor | None:
    """Add both masks up, ``(batch, 1, queries, keys)`` or what broadcasts to it."""
    masks = []
    if attn_mask is not None:
        masks.append(_additive(attn_mask, like))
    if key_padding_mask is not None:
        masks.append(_additive(key_padding_mask, like)[:, None, None, :])
    return sum(masks[1:], masks[0]) if masks else None


def _additive(mask: Tensor, like: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return mask.to(like)
    return torch.zeros_like(mask, dtype=like.dtype).masked_fill(mask, float("-inf"))


def _is_plain(module: nn.MultiheadAttention) -> bool:
    """Whether keys and values have the queries' width, and none are added by the module itself."""
    return module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn


def attention_of(net: nn.Module) -> dict[str, nn.Module]:
    """Find the attention modules of a net.

    Args:
        net: Any network.

    Returns:
        Dotted name -> module.
    """
    return {name: m for name, m in net.named_modules() if isinstance(m, nn.MultiheadAttention | Attention)}


def head_groups(net: nn.Module) -> Iterator[NodeGroup]:
    """Find the heads of each `Attention` of a net: nodes that in_proj writes and out_proj reads.

    Args:
        net: Any network.

    Yields:
        A group for each module, under its name.
    """
    for name, module in net.named_modules():
        if isinstance(module, Attention):
            prefix = f"{name}." if name else ""
            device = module.out_proj.weight.device
            heads = torch.arange(module.num_heads, device=device).repeat_interleave(module.head_dim)
            leaves = ["in_proj_weight"] if module.in_proj_bias is None else ["in_proj_weight", "in_proj_bias"]
            writers = tuple(Axis(f"{prefix}{leaf}", 0, heads.repeat(3)) for leaf in leaves)
            readers = (Axis(f"{prefix}out_proj.weight", 1, heads),)
            yield NodeGroup(name, module.num_heads, writers, readers)


def make_attention_plain(net: nn.Module, *, only_cut: bool = False) -> None:
    """Put a plain `Attention` in the place of each ``nn.MultiheadAttention``, in place.

    Args:
        net: The network to change; the parameters stay the same objects, under the same names.
        only_cut: Whether to do so only where heads are gone.
    """
    for parent in list(net.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.MultiheadAttention) and _is_plain(child):
                is_cut = len(child.in_proj_weight) != 3 * child.embed_dim
                if is_cut or not only_cut:
                    setattr(parent, name, Attention(child))
