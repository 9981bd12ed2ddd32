"""A trained adapter folded into its base model, for serving without LoRA."""

from __future__ import annotations

from pathlib import Path


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Write base + adapter to `out`, tokenizer included.

    The sum is formed in fp32 and rounded once, to the base's own dtype.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    dtype = model.dtype
    merged = PeftModel.from_pretrained(model.to(torch.float32), str(adapter)).merge_and_unload()
    merged.to(dtype).save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)
