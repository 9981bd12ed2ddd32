"""What an engine holds in its key-value cache: what runs as the engine says, what waits as much as it may become."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.sampler.cache_use import CacheUse, tokens_held, told_to


@given(prompt=st.integers(0, 99), size=st.integers(1, 9), longest=st.integers(1, 99))
def test_a_group_holds_its_prompt_once(prompt, size, longest):
    assert tokens_held(prompt, size, longest) - prompt == size * longest


def test_what_runs_and_what_waits():
    use = CacheUse()
    with use.holding(4, tokens_held(20, 4, 10)), use.holding(2, tokens_held(20, 2, 50)):  # 60 + 120
        use.running_tokens, use.num_waiting = 70, 2
        assert use.tokens == 70 + 2 * 180 // 6
    assert use.tokens == 0  # what the engine last said is over


def test_as_vllm_tells_it():
    pytest.importorskip("vllm")
    from vllm.v1.metrics.stats import SchedulerStats

    use = CacheUse()
    receiver = told_to(use)(SimpleNamespace(cache_config=SimpleNamespace(num_gpu_blocks=40, block_size=16)), 0)
    receiver.log_engine_initialized()
    receiver.record(SchedulerStats(num_waiting_reqs=3, kv_cache_usage=0.25), None)
    receiver.record(None, None)
    assert (use.running_tokens, use.num_waiting) == (160, 3)
