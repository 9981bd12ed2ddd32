"""What TRL's asynchronous trainer needs to run without a card and without vLLM in its environment: four replacements.

It belongs to TRL's side of `step_speed` and `learner_speed` and is imported in TRL's virtual environment only.

* Its tree attention calls a CUDA kernel from the hub (flash-attn3): torch's own attention computes the same segments.
* It wants vLLM beside it, though it only talks HTTP to a server: it is told that vLLM is there.
* It asks for the name of a CUDA device to compute a utilisation: it computes none.
* Without Triton its LM head scores prompt positions, too: it is held to its behaviour on a card, completions only.
"""

import itertools
import types

import torch
import trl.trainer.utils
from torch.nn.functional import scaled_dot_product_attention
from trl.experimental.async_grpo import async_grpo_trainer, async_rollout_worker, packing


def segments(query, key, value, cu_q, cu_k, max_q, max_k, *, softmax_scale, causal, window_size):
    """As `flash_attn_varlen_func`: each segment's queries over the keys of its path, causal at the path's end."""
    assert causal
    assert window_size == (-1, -1)
    outputs = []
    q_bounds, k_bounds = (list(itertools.pairwise(cu.tolist())) for cu in (cu_q, cu_k))
    for (q0, q1), (k0, k1) in zip(q_bounds, k_bounds, strict=True):
        parts = (part.transpose(0, 1)[None] for part in (query[q0:q1], key[k0:k1], value[k0:k1]))
        whole = q1 - q0 == k1 - k0
        mask = None if whole else torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril((k1 - k0) - (q1 - q0))
        out = scaled_dot_product_attention(
            *parts, attn_mask=mask, is_causal=whole, scale=softmax_scale, enable_gqa=True
        )
        outputs.append(out[0].transpose(0, 1))
    return torch.cat(outputs)


def completions_only():
    """Whether positions are compacted is decided by this name; the kernel decides for itself, and stays in torch."""
    trl.trainer.utils._use_triton = lambda device: True


def prepare():
    packing._flash_attn = lambda: types.SimpleNamespace(flash_attn_varlen_func=segments)
    completions_only()
    async_rollout_worker.is_vllm_available = lambda *_, **__: True
    async_grpo_trainer.get_peak_flops_per_device = lambda *_: None
