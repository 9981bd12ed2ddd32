import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sampler_cases import MESSAGES

from grpo_aflow.protocols import Tokenizer
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import UserError


@pytest.fixture(scope="module")
def tokenizer(tiny_policy):
    return ChatTokenizer(tiny_policy.path)


def test_a_prompt_opens_the_assistants_turn(tokenizer):
    as_tokenizer: Tokenizer = tokenizer
    ids = as_tokenizer.encode_chat(MESSAGES)
    assert tokenizer._tokenizer.decode(ids) == "<|user|>math gsm8k\n<|assistant|>"
    assert tokenizer.decode(ids) == "math gsm8k\n"
    assert len(ids) < 10


def test_the_end_of_sequence_is_known(tokenizer):
    assert [tokenizer._tokenizer.convert_ids_to_tokens(i) for i in tokenizer.eos_ids] == ["<|end|>"]


@given(text=st.text(alphabet=st.characters(codec="utf-8"), max_size=60))
def test_any_text_survives(tokenizer, text):
    ids = tokenizer._tokenizer.encode(text, add_special_tokens=False)
    assert tokenizer._tokenizer.decode(ids) == text


def test_a_tokenizer_without_chat_template_is_refused(tiny_policy, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_policy.path, folder)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template; choose an instruct model"):
        ChatTokenizer(folder)
