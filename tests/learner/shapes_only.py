"""A learner of any size without its numbers: torch's "meta" device stands for a card, or for the CPU with its kernels;
tensors have shapes and types.

What would make the host wait for a card (a number read, a mask as an index, a copy to the host) raises on that device.
`Watched` counts the bytes that live there and notes the largest tensor. One wait is known and left out: at the head of
every forward transformers looks whether positions are those of packed sequences, for which it reads one number.
"""

from __future__ import annotations

from pathlib import Path

import torch
from live_bytes import LiveBytes
from torch import nn
from transformers import Qwen2Config, Qwen2ForCausalLM, masking_utils

from grpo_aflow.learner.learner import Learner
from grpo_aflow.learner.policy import adapter, attention
from grpo_aflow.learner.policy import model as policy_model
from grpo_aflow.learner.policy.kernels import CpuKernel, FlashKernel

CARD = "meta"


class Watched(LiveBytes):
    """`LiveBytes` of the card alone; `largest`: bytes of its largest new tensor."""

    def __init__(self):
        super().__init__()
        self.largest = 0
        self.operations = set()

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.operations.add(str(operation).split(".")[1])
        return super().__torch_dispatch__(operation, types, args, kwargs)

    def _count(self, storage):
        if storage.device.type == CARD:
            if id(storage) not in self._storages:
                self.largest = max(self.largest, storage.nbytes())
            super()._count(storage)


def base_of(shape):
    """A function in the place of `load_base`: a Qwen2 of this shape."""

    def load(path, *, device, dtype, packing):
        config = Qwen2Config(
            vocab_size=shape.vocab_size,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            max_position_embeddings=16384,
            tie_word_embeddings=shape.tied_embeddings,
        )
        config._attn_implementation = attention.register()
        with torch.device(device):
            model = Qwen2ForCausalLM(config).to(getattr(torch, dtype))
        return model.requires_grad_(False).eval()

    return load


def sdpa_of_a_card(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """What `scaled_dot_product_attention` is under FlashAttention."""
    assert attn_mask is None, "a mask, which FlashAttention does not take"
    kernel = torch.ops.aten._scaled_dot_product_flash_attention
    return kernel(query, key, value, dropout_p, is_causal, False, scale=scale)[0]


def sdpa_of_a_cpu(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """What `scaled_dot_product_attention` is there."""
    assert attn_mask is None
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, dropout_p, is_causal, scale=scale)[0]


def learner_of(monkeypatch, shape, lora, objective, settings, *, dtype="bfloat16", on_card=True):
    """A learner whose base is of `shape`, in nothing but shapes, with a card's kernels or the CPU's."""
    monkeypatch.setattr(policy_model, "load_base", base_of(shape))
    monkeypatch.setattr(policy_model, "fingerprint", lambda base, path: "none")
    monkeypatch.setattr(policy_model, "content_id", lambda path: "none")
    monkeypatch.setattr(policy_model, "_check_kernels", lambda base: None)  # it reads numbers
    monkeypatch.setattr(adapter, "_draw_start", lambda model, seed: None)
    monkeypatch.setattr(attention, "kernel_for", lambda query, value: FlashKernel() if on_card else CpuKernel())
    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    monkeypatch.setattr(nn.functional, "scaled_dot_product_attention", sdpa_of_a_card if on_card else sdpa_of_a_cpu)
    return Learner(Path("none"), lora, objective, settings, CARD, dtype)
