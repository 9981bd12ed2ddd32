"""The one tokenizer of a run, of every family that models come with: each gives back the reference workflows, or says
that it cannot."""

import json
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from grpo_aflow.learner.models import check_round_trip
from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import UserError

CHATML = (
    "{% for m in messages %}<|start|>{{ m['role'] }}\n{{ m['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% if not enable_thinking %}no thinking\n{% endif %}{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
SILENT_SYSTEM = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
SPECIAL = ["<unk>", "<s>", "</s>", "<|start|>", "<|end|>"]
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Two spaces,\n\ttab\n"}]
TEXTS = [workflow.source for workflow in corpus()] + [message["content"] for message in MESSAGES]


def byte_level():
    """GPT-2, Qwen, Llama 3: bytes as letters, words cut by a pattern."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet))
    return tokenizer


def llama():
    """Llama 2, Mistral: SentencePiece's BPE with bytes to fall back on; spaces are letters, one stands in front."""
    pieces = {token: i for i, token in enumerate([*SPECIAL[:3], *(f"<0x{byte:02X}>" for byte in range(256)), "▁"])}
    for character in sorted(set("".join(TEXTS)) - set(" \n\t")):
        pieces.setdefault(character, len(pieces))
    merges = [("▁", "▁"), ("▁▁", "▁▁"), ("s", "e"), ("se", "l"), ("sel", "f"), ("▁", "self")]
    for left, right in merges:
        pieces.setdefault(left + right, len(pieces))
    tokenizer = Tokenizer(models.BPE(pieces, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


def unigram():
    """T5-like and many multilingual ones: SentencePiece's unigram model, spaces and line ends as letters."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never", split=False)
    tokenizer.train_from_iterator(
        TEXTS, trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<unk>"])
    )
    return tokenizer


def word_piece():
    """BERT: lower case, spaces thrown away."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=["[UNK]"]))
    return tokenizer


def folder_of(tokenizer, folder, *, template=CHATML, model_type=None, **tokens):
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL[1:]])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **tokens).save_pretrained(folder)
    if model_type:
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps(config | {"tokenizer_class": "LlamaTokenizer"}))
        (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.mark.parametrize("family", [byte_level, llama, unigram])
def test_every_reference_workflow_comes_back_as_it_was(tmp_path, family):
    read = ChatTokenizer(folder_of(family(), tmp_path))
    check_round_trip(read, tmp_path)
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for workflow in corpus():
        assert read.encode(workflow.source) == tuple(own.encode(workflow.source, add_special_tokens=False).ids)
    prompt = read.decode(read.encode_chat(MESSAGES))
    assert "Two spaces,\n\ttab" in prompt


def test_a_tokenizer_that_cannot_write_python_is_refused_with_the_line(tmp_path):
    read = ChatTokenizer(folder_of(word_piece(), tmp_path))
    with pytest.raises(
        UserError, match=r"cannot write Python: the line 'class Workflow:' comes back as 'class workflow"
    ):
        check_round_trip(read, tmp_path)


def test_ids_are_the_files_own_where_the_architectures_class_would_cut_otherwise(tmp_path):
    """transformers' auto class goes by the name of the tokenizer's class and puts its own rules in the place of the
    file's; this is the reason for not using it."""
    folder = folder_of(byte_level(), tmp_path, model_type="llama")
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = corpus()[0].source
    assert ChatTokenizer(folder).encode(text) == tuple(own.encode(text, add_special_tokens=False).ids)
    automatic = AutoTokenizer.from_pretrained(folder)
    assert automatic.decode(automatic.encode(text, add_special_tokens=False)) != text


def test_without_pad_and_eos_the_template_says_how_a_turn_ends(tmp_path):
    read = ChatTokenizer(folder_of(byte_level(), tmp_path))
    own = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert read.end_id == read.pad_id == own.token_to_id("<|end|>")
    assert read.eos_ids == (read.end_id,)


def test_a_turn_ends_with_the_templates_token_and_sampling_stops_at_every_one(tmp_path):
    folder = folder_of(byte_level(), tmp_path, eos_token="</s>", pad_token="<unk>")
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [own.token_to_id("<s>")]}))
    read = ChatTokenizer(folder)
    ids = {name: own.token_to_id(name) for name in ("<s>", "</s>", "<|end|>", "<unk>")}
    assert read.end_id == ids["<|end|>"]
    assert set(read.eos_ids) == {ids["<s>"], ids["</s>"], ids["<|end|>"]}
    assert read.pad_id == ids["<unk>"]


def test_with_no_end_anywhere_one_line_says_so(tmp_path):
    plain = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    with pytest.raises(UserError, match="has no end-of-sequence token and its chat template ends the assistant's turn"):
        ChatTokenizer(folder_of(byte_level(), tmp_path, template=plain))


@pytest.mark.parametrize("template", [NO_SYSTEM, SILENT_SYSTEM])
def test_a_template_without_a_system_role_gets_it_in_the_first_user_message(tmp_path, template):
    read = ChatTokenizer(folder_of(byte_level(), tmp_path, template=template))
    text = read.decode(read.encode_chat(MESSAGES))
    assert "user\nBe brief.\n\n  Two spaces," in text
    assert "system" not in text


def test_thinking_is_switched_in_every_prompt(tmp_path):
    folder = folder_of(byte_level(), tmp_path)
    for thinking in (False, True):
        read = ChatTokenizer(folder, enable_thinking=thinking)
        assert ("no thinking" in read.decode(read.encode_chat(MESSAGES))) != thinking


def test_the_warm_start_is_on_the_prompts_that_are_sampled(tmp_path):
    from grpo_aflow.learner.preparation.examples import EncodedExamples, make_examples, warm_start_prompts
    from grpo_aflow.learner.warmstart import ReferenceWorkflows

    warmstart = ReferenceWorkflows(num_steps=2, batch_size=4, learning_rate=1e-3, preference=0.2, seed=0)
    prompts = warm_start_prompts(lambda task: [{"role": "user", "content": task.dataset}], [])
    read = ChatTokenizer(folder_of(byte_level(), Path(tmp_path)), enable_thinking=False)
    examples = EncodedExamples(read, make_examples(prompts, warmstart), max_model_len=4096)
    sampled = {read.encode_chat(messages) for _, messages in prompts}
    sources = {workflow.source for workflow in corpus()}
    for step in examples.prompt_rows(warmstart):
        for group in step:
            assert group.prompt_ids in sampled
            assert read.decode(group.prompt_ids).endswith("no thinking\n")
            for ids in group.completions:
                assert ids[-1] == read.end_id
                assert read.decode(ids) in sources
