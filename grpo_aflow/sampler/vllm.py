"""The sampler on vLLM's AsyncLLM: the engine runs in its own process, each sample is a request of its own.

A policy version is a LoRA adapter with a new name and a new integer id; nothing is ever overwritten, so requests in
flight finish under the version they began with, beside those of the next one. The cache salt keeps key-value blocks of
versions apart a second time. No request carries a seed: on the CPU a seeded request whose prefill is chunked kills the
engine.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from grpo_aflow.protocols import PreparedModel, Tokenizer
from grpo_aflow.sampler.settings import CPU_KV_CACHE_GB, CPU_LORA_SWITCH, AdapterLimits, VllmSettings, fit
from grpo_aflow.sampler.versions import ServedVersions, check_whole
from grpo_aflow.types import Adapter, Completion, EngineDied, InfrastructureError, SamplingParams, UserError

if TYPE_CHECKING:
    from grpo_aflow.run.watchdog import Watchdog

CPU_BLOCK_SIZE = 32  # tokens; the smallest for which vLLM's CPU attention is fast (its default there is 128)
MIN_SHARED_MEMORY = 16 << 20
SHUTDOWN_S = 1.0  # then the engine's process is killed: it keeps nothing
WATCH_EVERY_S = 0.5  # while the engine starts: its processes are recorded as they appear

# Before vllm is imported; what the user has set in the environment stays.
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}


class VllmSampler:
    """Implements `protocols.Sampler`. Make one with `start`; after the engine has died, make another."""

    def __init__(self, engine: Any, tokenizer: Tokenizer, *, max_model_len: int) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_model_len = max_model_len
        self._versions: ServedVersions[Any] = ServedVersions()
        self._ids = itertools.count(1)  # of adapters and requests

    @classmethod
    async def start(
        cls,
        settings: VllmSettings,
        model: PreparedModel,
        adapters: AdapterLimits,
        *,
        watchdog: Watchdog | None,
        seed: int,
    ) -> VllmSampler:
        """See `opening.Vllm.start`."""
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        _check_shared_memory()
        arguments = _engine_arguments(settings, model, adapters, seed=seed)
        starting = asyncio.create_task(asyncio.to_thread(_start_engine, arguments, _environment(settings, model)))
        while not starting.done():
            await asyncio.wait([starting], timeout=WATCH_EVERY_S)
            if watchdog is not None:
                await asyncio.to_thread(watchdog.watch_children)
        sampler = cls(starting.result(), model.tokenizer, max_model_len=model.max_model_len)
        await sampler.score([model.tokenizer.end_id] * 2, version=None)  # the first call compiles
        return sampler

    async def publish(self, adapter: Adapter) -> None:
        from vllm.lora.request import LoRARequest

        self._versions.check_new(adapter.version)
        check_whole(adapter)
        number = next(self._ids)
        request = LoRARequest(f"policy-v{adapter.version}-{number}", number, str(adapter.path))
        with self._engine_faults(f"cannot load the adapter {adapter.path}"):
            loaded = await self._engine.add_lora(request)
        if not loaded:
            raise InfrastructureError(f"vLLM did not load the adapter {adapter.path}")
        self._versions.add(adapter.version, request)

    async def retire(self, version: int) -> None:
        request = await self._versions.remove(version)
        with self._engine_faults(f"cannot remove version {version}"):
            await self._engine.remove_lora(request.lora_int_id)

    async def sample(
        self,
        prompt_ids: Sequence[int],
        *,
        seeds: Sequence[int],
        params: SamplingParams,
        version: int,
        priority: int = 0,
    ) -> AsyncGenerator[tuple[int, Completion], None]:
        params = fit(params, len(prompt_ids), self._max_model_len)
        with self._versions.hold(version) as lora:
            requests = [
                asyncio.create_task(self._draw(member, tuple(prompt_ids), params, lora, version, priority))
                for member in range(len(seeds))
            ]
            try:
                for ended in asyncio.as_completed(requests):
                    yield await ended
            finally:  # leaving early aborts what still runs
                for request in requests:
                    request.cancel()
                await asyncio.gather(*requests, return_exceptions=True)

    async def score(self, token_ids: Sequence[int], *, version: int | None) -> tuple[float, ...]:
        from vllm import SamplingParams as EngineParams

        params = EngineParams(temperature=1.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        with self._versions.hold(version) as lora:
            output = await self._request(tuple(token_ids), params, lora, version)
        rows = output.prompt_logprobs[1:]  # the first token stands after nothing
        return tuple(row[token].logprob for row, token in zip(rows, token_ids[1:], strict=True))

    async def close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            logging.getLogger("vllm").setLevel(logging.CRITICAL)  # it takes the end that we make for a fault
            await asyncio.to_thread(engine.shutdown, timeout=SHUTDOWN_S)
            engine.shutdown = lambda timeout=None: None  # its finaliser calls it again, when its modules are gone

    async def _draw(
        self,
        member: int,
        prompt_ids: tuple[int, ...],
        params: SamplingParams,
        lora: Any,
        version: int,
        priority: int,
    ) -> tuple[int, Completion]:
        from vllm import SamplingParams as EngineParams
        from vllm.sampling_params import RequestOutputKind

        engine_params = EngineParams(
            temperature=params.temperature,
            top_p=params.top_p,
            top_k=params.top_k,
            max_tokens=params.max_tokens,
            stop_token_ids=list(self._tokenizer.eos_ids),
            logprobs=0,  # of the sampled token alone
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        output = (await self._request(prompt_ids, engine_params, lora, version, priority)).outputs[0]
        ids = tuple(output.token_ids)
        completion = Completion(
            token_ids=ids,
            logprobs=tuple(row[token].logprob for row, token in zip(output.logprobs, ids, strict=True)),
            text=self._tokenizer.decode(ids),
            finish_reason="stop" if output.finish_reason == "stop" else "length",
            version=version,
        )
        return member, completion

    async def _request(
        self, prompt_ids: tuple[int, ...], params: Any, lora: Any, version: int | None, priority: int = 0
    ) -> Any:
        """The last output of one request; cancelling the caller aborts it."""
        from vllm import TokensPrompt

        prompt = TokensPrompt(prompt_token_ids=list(prompt_ids), cache_salt=f"v{version}")
        last = None
        with self._engine_faults("a request failed"):
            stream = self._engine.generate(
                prompt, params, request_id=str(next(self._ids)), lora_request=lora, priority=priority
            )
            async for output in stream:
                last = output
        return last

    @contextmanager
    def _engine_faults(self, what: str) -> Iterator[None]:
        """An engine that died, or that a call broke, becomes one clear line."""
        from vllm.v1.engine.exceptions import EngineDeadError, EngineGenerateError

        if self._engine is None:
            raise InfrastructureError("the sampler is closed")
        try:
            yield
        except (EngineDeadError, EngineGenerateError) as error:
            raise EngineDied(
                f"vLLM: {what}, the engine has died; resume the run, with VLLM_LOGGING_LEVEL=INFO to see why"
            ) from error
        except Exception as error:  # the engine reports a failed call as a bare Exception
            raise InfrastructureError(f"vLLM: {what}: {_first_line(error)}") from error


def _engine_arguments(
    settings: VllmSettings, model: PreparedModel, adapters: AdapterLimits, *, seed: int
) -> dict[str, Any]:
    on_cpu = model.device == "cpu"
    kv_cache_gb = CPU_KV_CACHE_GB if settings.kv_cache_gb is None and on_cpu else settings.kv_cache_gb
    return {
        "model": str(model.path),
        "dtype": model.dtype,
        "max_model_len": model.max_model_len,
        "skip_tokenizer_init": True,  # ids go in and out; stop tokens are given with each request
        "generation_config": "vllm",  # a model's own sampling defaults must not act here
        **_lora_arguments(adapters),
        "logprobs_mode": "processed_logprobs",  # after temperature and truncation: those of the distribution drawn from
        "scheduling_policy": "priority",  # of equal priority: first come, first served
        "max_num_seqs": settings.max_num_seqs,
        "kv_cache_memory_bytes": None if kv_cache_gb is None else int(kv_cache_gb * 2**30),
        "gpu_memory_utilization": settings.gpu_memory_utilization,
        "enforce_eager": settings.enforce_eager or on_cpu,
        "enable_prefix_caching": True,
        # A group's members share their prompt's whole blocks; the last one is computed again for each.
        "block_size": CPU_BLOCK_SIZE if on_cpu else None,
        # The worker inside the engine's process: a process, 0.7 GB and 13 s less, and no segments in /dev/shm.
        "distributed_executor_backend": "uni",
        "use_tqdm_on_load": False,
        "disable_log_stats": True,
        "seed": seed,
    }


def _lora_arguments(adapters: AdapterLimits) -> dict[str, Any]:
    if not adapters.num_versions:
        return {"enable_lora": False}
    return {
        "enable_lora": True,
        "max_lora_rank": adapters.rank,
        "max_loras": adapters.num_versions,
        "lora_target_modules": list(adapters.layers) or None,
    }


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
    environment = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "PYTHONWARNINGS": "ignore"}
    _, _, index = model.device.partition(":")
    if index:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        environment["CUDA_VISIBLE_DEVICES"] = visible.split(",")[int(index)] if visible else index
    return environment


def _start_engine(arguments: dict[str, Any], environment: dict[str, str]) -> Any:
    """Import vLLM and start the engine; takes half a minute on two cores."""
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            config = AsyncEngineArgs(**arguments).create_engine_config()
        except (ValueError, TypeError) as error:
            raise UserError(
                f"vLLM cannot serve {arguments['model']}: {_first_line(error)}; choose another model or sampler=hf"
            ) from error
        try:
            with _interrupts_blocked():
                return AsyncLLM.from_vllm_config(config, disable_log_stats=True)
        except (RuntimeError, OSError) as error:
            raise InfrastructureError(
                f"vLLM's engine did not start: {_first_line(error)}; its own messages stand above "
                "(VLLM_LOGGING_LEVEL=INFO shows more); out of memory: lower sampler.kv_cache_gb or model.max_model_len"
            ) from error
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started inside inherit the mask: a Ctrl-C reaches the run, which decides, and not the engine."""
    resource_tracker.ensure_running()  # its start would unblock them again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _check_shared_memory() -> None:
    try:
        free = shutil.disk_usage("/dev/shm").free
    except OSError as error:
        raise UserError(f"vLLM needs /dev/shm ({error.strerror}); mount it, or set sampler=hf") from error
    if free < MIN_SHARED_MEMORY:
        raise UserError(
            f"/dev/shm has {free / 2**20:.0f} MiB free and vLLM needs {MIN_SHARED_MEMORY >> 20}; free it, give the "
            "container more (docker: --shm-size=1g), or set sampler=hf"
        )


def _first_line(error: BaseException) -> str:
    """The part of an error's text that says what is wrong (pydantic puts it in the third line)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith(("Value error,", "Assertion failed,"))), None)
    return (told or (lines[0] if lines else type(error).__name__)).removeprefix("Value error, ")[:300]
