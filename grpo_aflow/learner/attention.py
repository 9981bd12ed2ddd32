# ruff: noqa: TID253
"""Attention of completions that continue from a cached prompt, without a copy of keys and values per query head.

Letters: B rows, Q query tokens, S key tokens, D head size, K key/value heads, G query heads per key/value head.

transformers repeats keys and values for each query head wherever a mask is needed. The G query heads that share keys
can as well stand one behind the other as G Q queries of one head: the same numbers with a G-th of the copies, and
faster, for each block of keys is read once for all of them. Registered through transformers' attention interface.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

NAME = "grouped_sdpa"


def register() -> str:
    """Make the attention known to transformers (again, if it is) and return its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    return NAME


def _attention(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """query [B, K G, Q, D], key and value [B, K, S, D], mask [B or 1, 1, Q, S] -> [B, Q, K G, D]."""
    num_groups = query.shape[1] // key.shape[1]
    if attention_mask is None or num_groups == 1:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output
    rows, heads, length, size = query.shape
    stacked = query.reshape(rows, key.shape[1], num_groups * length, size)
    mask = attention_mask.repeat(1, 1, num_groups, 1)
    attended = torch.nn.functional.scaled_dot_product_attention(
        stacked, key, value, attn_mask=mask, scale=options.get("scaling")
    )
    return attended.view(rows, heads, length, size).transpose(1, 2).contiguous(), None
