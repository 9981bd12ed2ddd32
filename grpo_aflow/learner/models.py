"""The config group `model`: which base model a run trains on, and what sampler and learner begin from.

`prepare` builds or finds the base's folder and the warm start. A pretrained base stays as it was published and its warm
start is an adapter, policy version 0; the tiny policy, which nobody published, is warm-started as a whole. Results are
cached by content: the key covers the settings, the corpus, the prompts, the versions of the libraries and our own code,
and a folder appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, Protocol

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.model_folder import base_name, check_folder, check_path, content_id, layer_names, locate
from grpo_aflow.learner.reference_workflows import corpus
from grpo_aflow.learner.settings import LearnerSettings
from grpo_aflow.learner.warmstart import (
    EncodedExamples,
    Progress,
    Prompts,
    ReferenceWorkflows,
    WarmStart,
    make_examples,
    warm_start_prompts,
)
from grpo_aflow.protocols import PreparedModel, Tokenizer
from grpo_aflow.run.weights import check_safetensors
from grpo_aflow.types import Task, UserError

LONGEST_PROMPTS = 32  # whose tokens are counted
DTYPES = ("float32", "bfloat16", "float16")


class ReadTokenizer(Protocol):
    """Opens the one tokenizer of a run."""

    def __call__(self, path: Path, /, *, enable_thinking: bool) -> Tokenizer: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Preparation:
    """What a model is prepared with, besides its own settings."""

    warmstart: WarmStart
    lora: LoraSpec  # the run's: the warm start's adapter is trained on
    learner: LearnerSettings
    prompts: Prompts  # the run's prompt for a task; the warm start is on these prompts
    tasks: Sequence[Task]  # the run's training tasks; a dataset that has none is represented by a stand-in
    read_tokenizer: ReadTokenizer
    progress: Progress
    max_tokens: int  # of a completion
    adapter: bool = True  # whether version 0's adapter is wanted


def default_cache() -> Path:
    """Where prepared models are kept: GRPO_AFLOW_CACHE, else ~/.cache/grpo-aflow."""
    return Path(os.environ.get("GRPO_AFLOW_CACHE") or Path.home() / ".cache" / "grpo-aflow")


class ModelSource(ABC):
    """Config group `model`: where the policy's base model comes from."""

    __slots__ = ()
    max_model_len: int  # prompt and completion together, in tokens
    follows_instructions: ClassVar[bool]  # whether the base model could execute workflows, too

    @abstractmethod
    def check(self) -> None:
        """Refuse what is missing, before anything is opened; UserError names the fix."""

    @abstractmethod
    def prepare(self, cache: Path, asked: Preparation) -> PreparedModel:
        """The model in a folder of its own, built or found under `cache`. Blocking; may take minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyPolicy(ModelSource):
    """`model=tiny`: a Qwen2 of 1 to 4 M parameters that the project builds itself, in seconds."""

    follows_instructions: ClassVar[bool] = False  # it can only write workflows

    vocab_size: int  # at most; the tokenizer stops when the corpus has no more pairs to merge
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_model_len: int
    seed: int
    device: str
    dtype: str
    cpu_threads: int

    def __post_init__(self) -> None:
        if self.vocab_size < 300:
            raise ValueError(
                f"vocab_size must be at least 300 (256 bytes and the special tokens); got {self.vocab_size}"
            )
        for name in ("num_layers", "num_heads", "intermediate_size", "max_model_len", "cpu_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.hidden_size < 1 or self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size must be a multiple of num_heads; got {self.hidden_size}, {self.num_heads}")
        _check_dtype(self.dtype)

    def check(self) -> None:
        """Nothing can be missing: the project builds it."""

    def prepare(self, cache: Path, asked: Preparation) -> PreparedModel:
        """Build the model, its warm start included, under `cache` (or find it there)."""
        device, warmstart = check_device(self.device), asked.warmstart
        prompt_list = warm_start_prompts(asked.prompts, asked.tasks)
        identity = {
            "model": asdict(self) | {"device": None, "cpu_threads": None, "dtype": None},
            "warmstart": warmstart.identity,
            "prompts": prompt_list,
        }

        def build(folder: Path) -> None:
            from grpo_aflow.learner import tiny

            texts = [workflow.source for workflow in corpus()]
            texts += [message["content"] for _, messages in prompt_list for message in messages]
            tokenizer = tiny.build_tokenizer(texts, vocab_size=self.vocab_size, max_model_len=self.max_model_len)
            model = tiny.build_model(
                tokenizer,
                hidden_size=self.hidden_size,
                num_layers=self.num_layers,
                num_heads=self.num_heads,
                intermediate_size=self.intermediate_size,
                max_model_len=self.max_model_len,
                seed=self.seed,
            )
            tokenizer.save_pretrained(folder)
            if isinstance(warmstart, ReferenceWorkflows):
                from grpo_aflow.learner.fine_tuning import fine_tune_all

                read = asked.read_tokenizer(folder, enable_thinking=False)
                examples = EncodedExamples(
                    read, make_examples(prompt_list, warmstart), max_model_len=self.max_model_len
                )
                with _one_thread():
                    fine_tune_all(model, examples, warmstart, asked.progress, pad_id=tokenizer.pad_token_id)
            _save(model, folder)  # in fp32: whoever loads it says in which type it works

        path = cached_folder(cache, "tiny", identity, build)
        tokenizer = asked.read_tokenizer(path, enable_thinking=False)
        longest = num_prompt_tokens(tokenizer, asked.prompts, asked.tasks)
        check_context(longest, asked.max_tokens, self.max_model_len)
        _use_threads(self.cpu_threads)
        return PreparedModel(
            path=path,
            name=str(path),
            tokenizer=tokenizer,
            adapter=None,
            device=device,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained(ModelSource):
    """A model from a folder or from the Hugging Face hub."""

    follows_instructions: ClassVar[bool] = True

    path: str  # a folder, or a hub id such as Qwen/Qwen2.5-7B-Instruct
    revision: str | None
    max_model_len: int
    enable_thinking: bool
    device: str
    dtype: str
    cpu_threads: int

    def __post_init__(self) -> None:
        if not self.path:
            raise ValueError("path must name a folder or a hub id; got an empty string")
        for name in ("max_model_len", "cpu_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        _check_dtype(self.dtype)

    def prepare(self, cache: Path, asked: Preparation) -> PreparedModel:
        """Find the model, check that it is whole and its tokenizer sound, and train the warm start's adapter."""
        device = check_device(self.device)
        path = locate(self.path, self.revision, asked.progress)
        check_folder(path, self.max_model_len)
        tokenizer = asked.read_tokenizer(path, enable_thinking=self.enable_thinking)
        check_round_trip(tokenizer, path)
        longest = num_prompt_tokens(tokenizer, asked.prompts, asked.tasks)
        check_context(longest, asked.max_tokens, self.max_model_len)
        asked.lora.check_layers(layer_names(path))
        _use_threads(self.cpu_threads)
        base = PreparedModel(
            path=path,
            name=base_name(self.path),
            tokenizer=tokenizer,
            adapter=None,
            device=device,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
        )
        if asked.adapter and isinstance(asked.warmstart, ReferenceWorkflows):
            return replace(base, adapter=_warm_start(base, cache, asked, asked.warmstart))
        return base

    def check(self) -> None:
        """Refuse a folder that is not there, before anything is opened. Raises UserError."""
        check_path(self.path)


