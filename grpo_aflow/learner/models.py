"""The config group `model`: which base model a run trains on, and what sampler and learner begin from.

`prepare` builds or finds the base's folder and the warm start. A pretrained base stays as it was published and its warm
start is an adapter, policy version 0; the tiny policy, which nobody published, is warm-started as a whole. What took
time is kept (`preparation.cache`). Nothing heavy is imported before a model is prepared.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.model_folder import (
    ReportProgress,
    base_name,
    check_config,
    check_folder,
    content_id,
    layer_names,
    locate,
    locate_here,
)
from grpo_aflow.learner.preparation.cache import cached_folder, folder_of
from grpo_aflow.learner.preparation.examples import (
    EncodedExamples,
    PromptList,
    Prompts,
    make_examples,
    warm_start_prompts,
)
from grpo_aflow.learner.preparation.reference_workflows import corpus
from grpo_aflow.learner.preparation.threads import one_thread, use_threads
from grpo_aflow.learner.preparation.tokenization import check_context, check_round_trip, num_prompt_tokens
from grpo_aflow.learner.settings import LearnerSettings
from grpo_aflow.learner.warmstart import ReferenceWorkflows, WarmStart
from grpo_aflow.protocols import PreparedModel, Tokenizer
from grpo_aflow.run.cards import Placement
from grpo_aflow.types import Task

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
    progress: ReportProgress
    max_tokens: int  # of a completion
    placement: Placement
    adapter: bool = True  # whether version 0's adapter is wanted
    kept: Path | None = None  # a run's own copy of the base, where it has one


class ModelSource(ABC):
    """Config group `model`: where the policy's base model comes from."""

    __slots__ = ()
    max_model_len: int  # prompt and completion together, in tokens
    device: str  # of learner and sampler, where they name none themselves
    dtype: str
    cpu_threads: int  # of torch, in each process in which the model runs
    follows_instructions: ClassVar[bool]  # whether the base model could execute workflows, too
    published: ClassVar[bool]  # whether others can have it; of one that is not, a run keeps a copy

    @abstractmethod
    def check(self) -> None:
        """Refuse what is missing, before anything is opened; UserError names the fix."""

    @abstractmethod
    def here(self, cache: Path, asked: Preparation) -> Path | None:
        """The base model's folder as it lies on this machine, checked; None where `prepare` would first get it."""

    @abstractmethod
    def prepare(self, cache: Path, asked: Preparation) -> PreparedModel:
        """The model in a folder of its own, built or found under `cache`. Blocking; may take minutes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyPolicy(ModelSource):
    """`model=tiny`: a Qwen2 of 1 to 4 M parameters that the project builds itself, in seconds."""

    follows_instructions: ClassVar[bool] = False  # it can only write workflows
    published: ClassVar[bool] = False

    vocab_size: int  # at most; the tokenizer stops when the corpus has no more pairs to merge
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int  # fewer than num_heads: grouped queries, as in the published models
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
        for name in ("num_layers", "num_heads", "num_kv_heads", "intermediate_size", "max_model_len", "cpu_threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.hidden_size < 1 or self.hidden_size % self.num_heads:
            raise ValueError(f"hidden_size must be a multiple of num_heads; got {self.hidden_size}, {self.num_heads}")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads must be a multiple of num_kv_heads; got {self.num_heads}, {self.num_kv_heads}")
        _check_dtype(self.dtype)

    def check(self) -> None:
        """Nothing can be missing: the project builds it."""

    def here(self, cache: Path, asked: Preparation) -> Path | None:
        """See `ModelSource.here`."""
        folder = folder_of(cache, "tiny", self._identity(asked, warm_start_prompts(asked.prompts, asked.tasks)))
        return folder if folder.is_dir() else None

    def prepare(self, cache: Path, asked: Preparation) -> PreparedModel:
        """Build the model, its warm start included, under `cache` (or find it there, or where the run has kept it)."""
        path = asked.kept or self._cached(cache, asked)
        check_folder(path, self.max_model_len, self.dtype)
        tokenizer = asked.read_tokenizer(path, enable_thinking=False)
        longest = num_prompt_tokens(tokenizer, asked.prompts, asked.tasks)
        check_context(longest, asked.max_tokens, self.max_model_len)
        asked.lora.check_layers(layer_names(path))
        use_threads(self.cpu_threads)
        return PreparedModel(
            path=path,
            name=str(path),
            tokenizer=tokenizer,
            adapter=None,
            device=asked.placement.learner,
            sampler_device=asked.placement.sampler,
            num_sampler_cards=asked.placement.num_sampler_cards,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            cpu_threads=self.cpu_threads,
        )

    def _cached(self, cache: Path, asked: Preparation) -> Path:
        prompt_list = warm_start_prompts(asked.prompts, asked.tasks)
        identity = self._identity(asked, prompt_list)
        return cached_folder(cache, "tiny", identity, lambda folder: self._build(folder, asked, prompt_list))

    def _identity(self, asked: Preparation, prompt_list: PromptList) -> Mapping[str, object]:
        return {
            "model": asdict(self) | {"device": None, "cpu_threads": None, "dtype": None},
            "warmstart": asked.warmstart.identity,
            "prompts": prompt_list,
        }

    def _build(self, folder: Path, asked: Preparation, prompt_list: PromptList) -> None:
        """Write tokenizer and weights, in fp32; sampler and learner load them in the type of `dtype`."""
        from grpo_aflow.learner.preparation import tiny
        from grpo_aflow.learner.preparation.fine_tuning import fine_tune_all

        texts = [workflow.source for workflow in corpus()]
        texts += [message["content"] for _, messages in prompt_list for message in messages]
        tokenizer = tiny.build_tokenizer(texts, vocab_size=self.vocab_size, max_model_len=self.max_model_len)
        model = tiny.build_model(
            tokenizer,
            hidden_size=self.hidden_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            num_kv_heads=self.num_kv_heads,
            intermediate_size=self.intermediate_size,
            max_model_len=self.max_model_len,
            seed=self.seed,
        )
        tokenizer.save_pretrained(folder)
        if isinstance(asked.warmstart, ReferenceWorkflows):
            examples = EncodedExamples(
                asked.read_tokenizer(folder, enable_thinking=False),
                make_examples(prompt_list, asked.warmstart),
                max_model_len=self.max_model_len,
            )
            with one_thread():
                fine_tune_all(model, examples, asked.warmstart, asked.progress, pad_id=tokenizer.pad_token_id)
        tiny.save(model, folder)


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained(ModelSource):
    """A model from a folder or from the Hugging Face hub."""

    follows_instructions: ClassVar[bool] = True
    published: ClassVar[bool] = True

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

    def here(self, cache: Path, asked: Preparation) -> Path | None:
        """See `ModelSource.here`. Raises UserError for a folder that is not whole."""
        folder = locate_here(self.path, self.revision)
        if folder is not None:
            check_folder(folder, self.max_model_len, self.dtype)
        return folder

    def prepare(self, cache: Path, asked: Preparation) -> PreparedModel:
        """Find the model, check that it is whole and its tokenizer sound, and train the warm start's adapter."""
        path = locate(
            self.path,
            self.revision,
            asked.progress,
            check=partial(check_config, max_model_len=self.max_model_len, dtype=self.dtype),
        )
        check_folder(path, self.max_model_len, self.dtype)
        tokenizer = asked.read_tokenizer(path, enable_thinking=self.enable_thinking)
        check_round_trip(tokenizer, path)
        longest = num_prompt_tokens(tokenizer, asked.prompts, asked.tasks)
        check_context(longest, asked.max_tokens, self.max_model_len)
        asked.lora.check_layers(layer_names(path))
        use_threads(self.cpu_threads)
        base = PreparedModel(
            path=path,
            name=base_name(self.path),
            tokenizer=tokenizer,
            adapter=None,
            device=asked.placement.learner,
            sampler_device=asked.placement.sampler,
            num_sampler_cards=asked.placement.num_sampler_cards,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            cpu_threads=self.cpu_threads,
        )
        if asked.adapter and isinstance(asked.warmstart, ReferenceWorkflows):
            return replace(base, adapter=_warm_start(base, cache, asked, asked.warmstart))
        return base

    def check(self) -> None:
        """Refuse a folder that is not there or not whole, and what the settings do not fit, before all else is opened.

        Of a hub id that is what its copy in the hub's cache says, where there is one; its download may go on. Raises
        UserError.
        """
        folder = locate_here(self.path, self.revision)
        if folder is None:
            return
        if Path(self.path).expanduser().is_dir():
            check_folder(folder, self.max_model_len, self.dtype)
        else:
            check_config(folder, self.max_model_len, self.dtype)


