import re
from statistics import median

import pytest
import torch

from grpo_aflow.learner.preparation import tiny
from grpo_aflow.learner.preparation.reference_workflows import corpus

PROMPTS = [f"{domain}\n" for domain in ("math gsm8k", "qa squad2", "code mbpp")]
SIZES = {
    "hidden_size": 32,
    "num_layers": 1,
    "num_heads": 1,
    "num_kv_heads": 1,
    "intermediate_size": 64,
    "max_model_len": 64,
}


@pytest.fixture(scope="module")
def tokenizer():
    texts = [workflow.source for workflow in corpus()] + PROMPTS
    return tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=64)


def test_a_workflow_is_composed_of_at_least_forty_tokens(tokenizer):
    lengths = [len(tokenizer.encode(workflow.source)) for workflow in corpus()]
    assert median(lengths) >= 40
    assert max(lengths) <= 128  # the tests' models, and vLLM's on two cores, have to write them
    assert all(len(tokenizer.encode(prompt)) <= 3 for prompt in PROMPTS)


def test_a_token_is_at_most_one_word_and_any_text_comes_back(tokenizer):
    for text in [*(workflow.source for workflow in corpus()), "naïve  _x1\n\n\t`2`", ""]:
        pieces = [tokenizer.decode([token]) for token in tokenizer.encode(text)]
        assert "".join(pieces) == text or not text.isascii()
        assert all(len(re.findall(r"\w+", piece)) <= 1 for piece in pieces)
        assert all("\n" not in piece.lstrip("\n") for piece in pieces)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_word_of_the_corpus_is_one_token(tokenizer):
    source = corpus()[0].source
    assert [tokenizer.decode([token]) for token in tokenizer.encode(source)][:4] == [
        "class",
        " Workflow:",
        "\n    def",
        " __init__(",
    ]


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
