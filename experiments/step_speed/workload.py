"""The model of workload W1."""

from __future__ import annotations

from pathlib import Path


def make_base(folder: Path) -> None:
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from grpo_aflow.learner.preparation import tiny
    from grpo_aflow.learner.preparation.reference_workflows import corpus

    tokenizer = tiny.build_tokenizer([w.source for w in corpus()], vocab_size=1024, max_model_len=1024)
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 4, "num_attention_heads": 4}
    config = Qwen2Config(
        **shape, num_key_value_heads=4, vocab_size=2048, max_position_embeddings=1024, tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config)
    print(f"base: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters", flush=True)
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
