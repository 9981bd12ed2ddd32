"""The frozen base model: loaded from a local folder, checked for what the learner can do with it, identified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import cast

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import logging

from grpo_aflow.learner.policy.attention import register
from grpo_aflow.learner.settings import Packing
from grpo_aflow.run import cpu_functions
from grpo_aflow.types import UserError

# Names under which architectures change attention scores, or logits behind the LM head, as it is not computed here.
NOT_COMPUTED = ("final_logit_softcapping", "attn_logit_softcapping", "output_multiplier", "lm_head_multiplier")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_base(path: Path, *, device: str, dtype: str, packing: Packing) -> PreTrainedModel:
    """Load a causal language model, frozen and in eval mode. Raises UserError naming the fix."""
    if not (path / "config.json").is_file():
        raise UserError(f"model folder {path} has no config.json: prepare the model first, or correct model.path")
    if dtype not in DTYPES:
        raise UserError(f"model.dtype must be one of {', '.join(DTYPES)}; got {dtype}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"model.device={device}, but no NVIDIA card answers here: set model.device=cpu")
    cpu_functions.settle()
    logging.disable_progress_bar()  # the run shows progress itself
    try:
        model = AutoModelForCausalLM.from_pretrained(
            path, dtype=DTYPES[dtype], attn_implementation=register(), local_files_only=True
        )
    except ValueError as error:  # such as an architecture whose attention is no plain softmax
        raise UserError(f"the learner cannot load {path}: {first_sentence(error)}; choose another model") from error
    _check_supported(model, packing)
    model.requires_grad_(False)
    cast(nn.Module, model).to(device)  # transformers' own `to` has no usable type
    return model.eval()


def first_sentence(error: Exception) -> str:
    """What is wrong, of a text that goes on with advice."""
    return str(error).splitlines()[0].partition(". ")[0].rstrip(".")[:200]


def _check_supported(model: PreTrainedModel, packing: Packing) -> None:
    head = model.get_output_embeddings()
    name = type(model).__name__
    if head is None or getattr(head, "bias", None) is not None:
        raise UserError(f"{name} has no LM head without bias, which the learner needs: choose another model")
    for scaling in NOT_COMPUTED:
        if getattr(model.config, scaling, None) not in (None, 1, 1.0):
            raise UserError(f"{name} has {scaling}, which the learner does not compute: choose another model")
    logit_scale(model)
    layers = _layer_types(model)
    if packing == Packing.shared_prefix and layers != {"full_attention"}:
        raise UserError(f"{name} has {', '.join(sorted(layers))} layers: set learner.packing=padded")


def logit_scale(model: PreTrainedModel) -> float:
    """By what a model multiplies its logits behind the LM head: 1 for most, not for Cohere's and Granite's.

    Raises UserError where what its configuration says of it is not known.
    """
    config, kind = model.config, model.config.model_type
    scale, divisor = getattr(config, "logit_scale", None), getattr(config, "logits_scaling", None)
    if scale is not None and kind.startswith("cohere"):
        return float(scale)
    if divisor is not None and kind.startswith("granite"):
        return 1 / float(divisor)
    if scale in (None, 1) and divisor in (None, 1):
        return 1.0
    raise UserError(
        f"{type(model).__name__} scales its logits, which the learner does not compute: choose another model"
    )


def _layer_types(model: PreTrainedModel) -> set[str]:
    """As transformers names them; where a configuration lists none, a window is that of all layers (as Mistral's)."""
    listed = getattr(model.config, "layer_types", None)
    windowed = getattr(model.config, "sliding_window", None) is not None
    return set(listed or ["sliding_attention" if windowed else "full_attention"])


def use_checkpointing(model: PreTrainedModel) -> None:
    """Recompute each decoder layer in the backward. Only the layers are put into train mode, their parts are not."""
    # The state of the process's generator need not be kept: LoRA dropout draws from its own key.
    model.gradient_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True


def fingerprint(model: PreTrainedModel, path: Path) -> str:
    """Identity of a base by content: its configuration and a sample of every weight. Equal folders agree anywhere.

    The configuration is that of the folder, not what transformers makes of it: another version fills in other defaults.
    """
    volatile = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key not in volatile}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, weight in model.named_parameters():
        digest.update(name.encode())
        digest.update(weight.detach().flatten()[:16].float().cpu().numpy().tobytes())
    return f"{type(model).__name__}-{digest.hexdigest()[:16]}"
