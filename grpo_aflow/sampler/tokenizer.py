"""The policy's tokenizer with its chat template: text in, token ids out, and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grpo_aflow.types import Message, UserError


class ChatTokenizer:
    """Implements `types.Tokenizer` on a model folder."""

    def __init__(self, path: Path, *, enable_thinking: bool = False) -> None:
        from transformers import AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

        # AutoTokenizer goes by the architecture and would put Qwen2's own pre-tokenizer in the place of the file's.
        loader = PreTrainedTokenizerFast if (path / "tokenizer.json").is_file() else AutoTokenizer
        self._tokenizer = loader.from_pretrained(path)
        self._enable_thinking = enable_thinking
        if not self._tokenizer.chat_template:
            raise UserError(f"model.path: the tokenizer in {path} has no chat template; choose an instruct model")
        eos_ids = {self._tokenizer.eos_token_id}
        if (path / "generation_config.json").is_file():
            listed = GenerationConfig.from_pretrained(path).eos_token_id
            eos_ids.update(listed if isinstance(listed, list) else [listed])
        self.eos_ids: tuple[int, ...] = tuple(sorted(eos_ids - {None}))
        if not self.eos_ids:
            raise UserError(f"model.path: the tokenizer in {path} names no end-of-sequence token; set eos_token in it")
        pad_id = self._tokenizer.pad_token_id
        self.pad_id: int = self.eos_ids[0] if pad_id is None else pad_id

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The prompt's ids, up to and including the opening of the assistant's turn."""
        ids = self._tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False, enable_thinking=self._enable_thinking
        )
        return tuple(ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text, special tokens removed."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))