def _warm_start(base: PreparedModel, cache: Path, asked: Preparation, warmstart: ReferenceWorkflows) -> Path:
    """The folder of the warm start's adapter, trained or found."""
    prompt_list = warm_start_prompts(asked.prompts, asked.tasks)
    examples = EncodedExamples(base.tokenizer, make_examples(prompt_list, warmstart), max_model_len=base.max_model_len)
    name = "warm-start"
    identity = {
        "model": {"content": content_id(base.path), "dtype": base.dtype},
        "lora": asdict(asked.lora),
        "warmstart": warmstart.identity,
        "examples": examples.identity,
    }
    state = folder_of(cache, name, identity).with_suffix(".state")

    def build(folder: Path) -> None:
        from grpo_aflow.learner.policy.model import PolicyModel
        from grpo_aflow.learner.policy.rows import Limits
        from grpo_aflow.learner.preparation.fine_tuning import fine_tune_adapter

        settings = asked.learner
        policy = PolicyModel(
            base.path,
            asked.lora,
            settings,
            device=base.device,
            dtype=base.dtype,
            seed=warmstart.seed,
            limits=Limits(rows=settings.micro_batch, tokens=settings.max_tokens_per_micro_batch),
            name=base.name,
        )
        fine_tune_adapter(policy, examples, warmstart, asked.progress, state=state)
        policy.save(folder)

    folder = cached_folder(cache, name, identity, build)
    state.unlink(missing_ok=True)  # not before: a disk may be too full for the adapter
    return folder


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype}")
