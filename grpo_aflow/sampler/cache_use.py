"""What an engine has to hold in its key-value cache: by this a sampler over several engines compares them (`routed`).

A request that runs holds what it has computed so far, which only the engine knows; one that waits will hold as much as
it may become.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.metrics.loggers import StatLoggerBase
    from vllm.v1.metrics.stats import IterationStats, MultiModalCacheStats, SchedulerStats


def tokens_held(num_prompt_tokens: int, num_samples: int, max_tokens: int) -> int:
    """In the key-value cache, at most, by samples that share their prompt."""
    return num_prompt_tokens + num_samples * max_tokens


class CacheUse:
    """Of one engine: what is open there, and what the engine last said of its cache."""

    def __init__(self) -> None:
        self.running_tokens = 0  # held by requests that run
        self.num_waiting = 0  # requests that hold nothing yet
        self._num_open = 0  # requests
        self._promised = 0  # tokens that these hold at most

    @contextmanager
    def holding(self, num_requests: int, num_tokens: int) -> Iterator[None]:
        """Within the block so many requests are open, which hold so many tokens at most."""
        self._num_open += num_requests
        self._promised += num_tokens
        try:
            yield
        finally:
            self._num_open -= num_requests
            self._promised -= num_tokens

    @property
    def tokens(self) -> int:
        """Held by what runs, and to be held by what waits; nothing where nothing is open."""
        if not self._num_open:
            return 0
        return self.running_tokens + self.num_waiting * self._promised // self._num_open


def told_to(use: CacheUse) -> Callable[[VllmConfig, int], StatLoggerBase]:
    """What vLLM makes its statistics' receiver with; `use` is kept up to date, once for each step of the engine."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class Receiver(StatLoggerBase):
        def __init__(self, vllm_config: VllmConfig, engine_index: int = 0) -> None:
            self._cache = vllm_config.cache_config

        def record(
            self,
            scheduler_stats: SchedulerStats | None,
            iteration_stats: IterationStats | None,
            mm_cache_stats: MultiModalCacheStats | None = None,
            engine_idx: int = 0,
        ) -> None:
            if scheduler_stats is not None:
                capacity = (self._cache.num_gpu_blocks or 0) * self._cache.block_size
                use.running_tokens = round(scheduler_stats.kv_cache_usage * capacity)
                use.num_waiting = scheduler_stats.num_waiting_reqs

        def log_engine_initialized(self) -> None:
            """Nothing to say."""

    return Receiver
