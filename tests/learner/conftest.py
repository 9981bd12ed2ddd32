from dataclasses import replace

import pytest
from model_cases import PRETRAINED, TINY, prepare

from grpo_aflow.learner.warmstart import NoWarmStart


@pytest.fixture(scope="session")
def random_base(tmp_path_factory):
    """A folder with a random two-layer Qwen2 of hidden size 64."""
    import torch
    from learner_cases import CONTEXT, VOCAB
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
    )
    path = tmp_path_factory.mktemp("random_base")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2ForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A random model with its tokenizer, as somebody might have published it."""
    folder = prepare(TINY, tmp_path_factory.mktemp("published"), NoWarmStart())[0].path
    return replace(PRETRAINED, path=str(folder))
