"""The learner's attention inside transformers' models: prompts are recorded in one forward and read in another.

Letters: B rows, Q query tokens, P prompt tokens, D head size, K key/value heads, G query heads per key/value head.

Registered through transformers' attention interface. Without a prefix it is transformers' own `sdpa`; with one, the
attention of `continued`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from grpo_aflow.learner.policy import continued
from grpo_aflow.learner.policy.kernels import card_kernels, has_flash, kernel_for

NAME = "continued_sdpa"


class Prefix:
    """A prompt's keys and values, [1, K, P, D] per layer: recorded in one forward (`record=`), read in another
    (`prefix=`). Knows whether every layer took part: a model may drop arguments that it does not know."""

    def __init__(self, num_layers: int, *, ends_forward: bool = True) -> None:
        """ends_forward: whether the last layer's keys and values end the forward that is recorded."""
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._num_layers = num_layers
        self._ends_forward = ends_forward
        self._num_reads = 0

    @classmethod
    def of(cls, states: Sequence[Tensor]) -> Prefix:
        """For one forward: the keys of all layers, then the values."""
        prefix = cls(len(states) // 2)
        prefix.keys, prefix.values = list(states[: prefix._num_layers]), list(states[prefix._num_layers :])
        return prefix

    @property
    def is_whole(self) -> bool:
        return len(self.keys) == self._num_layers

    @property
    def was_read(self) -> bool:
        """Once by every layer."""
        return self._num_reads == self._num_layers

    @contextmanager
    def to_the_last_layer(self) -> Iterator[None]:
        """A forward in here ends as soon as the last layer's keys and values are recorded: that layer's attention and
        feed-forward would only compute states that are not read."""
        with suppress(_Recorded):
            yield

    def record(self, layer: int, key: Tensor, value: Tensor) -> None:
        """Keep a layer's, in the order of the layers; what a recomputation brings again is passed over."""
        if layer < len(self.keys):
            return
        self.keys.append(key)
        self.values.append(value)
        if self.is_whole and self._ends_forward:
            raise _Recorded

    def read(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer."""
        self._num_reads += 1
        return self.keys[layer], self.values[layer]


class _Recorded(Exception):
    """All that a forward was made for is there."""


def register() -> str:
    """Make the attention known to transformers (again, if it is) and return its name."""
    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    prefix: Prefix | None = None,
    record: Prefix | None = None,
    **options: Any,  # whatever a model hands over besides; transformers' own attention picks what it knows
) -> tuple[Tensor, None]:
    """query [B, K G, Q, D], key and value [B, K, Q, D] -> [B, Q, K G, D]. A prefix comes without a mask."""
    layer = cast(int, module.layer_idx)
    if record is not None:
        record.record(layer, key, value)
    if prefix is None:
        return causal(module, query, key, value, attention_mask, **options), None
    given = (query, *prefix.read(layer), key, value)
    kernel, scale = kernel_for(query, value), options.get("scaling")
    output = continued.joined(*given, scale) if kernel is None else continued.in_two_parts(kernel, *given, scale)
    return output.transpose(1, 2).contiguous(), None


def causal(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """transformers' own attention: query [B, K G, Q, D], key and value [B, K, Q, D] -> [B, Q, K G, D]."""
    num_groups = query.shape[1] // key.shape[1]
    if query.device.type == "cuda" and num_groups > 1 and not has_flash(query, value):
        # Only FlashAttention takes fewer key/value heads than queries; a module without groups repeats none itself.
        key, value, module = repeat_kv(key, num_groups), repeat_kv(value, num_groups), _WITHOUT_GROUPS
    with card_kernels(query.device):
        output: Tensor = sdpa_attention_forward(module, query, key, value, mask, **options)[0]
    return output


class _WithoutGroups(nn.Module):
    is_causal = True


_WITHOUT_GROUPS = _WithoutGroups()
