"""A pretrained model's folder: found here or fetched from the hub, checked for what it must hold, known by its content.

Whatever is wrong with it and can be seen without loading the weights is said here, in one line and within a second; an
engine would need a minute and print two hundred lines.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grpo_aflow.learner.lora import ALL_LINEAR, LoraSpec
from grpo_aflow.run.files import read_object
from grpo_aflow.run.weights import check_safetensors
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
CONTENT = ("*.json", "*.safetensors", "*.bin", "*.jinja", "*.model", "*.txt")
PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # of the files that are downloaded
UNSCALED = "original_max_position_embeddings"
CHANGING_ROPES = ("dynamic", "longrope")
BASE_FILE = "base_model.json"  # beside an adapter: the `content_id` of the base that it was trained on
BASE_FOLDER = "base_model"  # in a run folder: the base itself, where it is one that was never published

ReportProgress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much
NUM_SAMPLES, SAMPLE_BYTES = 64, 4096  # of every file, spread evenly


def locate(
    path: str, revision: str | None, progress: ReportProgress, check: Callable[[Path], None] = lambda folder: None
) -> Path:
    """The folder that `path` names; a hub id that is not in the hub's cache yet is downloaded. Raises UserError.

    check: refuses a model of the hub by its configuration, which is fetched before its weights.
    """
    check_path(path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    progress(f"model {path}", 0, 1)
    check(_download(path, revision, [CONFIG]))
    folder = _download(path, revision, PATTERNS)
    progress(f"model {path}", 1, 1)
    return folder


def locate_here(path: str, revision: str | None) -> Path | None:
    """The same without a network; None for a hub id that is not in the hub's cache yet. Raises UserError."""
    check_path(path)
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(path, revision=revision, allow_patterns=PATTERNS, local_files_only=True))
    except LocalEntryNotFoundError:
        return None
    except HFValidationError as error:
        raise UserError(f"model.path: {path} is no name of a hub's model; give org/name, or a folder") from error
    has_weights = any(any(folder.glob(name)) for name in ("*.safetensors", "*.bin"))
    return folder if has_weights else None  # a configuration alone: its model was refused, or its download interrupted


def check_path(path: str) -> None:
    """Refuse a folder that is not there, without asking the hub. Raises UserError."""
    looks_like_a_folder = path.startswith(("/", "~", ".")) or path.count("/") != 1
    if looks_like_a_folder and not Path(path).expanduser().is_dir():
        raise UserError(f"model.path: no folder {path} here; give a model folder or a hub id (org/name)")


def base_name(path: str) -> str:
    """What adapters call their base: the hub id as it was given, or the folder from the root."""
    folder = Path(path).expanduser()
    return str(folder.absolute()) if folder.is_dir() else path


def kept_base(adapter: Path) -> Path | None:
    """The copy of an adapter's base that its run has kept: RUN/base_model for RUN/checkpoints/step_000020/adapter."""
    folders = (parent / BASE_FOLDER for parent in adapter.absolute().parents[:3])
    return next((folder for folder in folders if folder.is_dir()), None)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseDescription:
    """What our adapters say of their base."""

    sha256: str


def is_base_of(base: Path, adapter: Path) -> bool | None:
    """Whether the adapter was trained on a base of this content; None: it does not say. UserError for a damaged one."""
    if not (adapter / BASE_FILE).is_file():
        return None
    described = read_object(adapter / BASE_FILE, BaseDescription, "give another checkpoint")
    return bool(described["sha256"] == content_id(base))


def check_folder(folder: Path, max_model_len: int, dtype: str) -> None:
    """Refuse a folder whose configuration does not fit the settings, or whose weights are missing or not whole."""
    check_config(folder, max_model_len, dtype)
    for shard in _shards(folder):
        if not shard.is_file():
            raise UserError(f"model.path: {folder} has no {shard.name}: its weights are not whole; download it again")
        check_safetensors(shard)


