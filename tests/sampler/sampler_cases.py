"""What the tests of both engines draw with."""

from typing import Any

from grpo_aflow.protocols import Sampler
from grpo_aflow.types import Completion, SamplingParams

MESSAGES: Any = [{"role": "user", "content": "math gsm8k\n"}]
PLAIN = SamplingParams(temperature=1.0, top_p=1.0, top_k=0, max_tokens=40)


async def draw(
    sampler: Sampler,
    prompt: tuple[int, ...],
    version: int,
    *,
    n: int = 8,
    params: SamplingParams = PLAIN,
    seed: int = 0,
) -> dict[int, Completion]:
    """One group, by member."""
    stream = sampler.sample(prompt, seeds=range(seed, seed + n), params=params, version=version)
    return {member: completion async for member, completion in stream}
