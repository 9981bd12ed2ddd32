"""The config group `model`: which base model a run trains on, and the folder that sampler and learner load it from.

`prepare` builds or finds that folder, the warm start included. Results are cached by content: the key covers the
settings, the corpus, the prompts, the versions of the libraries and our own code, and a folder appears under its name
only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from grpo_aflow.learner.reference_workflows import corpus
from grpo_aflow.learner.warmstart import (
    Progress,
    Prompts,
    ReferenceWorkflows,
    WarmStart,
    fine_tune,
    make_examples,
    warm_start_prompts,
)
from grpo_aflow.types import Message, Task, UserError

DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreparedModel:
    """The base model of a run, in a folder that transformers and vLLM load as it stands."""

    path: Path
    device: str  # "cpu", "cuda" or "cuda:1"
    dtype: str  # one of DTYPES
    max_model_len: int  # prompt and completion together, in tokens
    enable_thinking: bool  # handed to the chat template; templates that do not know it ignore it


def default_cache() -> Path:
    """Where prepared models are kept: GRPO_AFLOW_CACHE, else ~/.cache/grpo-aflow."""
    return Path(os.environ.get("GRPO_AFLOW_CACHE") or Path.home() / ".cache" / "grpo-aflow")


@dataclass(frozen=True, kw_only=True, slots=True)
class TinyPolicy:
    """`model=tiny`: a Qwen2 of 1 to 4 M parameters that the project builds itself, in seconds."""

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

    def prepare(
        self, cache: Path, *, warmstart: WarmStart, prompts: Prompts, tasks: Sequence[Task], progress: Progress
    ) -> PreparedModel:
        """Build the model (or find it in the cache) and return its folder.

        Args:
            cache: parent of the folder, see `default_cache`.
            prompts: the run's prompt for a task; the warm start is on these prompts.
            tasks: the run's training tasks; a dataset that has none is represented by a stand-in.
            progress: called with (what, done, total).
        """
        prompt_list = warm_start_prompts(prompts, tasks)
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
            if isinstance(warmstart, ReferenceWorkflows):
                with _one_thread():
                    fine_tune(model, tokenizer, make_examples(prompt_list, warmstart), warmstart, progress)
            _save(model, tokenizer, folder, dtype="float32")  # whoever loads it says in which one it works

        path = cached_folder(cache, "tiny", identity, build)
        _use_threads(self.cpu_threads)
        return PreparedModel(
            path=path,
            device=check_device(self.device),
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            enable_thinking=False,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A model from a folder or from the Hugging Face hub."""

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

    def prepare(
        self, cache: Path, *, warmstart: WarmStart, prompts: Prompts, tasks: Sequence[Task], progress: Progress
    ) -> PreparedModel:
        """Find the model, check that it is complete, fine-tune and merge where a warm start is asked for."""
        device = check_device(self.device)
        path = self.locate(progress)
        if isinstance(warmstart, ReferenceWorkflows):
            path = self._warm_started(path, device, cache, warmstart, warm_start_prompts(prompts, tasks), progress)
        _use_threads(self.cpu_threads)
        return PreparedModel(
            path=path,
            device=device,
            dtype=self.dtype,
            max_model_len=self.max_model_len,
            enable_thinking=self.enable_thinking,
        )

    def check(self) -> None:
        """Refuse a folder that is not there, before anything is opened. Raises UserError."""
        looks_like_a_folder = self.path.startswith(("/", "~", ".")) or self.path.count("/") != 1
        if looks_like_a_folder and not Path(self.path).expanduser().is_dir():
            raise UserError(f"model.path: no folder {self.path} here; give a model folder or a hub id (org/name)")

    def locate(self, progress: Progress) -> Path:
        """The model's folder; downloads it when `path` is a hub id that is not in the hub's cache yet."""
        self.check()
        folder = Path(self.path).expanduser()
        if not folder.is_dir():
            folder = _download(self.path, self.revision, progress)
        missing = [name for name in ("config.json", "tokenizer_config.json") if not (folder / name).is_file()]
        if missing:
            raise UserError(f"model.path: {folder} holds no {missing[0]}; give a folder in Hugging Face format")
        return folder

    def _warm_started(
        self,
        path: Path,
        device: str,
        cache: Path,
        warmstart: ReferenceWorkflows,
        prompt_list: list[tuple[Any, tuple[Message, ...]]],
        progress: Progress,
    ) -> Path:
        files = sorted((file.name, file.stat().st_size) for file in path.iterdir() if file.is_file())
        identity = {
            "model": {"path": str(path.resolve()), "files": files, "dtype": self.dtype},
            "warmstart": warmstart.identity,
            "prompts": prompt_list,
        }

        def build(folder: Path) -> None:
            import torch
            from peft import LoraConfig, get_peft_model
            from transformers import AutoModelForCausalLM, AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(path)
            if tokenizer.pad_token_id is None:
                tokenizer.pad_token = tokenizer.eos_token
            base = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, self.dtype)).to(device)
            lora = LoraConfig(
                r=warmstart.lora_rank, lora_alpha=2 * warmstart.lora_rank, target_modules="all-linear", lora_dropout=0.0
            )
            with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
                torch.manual_seed(warmstart.seed)
                model = get_peft_model(base, lora)
            fine_tune(model, tokenizer, make_examples(prompt_list, warmstart), warmstart, progress)
            _save(model.merge_and_unload(), tokenizer, folder, dtype=self.dtype)

        return cached_folder(cache, f"warm-{path.name}", identity, build)


def cached_folder(cache: Path, name: str, identity: Any, build: Callable[[Path], None]) -> Path:
    """The folder for this identity under `cache`; made by `build` in a temporary one and renamed when complete."""
    code = {file: (Path(__file__).parent / file).read_text() for file in ("tiny.py", "warmstart.py", "models.py")}
    libraries = {library: version(library) for library in ("torch", "transformers", "tokenizers", "peft")}
    key = json.dumps({"identity": identity, "code": code, "libraries": libraries}, sort_keys=True, default=str)
    target = cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if target.is_dir():
        return target
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


def _save(model: Any, tokenizer: Any, folder: Path, *, dtype: str) -> None:
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()  # the caller's display shows progress
    model.to(getattr(torch, dtype)).cpu().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _download(hub_id: str, revision: str | None, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
    progress(f"model {hub_id}", 0, 1)
    try:
        folder = snapshot_download(hub_id, revision=revision, allow_patterns=patterns)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"model.path: {hub_id} is no folder here and cannot be had from the hub ({type(error).__name__}); "
            "check the name and the network, or give the folder of a downloaded copy"
        ) from error
    progress(f"model {hub_id}", 1, 1)
    return Path(folder)


def _check_dtype(dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}; got {dtype}")