def check_config(folder: Path, max_model_len: int, dtype: str) -> None:
    """Refuse a model whose context is too short, or whose numbers `dtype` cannot hold. Raises UserError.

    Where rotary factors change with a sequence's length, every key depends on what comes after it: the sampler, which
    keeps keys, and the learner, which shares a prompt's, would each mean another model.

    fp16 ends at 65,504 and bf16 at 3.4e38: what was trained in bf16 was free to grow beyond fp16, and Qwen2.5's
    residual stream does. The logits are then NaN, or an overflow shows hours later.
    """
    config = _read_json(folder / CONFIG, "give a folder in Hugging Face format")
    if dtype == "float16" and (config.get("dtype") or config.get("torch_dtype")) == "bfloat16":
        raise UserError(
            f"model.dtype=float16: {folder} was published in bfloat16 (its {CONFIG}), and its activations may exceed "
            "65,504, where float16 ends: set model.dtype=bfloat16, or model.dtype=float32 sampler=hf on a card "
            "without bfloat16"
        )
    context, scaled = config.get("max_position_embeddings"), config.get("rope_scaling")
    if isinstance(context, int) and not scaled and max_model_len > context:
        raise UserError(
            f"model.max_model_len={max_model_len} is {max_model_len - context} tokens more than the context of "
            f"{folder}, {context}: set model.max_model_len={context}"
        )
    rope = config.get("rope_parameters") or scaled or {}
    kind = rope.get("rope_type") or rope.get("type")
    unscaled = rope.get(UNSCALED) or config.get(UNSCALED) or context
    if kind in CHANGING_ROPES and isinstance(unscaled, int) and max_model_len > unscaled:
        raise UserError(
            f"model.max_model_len={max_model_len}: beyond {unscaled} tokens {folder} changes its rotary factors with "
            f"the length ({kind}), which sampler and learner cannot do alike: set model.max_model_len={unscaled}"
        )


def layer_names(folder: Path) -> list[str]:
    """Paths of the model's linear layers, LM head left out; no weights are loaded. UserError for an unknown kind."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model.path: transformers cannot build the model of {folder} ({reason[:200]})") from error
    return linear_layers(model)


def adapted_layers(lora: LoraSpec, folder: Path) -> tuple[str, ...]:
    """Plain names of the layers that have an adapter, also of "all-linear".

    What is not named to vLLM it takes to have an adapter everywhere, the LM head included: a buffer as large as the
    vocabulary for each version, and its product for every token.
    """
    if lora.targets != ALL_LINEAR:
        return lora.layers
    return tuple(dict.fromkeys(path.rpartition(".")[2] for path in layer_names(folder)))


def linear_layers(model: PreTrainedModel) -> list[str]:
    """Paths of a model's linear layers in its order, LM head left out."""
    from torch import nn

    head = model.get_output_embeddings()
    return [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]


def content_id(folder: Path) -> str:
    """SHA-256 over a folder's configuration, tokenizer and weights: sizes and samples. Equal copies agree anywhere."""
    digest = hashlib.sha256()
    for path in sorted({file for pattern in CONTENT for file in folder.glob(pattern)}):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            if size <= NUM_SAMPLES * SAMPLE_BYTES:
                digest.update(file.read())
                continue
            for i in range(NUM_SAMPLES):
                file.seek(i * (size - SAMPLE_BYTES) // (NUM_SAMPLES - 1))
                digest.update(file.read(SAMPLE_BYTES))
    return digest.hexdigest()


def _shards(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        index = _read_json(folder / INDEX, "download it again")
        return [folder / name for name in sorted(set(dict(index.get("weight_map") or {}).values()))]
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if any(folder.glob("pytorch_model*.bin")):
        return []
    raise UserError(f"model.path: {folder} holds no weights (model.safetensors); give a folder that does")


def _read_json(file: Path, remedy: str) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise UserError(f"model.path: {file.parent} holds no {file.name}; {remedy}") from error
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"model.path: {file} cannot be read ({error}); {remedy}") from error


def _download(hub_id: str, revision: str | None, patterns: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"model.path: {hub_id} is no folder here and cannot be had from the hub ({type(error).__name__}); "
            "check the name and the network, or give the folder of a downloaded copy"
        ) from error
