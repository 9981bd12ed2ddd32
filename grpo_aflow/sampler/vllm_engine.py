"""Starting vLLM's engine: its arguments, its environment, and a clear line where it cannot start.

That takes half a minute on two cores; vLLM is imported only then.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from pathlib import Path
from typing import TYPE_CHECKING, cast

from grpo_aflow.protocols import PreparedModel
from grpo_aflow.run.cards import visible_devices
from grpo_aflow.run.signals import ANNOUNCED, SIGNALS
from grpo_aflow.run.watchdog import descendants, mapped_segments, name_of
from grpo_aflow.sampler.cache_use import CacheUse, told_to
from grpo_aflow.sampler.requirements import check_builds, check_shared_memory
from grpo_aflow.sampler.settings import (
    CPU_KV_CACHE_GB,
    CPU_LORA_SWITCH,
    FLOAT32_PRODUCTS,
    AdapterLimits,
    VllmSettings,
)
from grpo_aflow.types import InfrastructureError, UserError

if TYPE_CHECKING:
    from vllm import AsyncEngineArgs
    from vllm.config.lora import MaxLoRARanks
    from vllm.config.model import ModelDType
    from vllm.v1.engine.async_llm import AsyncLLM

CPU_BLOCK_SIZE = 32  # tokens; the smallest for which vLLM's CPU attention is fast (its default there is 128)
# Of a card where the cache's size is given: vLLM still wants its share free before it starts, also beside a learner.
UNUSED_SHARE = 0.01

# Before vllm is imported; what the user has set in the environment stays.
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


def start_engine(
    settings: VllmSettings, model: PreparedModel, adapters: AdapterLimits, *, seed: int, cache_use: CacheUse
) -> AsyncLLM:
    """Import vLLM and start the engine in a process of its own, which tells `cache_use` what it holds. Blocking.

    Raises UserError for a model that vLLM does not serve, InfrastructureError when the engine does not start.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    check_builds(model.device)
    check_shared_memory()
    with _in_environment(_environment(settings, model)):
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            config = _engine_arguments(settings, model, adapters, seed=seed).create_engine_config()
        except (ValueError, TypeError) as error:
            raise UserError(
                f"vLLM cannot serve {model.path}: {first_line(error)}; choose another model or sampler=hf"
            ) from error
        try:
            with _signals_blocked():
                return AsyncLLM.from_vllm_config(config, stat_loggers=[told_to(cache_use)], disable_log_stats=True)
        except (RuntimeError, OSError) as error:
            raise InfrastructureError(
                f"vLLM's engine did not start: {first_line(error)}; its own messages stand above "
                "(VLLM_LOGGING_LEVEL=INFO shows more); out of memory: lower sampler.kv_cache_gb or model.max_model_len"
            ) from error


def _engine_arguments(
    settings: VllmSettings, model: PreparedModel, adapters: AdapterLimits, *, seed: int
) -> AsyncEngineArgs:
    from vllm import AsyncEngineArgs

    on_cpu = model.device == "cpu"
    kv_cache_gb = CPU_KV_CACHE_GB if settings.kv_cache_gb is None and on_cpu else settings.kv_cache_gb
    return AsyncEngineArgs(
        model=str(model.path),
        dtype=cast("ModelDType", model.dtype),
        max_model_len=model.max_model_len,
        skip_tokenizer_init=True,  # ids go in and out; stop tokens are given with each request
        generation_config="vllm",  # a model's own sampling defaults must not act here
        enable_lora=adapters.num_versions > 0,
        max_lora_rank=cast("MaxLoRARanks", adapters.rank),
        max_loras=max(1, adapters.num_versions),
        lora_target_modules=list(adapters.layers) or None,
        hf_overrides={"head_dtype": "float32"} if settings.lm_head_fp32 else {},
        logprobs_mode="processed_logprobs",  # after temperature and truncation: those of the distribution drawn from
        scheduling_policy="priority",  # of equal priority: first come, first served
        max_num_seqs=settings.max_num_seqs,
        kv_cache_memory_bytes=None if kv_cache_gb is None else int(kv_cache_gb * 2**30),
        gpu_memory_utilization=UNUSED_SHARE if kv_cache_gb and not on_cpu else settings.gpu_memory_utilization,
        enforce_eager=settings.enforce_eager or on_cpu,
        enable_prefix_caching=True,
        enable_sleep_mode=settings.colocation.takes_turns,  # its memory can be given back, then
        # A group's members share their prompt's whole blocks; the last one is computed again for each.
        block_size=CPU_BLOCK_SIZE if on_cpu else None,
        # A single worker inside the engine's process: a process, 0.7 GB and 13 s less, and no segments in /dev/shm.
        distributed_executor_backend="uni" if settings.tensor_parallel_size == 1 else "mp",
        tensor_parallel_size=settings.tensor_parallel_size,
        use_tqdm_on_load=False,
        disable_log_stats=True,
        seed=seed,
    )


def _environment(settings: VllmSettings, model: PreparedModel) -> dict[str, str]:
    """What the engine's process finds in its environment."""
    if model.device == "cpu":
        return {
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # for AsyncLLM this only lifts the ban on "uni" on the CPU
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(settings.cpu_threads),
            CPU_LORA_SWITCH: "1",
            "TORCHDYNAMO_DISABLE": "1",  # the sampler's few compiled helpers cost 5 s at the first request
            "PYTHONWARNINGS": "ignore",
        }
    return {
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "VLLM_FLOAT32_MATMUL_PRECISION": FLOAT32_PRODUCTS,
        "CUDA_VISIBLE_DEVICES": visible_devices(
            model.device, os.environ.get("CUDA_VISIBLE_DEVICES"), settings.tensor_parallel_size
        ),
        "PYTHONWARNINGS": "ignore",
    }


def engine_segments() -> list[Path]:
    """Shared memory that this process's engines map: killed, as they are, they leave its names in /dev/shm."""
    engines = [pid for pid in descendants(os.getpid()) if name_of(pid).startswith("VLLM::")]
    return [Path(segment) for segment in sorted({one for pid in engines for one in mapped_segments(pid)})]


@contextmanager
def _in_environment(variables: dict[str, str]) -> Iterator[None]:
    """Within the block the environment, which the engine's process inherits, has these variables."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Processes started inside inherit the mask: what a terminal or a scheduler sends to the group is for the run.

    The run saves what its engine is still drawing, and ends it; an engine whose run is gone ends by the watchdog.
    """
    resource_tracker.ensure_running()  # its start would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*SIGNALS, *ANNOUNCED))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def first_line(error: BaseException) -> str:
    """The part of an error's text that says what is wrong (pydantic puts it in the third line)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if line.startswith(("Value error,", "Assertion failed,"))), None)
    return (reason or (lines[0] if lines else type(error).__name__)).removeprefix("Value error, ")[:300]


def layers_not_served(text: str) -> tuple[str, ...]:
    """Plain names of the layers for which vLLM refuses an adapter, as it words it; () where it says something else.

    Example: ... expected target modules in {'q_proj'} but received ['model.layers.0.mlp.gate_up_proj']. -> gate_up_proj
    """
    found = re.search(r"expected target modules in \{.*?\} but received \[(.*?)\]", text, re.DOTALL)
    names = re.findall(r"'([^']+)'", found[1]) if found else []
    return tuple(dict.fromkeys(name.rpartition(".")[2] for name in names))
