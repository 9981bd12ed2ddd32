"""The bytes of a learner's activations, from a model's shape: what autograd keeps, and what lives for a moment.

Stands below the memory plan. The count follows the operations one by one, as transformers' decoder layers,
`policy.adapted_linear` and `policy.feed_forward` carry them out; the tests hold it against the bytes that live in real
steps.
"""

from __future__ import annotations

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.learner.settings import LearnerSettings, Packing


def logits_bytes(shape: ModelShape, settings: LearnerSettings) -> int:
    """Bytes of a chunk's logits, in fp32: themselves, their probabilities, and the product of both for the entropy."""
    return settings.logits_chunk * shape.vocab_size * 3 * 4


def activation_bytes(
    shape: ModelShape,
    lora: LoraSpec,
    settings: LearnerSettings,
    *,
    num_tokens: int,
    num_prompt: int,
    element_size: int,
) -> int:
    """Bytes at the peak of a micro-batch.

    num_tokens: of its rows, padding included (with their prompts where rows are padded). num_prompt: of the prompt.
    element_size: bytes of a number of the base.
    """
    is_shared = settings.packing == Packing.shared_prefix
    adapter_size = settings.adapter_size(element_size)
    kept = kept_per_token(shape, lora, element_size, adapter_size, is_shared=is_shared)
    moment = _moment_per_token(shape, lora, element_size, adapter_size)
    prompt = num_prompt if is_shared else 0
    longest = max(num_tokens, prompt)  # prompt and rows go through a layer one after the other
    if settings.gradient_checkpointing:
        held = (num_tokens + prompt) * shape.num_layers * shape.hidden_size * element_size
        held += longest * kept  # of the one layer that is recomputed
    else:
        prompt_kept = kept_per_token(shape, lora, element_size, adapter_size, is_shared=False)
        held = shape.num_layers * (num_tokens * kept + prompt * prompt_kept)
    # The prompt's keys and values, and their gradients.
    held += prompt * shape.num_layers * 4 * shape.kv_width * element_size
    states = num_tokens * shape.hidden_size * element_size * 4  # the last layer's, normed, and their gradients
    return held + longest * moment + states


def scoring_bytes(
    shape: ModelShape,
    lora: LoraSpec,
    settings: LearnerSettings,
    *,
    num_tokens: int,
    num_prompt: int,
    element_size: int,
) -> int:
    """Bytes at the peak of a forward alone, of the same micro-batch: the widest moment of a layer, the prompt's cache.

    Besides the layer's own numbers, an adapter's result exists for a moment where it is more exact than they are.
    """
    prompt = num_prompt if settings.packing == Packing.shared_prefix else 0
    adapted = {"gate_proj", "up_proj", "down_proj"} & set(shape.adapted(lora))
    exact = adapted and settings.adapter_size(element_size) > element_size
    # Gate, up, an adapter's part of one; where the activation is not in place, that too.
    inner = ((2 if shape.gates_by_silu else 3) * element_size + (4 if exact else 0)) * shape.intermediate_size
    feed_forward = inner + (8 + 2 * element_size) * shape.hidden_size
    attention = (12 + 9 * element_size) * max(shape.hidden_size, shape.q_width)
    cache = prompt * shape.num_layers * 2 * shape.kv_width * element_size
    return max(num_tokens, prompt) * max(feed_forward, attention) + cache


def kept_per_token(shape: ModelShape, lora: LoraSpec, element_size: int, adapter_size: int, *, is_shared: bool) -> int:
    """Bytes per token that the backward of one decoder layer needs. adapter_size: of a number in its products."""
    q, kv, inner = shape.q_width, shape.kv_width, shape.intermediate_size
    norms = 2 * 4 * shape.hidden_size  # the inputs, in fp32
    attention = 2 * q + 2 * kv  # rotated queries, keys, values, output
    if is_shared:  # of the rows alone: keys and values repeated up to the number of heads
        attention += 2 * (q - kv)
    feed_forward = 2 * inner  # gate and up
    if not shape.gates_by_silu:  # gate's activation, and its product with up where an adapter reads it
        feed_forward += (2 if "down_proj" in shape.adapted(lora) else 1) * inner
    adapters = element_size * _shared_inputs(shape, lora, is_shared=is_shared)
    for name in shape.adapted(lora):
        dropped = 2 * element_size * shape.linears()[name][0] if lora.dropout > 0 else 0  # the mask, what it leaves
        adapters += adapter_size * lora.rank + dropped  # A's output
    return norms + (attention + feed_forward) * element_size + adapters


def made_anew_per_token(shape: ModelShape, lora: LoraSpec, element_size: int) -> int:
    """Bytes per token that the backward of one decoder layer makes anew: gate's activation, and its product with up
    where an adapter reads it."""
    if not shape.gates_by_silu:
        return 0
    is_read = "down_proj" in shape.adapted(lora) and lora.dropout == 0
    return (2 if is_read else 1) * element_size * shape.intermediate_size


def _shared_inputs(shape: ModelShape, lora: LoraSpec, *, is_shared: bool) -> int:
    """Numbers per token of the adapters' inputs: kept once for all that read them, and for the adapters' sake alone,
    as a frozen map keeps no input."""
    adapted = set(shape.adapted(lora))
    if lora.dropout > 0:  # each adapter has its own
        return 0
    normed = shape.hidden_size * (
        bool(adapted & {"q_proj", "k_proj", "v_proj"}) + bool(adapted & {"gate_proj", "up_proj"})
    )
    attended = shape.q_width if is_shared and "o_proj" in adapted else 0  # copied; elsewhere it is the kernel's own
    return normed + attended


def _moment_per_token(shape: ModelShape, lora: LoraSpec, element_size: int, adapter_size: int) -> int:
    """Bytes per token that live for a moment while a layer is walked: the widest operation is in the feed-forward."""
    inner = shape.intermediate_size
    if "down_proj" not in shape.adapted(lora):
        return 3 * inner * element_size  # gradients of the product, of gate and of up
    if lora.dropout > 0:
        return (4 + 1 + 2 * element_size) * inner  # random numbers, mask, masked and scaled input
    if adapter_size > element_size:
        return (adapter_size + 2 * element_size) * inner  # gate's activation, its product with up, that one once more
    return 3 * inner * element_size  # gradients of the product, of gate and of up