def check_round_trip(tokenizer: Tokenizer, path: Path) -> None:
    """Raise UserError when the tokenizer does not give back a reference workflow as it was."""
    for workflow in corpus():
        back = tokenizer.decode(tokenizer.encode(workflow.source))
        if back != workflow.source:
            pairs = zip_longest(workflow.source.split("\n"), back.split("\n"), fillvalue="")
            line, other = next(pair for pair in pairs if pair[0] != pair[1])
            raise UserError(
                f"model.path: the tokenizer in {path} cannot write Python: the line {line!r} comes back as {other!r}; "
                "choose a model whose tokenizer keeps case and spaces"
            )


def check_context(num_prompt_tokens: int, max_tokens: int, max_model_len: int) -> None:
    """Refuse a prompt that leaves less room than `max_tokens` in the context. Raises UserError with the figures."""
    excess = num_prompt_tokens + max_tokens - max_model_len
    if excess > 0:
        raise UserError(
            f"a prompt of {num_prompt_tokens} tokens and sampler.max_tokens={max_tokens} are {excess} tokens more than "
            f"model.max_model_len={max_model_len}: raise model.max_model_len, lower sampler.max_tokens, or set "
            "prompt=compact"
        )


def num_prompt_tokens(tokenizer: Tokenizer, prompts: Prompts, tasks: Sequence[Task]) -> int:
    """Tokens of the longest prompt; those of the longest problems are counted."""
    longest = sorted(tasks, key=lambda task: len(task.problem))[-LONGEST_PROMPTS:]
    return max((len(tokenizer.encode_chat(prompts(task))) for task in longest), default=0)


