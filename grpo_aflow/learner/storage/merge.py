"""A trained adapter folded into its base model, for serving without LoRA."""

from __future__ import annotations

import shutil
from pathlib import Path

# As they are: loading and saving a tokenizer can change it.
COPIED = (
    "generation_config.json",
    "tokenizer*",
    "vocab.*",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    "*.jinja",
)


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write base + adapter to `out`, tokenizer included.

    The sum is formed in fp32 and rounded once, to the base's own dtype.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    dtype = model.dtype
    merged = PeftModel.from_pretrained(model.float(), str(adapter)).merge_and_unload()
    merged.generation_config = GenerationConfig()  # one that contradicts itself would not be saved
    merged.to(dtype).save_pretrained(out)
    for name in COPIED:
        for file in base.glob(name):
            shutil.copy(file, out)
