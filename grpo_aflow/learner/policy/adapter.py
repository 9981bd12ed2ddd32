"""The adapter on the frozen base: attached with a seeded start, read from a folder, compared with another's shape."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from grpo_aflow.learner.lora import ALL_LINEAR, LoraSpec
from grpo_aflow.learner.memory.shapes import num_experts
from grpo_aflow.learner.model_folder import linear_layers
from grpo_aflow.learner.policy.adapted_linear import AdaptedLinear
from grpo_aflow.learner.policy.base import first_sentence
from grpo_aflow.learner.policy.dropout import DropoutKey, SeededDropout
from grpo_aflow.learner.policy.feed_forward import keep_less
from grpo_aflow.types import UserError

WEIGHTS = "adapter_model.safetensors"
_RANK_FACTOR = re.compile(r"(lora_[AB])\.weight$")  # PEFT leaves the adapter's name out of a saved file


def attach(
    model: PreTrainedModel, lora: LoraSpec, *, seed: int, in_base_type: bool = False
) -> tuple[PeftModel, DropoutKey]:
    """Put a fresh adapter on `model`: A uniform and drawn from `seed` alone, B zero, both in fp32.

    in_base_type: whether products with them are in the type of the base's activations, or exact, in fp32.
    Returns the PEFT model, in eval mode for good, and the key that switches and seeds LoRA dropout.
    Raises UserError for layers that the model has not, or on which PEFT puts no adapter.
    """
    layers = linear_layers(model)
    lora.check_layers(layers)
    is_mixture = num_experts(model.config.to_dict()) > 1
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        # PEFT takes "all-linear" of a mixture to mean its experts and its router, too (huggingface/peft#3232), and vLLM
        # has left such adapters out without a word (vllm-project/vllm#41384).
        target_modules=layers if is_mixture and lora.targets == ALL_LINEAR else lora.targets,
        bias="none",
        task_type="CAUSAL_LM",
    )
    config._register_custom_module({nn.Linear: AdaptedLinear})
    # PEFT draws a start from the process's generator, which others may be using: kept as it was.
    with torch.random.fork_rng(devices=[]):
        try:
            peft_model = get_peft_model(model, config)
        except ValueError as error:  # such as a state-space layer's projection, which reads its weights itself
            reason = first_sentence(error).removeprefix("[PEFT:PeftType.LORA] ")
            raise UserError(f"lora.target_modules: {reason}; name other linear layers") from error
    # A name that experts once had: PEFT adapts all of them, with a rank of its own (also for a shared expert that is
    # named by its path, huggingface/peft#3711).
    if config.target_parameters:
        attention = dict.fromkeys(path.rpartition(".")[2] for path in layers if "expert" not in path)
        raise UserError(
            "lora.target_modules: an adapter on experts is not offered; set "
            f"lora.target_modules=[{','.join(attention)}]"
        )
    _draw_start(peft_model, seed)
    for module in peft_model.modules():
        if isinstance(module, AdaptedLinear):
            module.in_base_type = in_base_type
    keep_less(peft_model)
    key = _replace_dropout(peft_model)
    peft_model.eval()
    return peft_model, key


def _draw_start(model: PeftModel, seed: int) -> None:
    """Kaiming-uniform A (PEFT's own distribution), from a generator of its own, in the model's order; B stays zero."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "lora_A" not in name:
            continue
        bound = math.sqrt(1 / parameter.shape[1])  # kaiming_uniform_ with a = sqrt(5)
        drawn = torch.rand(parameter.shape, generator=generator, dtype=torch.float32) * (2 * bound) - bound
        with torch.no_grad():
            parameter.copy_(drawn)


def _replace_dropout(model: PeftModel) -> DropoutKey:
    """Swap PEFT's dropout layers, which draw from the process's generator, for seeded ones."""
    key = DropoutKey()
    index = 0
    for module in model.modules():
        layers = getattr(module, "lora_dropout", None)
        if not isinstance(layers, nn.ModuleDict):
            continue
        for name, layer in layers.items():
            if isinstance(layer, nn.Dropout):
                layers[name] = SeededDropout(layer.p, index=index, key=key)
                index += 1
    return key


def adapter_parameters(model: PeftModel) -> dict[str, nn.Parameter]:
    """The trainable parameters by name, in the model's order."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def adapter_id(folder: Path) -> str:
    """SHA-256 of a saved adapter's weights."""
    with (folder / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_adapter(folder: Path, parameters: Mapping[str, nn.Parameter]) -> None:
    """Copy a saved adapter's weights into `parameters`. Raises UserError when it cannot be read or does not fit."""
    try:
        saved = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise UserError(f"the adapter {folder} cannot be read ({error}); give a whole one") from error
    state = {_RANK_FACTOR.sub(r"\1.default.weight", name): value for name, value in saved.items()}
    check_shapes(state, parameters)
    copy_weights(state, parameters)


def copy_weights(state: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Give `parameters` the values of `state`, name by name."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(state[name])


def check_shapes(state: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter]) -> None:
    """Raise UserError when a saved adapter's tensors are not those of `parameters`, name by name."""
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    ours = {name: tuple(value.shape) for name, value in parameters.items()}
    if theirs == ours:
        return
    name = next(n for n in sorted({*theirs, *ours}) if theirs.get(n) != ours.get(n))
    raise UserError(
        f"the saved adapter does not fit: {name} is {theirs.get(name, 'absent')} there and {ours.get(name, 'absent')} "
        "here; use the run's own lora.rank, lora.target_modules and model"
    )
