import pytest
import torch

from grpo_aflow.learner import tiny
from grpo_aflow.learner.reference_workflows import corpus

PROMPTS = [f"{domain}\n" for domain in ("math gsm8k", "qa squad2", "code mbpp")]
SIZES = {"hidden_size": 32, "num_layers": 1, "num_heads": 1, "intermediate_size": 64, "max_model_len": 64}


@pytest.fixture(scope="module")
def tokenizer():
    texts = [workflow.source for workflow in corpus()] + PROMPTS
    return tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=64)


def test_a_workflow_is_about_ten_tokens(tokenizer):
    lengths = [len(tokenizer.encode(workflow.source)) for workflow in corpus()]
    assert max(lengths) <= 16
    assert sum(lengths) / len(lengths) <= 12
    assert all(len(tokenizer.encode(prompt)) <= 3 for prompt in PROMPTS)


def test_every_line_of_the_corpus_is_one_token(tokenizer):
    for workflow in corpus():
        lines = [line for line in workflow.source.split("\n") if line]
        assert len(tokenizer.encode(workflow.source)) == len(lines) + 1  # and the last newline
        assert tokenizer.decode(tokenizer.encode(workflow.source)) == workflow.source


def test_special_tokens_and_template(tokenizer):
    messages = [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "U\n"},
        {"role": "assistant", "content": "A"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|system|>S<|user|>U\n<|assistant|>A<|end|>"
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_the_weights_depend_on_the_seed_alone(tokenizer):
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first = tiny.build_model(tokenizer, seed=0, **SIZES).state_dict()
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(3)
    again = tiny.build_model(tokenizer, seed=0, **SIZES).state_dict()
    other = tiny.build_model(tokenizer, seed=1, **SIZES).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])
    assert first["model.embed_tokens.weight"].shape == (len(tokenizer), 32)