def _warm_start(base: PreparedModel, cache: Path, asked: Preparation, warmstart: ReferenceWorkflows) -> Path:
    """The folder of the warm start's adapter, trained or found."""
    prompt_list = warm_start_prompts(asked.prompts, asked.tasks)
    examples = EncodedExamples(base.tokenizer, make_examples(prompt_list, warmstart), max_model_len=base.max_model_len)
    identity = {
        "model": {"content": content_id(base.path), "dtype": base.dtype},
        "lora": asdict(asked.lora),
        "warmstart": warmstart.identity,
        "examples": examples.identity,
    }

    name = "warm-start"

    def build(folder: Path) -> None:
        from grpo_aflow.learner.fine_tuning import fine_tune_adapter
        from grpo_aflow.learner.policy import Policy
        from grpo_aflow.learner.rows import Limits

        settings = asked.learner
        policy = Policy(
            base.path,
            asked.lora,
            settings,
            device=base.device,
            dtype=base.dtype,
            seed=warmstart.seed,
            limits=Limits(rows=settings.micro_batch, tokens=settings.max_tokens_per_micro_batch),
            name=base.name,
        )
        state = folder.parent / f"{key_of(cache, name, identity).name}.state"
        fine_tune_adapter(policy, examples, warmstart, asked.progress, state=state)
        policy.save(folder)

    return cached_folder(cache, name, identity, build)


def key_of(cache: Path, name: str, identity: Any) -> Path:
    """The folder's name under `cache` for what decides its content."""
    files = ("tiny.py", "warmstart.py", "fine_tuning.py", "models.py")
    code = {file: (Path(__file__).parent / file).read_text() for file in files}
    libraries = {library: version(library) for library in ("torch", "transformers", "tokenizers", "peft")}
    key = json.dumps({"identity": identity, "code": code, "libraries": libraries}, sort_keys=True, default=str)
    return cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def cached_folder(cache: Path, name: str, identity: Any, build: Callable[[Path], None]) -> Path:
    """The folder for this identity under `cache`; made by `build` in a temporary one and renamed when complete.

    A folder whose weights are gone or cut is made anew.
    """
    target = key_of(cache, name, identity)
    if target.is_dir():
        if _has_whole_weights(target):
            return target
        shutil.rmtree(target)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache))
    except OSError as error:
        raise UserError(
            f"cannot write to the model cache {cache} ({error.strerror}); set GRPO_AFLOW_CACHE to a folder of yours"
        ) from error
    try:
        build(temporary)
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError:
        if not target.is_dir():  # otherwise another run was faster, with the same content
            raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def check_device(device: str) -> str:
    """Return `device` when torch has it; raises UserError with the mend otherwise."""
    import torch

    if device != "cpu" and not device.startswith("cuda"):
        raise UserError(f"model.device must be cpu or cuda; got {device}")
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError("model.device=cuda, but torch finds no NVIDIA card here; set model.device=cpu")
    return device


def _use_threads(number: int) -> None:
    """How many threads an operation of this process's models may use on the CPU."""
    import torch

    torch.set_num_threads(number)


@contextmanager
def _one_thread() -> Iterator[None]:
    """For operations this small more threads only wait for each other; and the sums no longer depend on the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _has_whole_weights(folder: Path) -> bool:
    weights = list(folder.glob("*.safetensors"))
    try:
        for file in weights:
            check_safetensors(file)
    except UserError:
        return False
    return bool(weights)


def _save(model: Any, folder: Path) -> None:
    from transformers.utils import logging

    logging.disable_progress_bar()  # the caller's display shows progress
    model.save_pretrained(folder)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype}")
