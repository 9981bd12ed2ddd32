"""The policy's tokenizer with its chat template: text in, token ids out, and back.

A run makes one of it, and everything that meets tokens uses that one: sampling, warm start, learner, log-prob check.
It is the model's own `tokenizer.json` where there is one: going by the architecture, as transformers' auto classes do,
puts another pre-tokenizer in its place, and then ids differ from those that the model was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from grpo_aflow.types import Message, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model")


class ChatTokenizer:
    """Implements `protocols.Tokenizer` on a model folder. Raises UserError, naming the folder, for what cannot work."""

    def __init__(self, path: Path, *, enable_thinking: bool = False) -> None:
        self._path = path
        self._tokenizer = _load(path)
        self._enable_thinking = enable_thinking
        if not self._tokenizer.chat_template:
            raise UserError(f"model.path: the tokenizer in {path} has no chat template; choose an instruct model")
        self._system_role = self._takes_system_role()
        turn_end = self._turn_end()
        listed = [*_listed_eos(path), self._tokenizer.eos_token_id]
        known = sorted({token for token in listed if token is not None})
        if not known and turn_end is None:
            raise UserError(
                f"model.path: the tokenizer in {path} has no end-of-sequence token and its chat template ends the "
                "assistant's turn with none; set eos_token in its tokenizer_config.json"
            )
        self.eos_ids: tuple[int, ...] = tuple(sorted({*known, *([] if turn_end is None else [turn_end])}))
        self.end_id: int = self.eos_ids[0] if turn_end is None else turn_end
        pad_id = self._tokenizer.pad_token_id
        self.pad_id: int = self.end_id if pad_id is None else pad_id

    def encode_chat(self, messages: Sequence[Message]) -> tuple[int, ...]:
        """The prompt's ids, up to and including the opening of the assistant's turn.

        A system message goes into the first user message where the template knows no system role.
        """
        return self._render(messages if self._system_role else _folded(messages), open_turn=True)

    def encode(self, text: str) -> tuple[int, ...]:
        """The ids of a text alone, without any special token around it."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def decode(self, token_ids: Sequence[int]) -> str:
        """The text, special tokens removed, every space as it was written."""
        text = self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def _render(self, messages: Sequence[Message], *, open_turn: bool) -> tuple[int, ...]:
        from jinja2 import TemplateError

        try:
            ids = self._tokenizer.apply_chat_template(
                [{"role": message["role"], "content": message["content"]} for message in messages],
                add_generation_prompt=open_turn,
                return_dict=False,
                enable_thinking=self._enable_thinking,
            )
        except TemplateError as error:
            raise UserError(
                f"model.path: the chat template of the tokenizer in {self._path} fails: "
                f"{(str(error).splitlines() or [type(error).__name__])[0]}; correct it or choose another model"
            ) from error
        return tuple(ids)

    def _takes_system_role(self) -> bool:
        """Whether the template knows system messages; raises UserError when it fails without one too."""
        user: Message = {"role": "user", "content": "x"}
        self._render([user], open_turn=True)
        try:
            ids = self._render([{"role": "system", "content": "once upon"}, user], open_turn=True)
        except UserError:
            return False
        return "once upon" in self.decode(ids)

    def _turn_end(self) -> int | None:
        """The special token behind the assistant's words in the template, by which the model ends its turn."""
        special = {token for token, added in self._tokenizer.added_tokens_decoder.items() if added.special}
        turn: list[Message] = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "answer"}]
        ids = self._render(turn, open_turn=False)
        for index in range(len(ids), 0, -1):
            if self.decode(ids[index - 1 : index]).strip() and ids[index - 1] not in special:
                return next((token for token in ids[index:] if token in special), None)
        return None


def _load(path: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not any((path / name).is_file() for name in TOKENIZER_FILES):
        raise UserError(f"model.path: {path} holds no tokenizer ({', '.join(TOKENIZER_FILES[:2])}); copy it there")
    loader = PreTrainedTokenizerFast if (path / "tokenizer.json").is_file() else AutoTokenizer
    try:
        return loader.from_pretrained(path)
    except Exception as error:  # the tokenizers library raises bare Exception for a file that it cannot read
        raise UserError(
            f"model.path: the tokenizer in {path} cannot be read ({(str(error).splitlines() or [''])[0]}); "
            "copy or download it again"
        ) from error


def _listed_eos(path: Path) -> list[int | None]:
    """What generation_config.json names: models of several ends list them there."""
    file = path / "generation_config.json"
    if not file.is_file():
        return []
    try:
        listed = json.loads(file.read_text(encoding="utf-8")).get("eos_token_id")
    except (ValueError, AttributeError) as error:
        raise UserError(f"model.path: {file} cannot be read ({error}); copy or download it again") from error
    return listed if isinstance(listed, list) else [listed]


def _folded(messages: Sequence[Message]) -> list[Message]:
    """The messages without a system role: its text opens the first user message."""
    system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
    rest: list[Message] = [message for message in messages if message["role"] != "system"]
    if not system or not rest:
        return rest
    return [{"role": rest[0]["role"], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
