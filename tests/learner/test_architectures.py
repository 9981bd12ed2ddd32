"""Architectures whose logits are not plainly the LM head's; experiments/architectures has whole runs of others."""

import pytest
import torch
import transformers
from learner_cases import learner

from grpo_aflow.types import UserError

SHAPE = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "max_position_embeddings": 64,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
IDS = [5, 9, 20, 33, 7, 60, 2, 41]


def saved(folder, name, **options):
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForCausalLM")(getattr(transformers, f"{name}Config")(**SHAPE, **options))
    model.eval().save_pretrained(folder)
    return model


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Cohere", {"logit_scale": 3.0}),
        ("Granite", {"logits_scaling": 0.25, "attention_multiplier": 0.3, "residual_multiplier": 0.5}),
    ],
)
def test_scaled_logits_are_scored_and_learned_from_as_the_model_has_them(tmp_path, name, options):
    model = saved(tmp_path, name, **options)
    with torch.no_grad():
        logprobs = model(torch.tensor([IDS])).logits[0].log_softmax(-1)
    expected = [logprobs[place, token].item() for place, token in enumerate(IDS[1:])]
    assert learner(tmp_path, warm=False).score(IDS) == pytest.approx(expected, abs=2e-6)
    assert max(expected) - min(expected) > 0.3  # a scale that was left out would show


@pytest.mark.parametrize(
    ("name", "options", "what"),
    [
        ("Gemma2", {}, "final_logit_softcapping"),
        ("Gemma2", {"final_logit_softcapping": None}, "attn_logit_softcapping"),
        ("HyperCLOVAX", {"logits_scaling": 2.0}, "scales its logits"),
    ],
)
def test_what_is_not_computed_is_refused(tmp_path, name, options, what):
    saved(tmp_path, name, **options)
    with pytest.raises(UserError, match=f"{name}ForCausalLM .*{what}.*: choose another model$"):
        learner(tmp_path)
