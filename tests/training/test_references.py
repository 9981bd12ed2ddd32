import asyncio
from types import SimpleNamespace

import pytest
from rollouts import group, rollout

from grpo_aflow.run.timing import Timeline
from grpo_aflow.training.references import References

GOOD = group(rollout(1.0, reward=1.0), rollout(0.0, member=1, reward=0.0), step=1, index=0)
FLAT = group(rollout(1.0, reward=1.0), rollout(1.0, member=1, reward=1.0), step=1, index=0)


def opened(*, regularises_all=False, computed_s=0.0):
    """References over a worker that says which temperature it was asked at."""

    async def reference_logprobs(prompt_ids, completions, temperature):
        await asyncio.sleep(computed_s)
        return [[-temperature] for _ in completions]

    return References(
        SimpleNamespace(reference_logprobs=reference_logprobs),
        Timeline(),
        needed=True,
        regularises_all=regularises_all,
        temperature=lambda step: step / 2,
    )


@pytest.mark.parametrize(
    ("taken", "regularises_all", "scores"),
    [(GOOD, False, [[-0.5]] * 2), (FLAT, False, None), (FLAT, True, [[-0.5]] * 2)],
)
async def test_scores_are_taken_once_and_only_where_they_count(taken, regularises_all, scores):
    references = opened(regularises_all=regularises_all)
    references.refer(1, 0, (1, 2), [rollout.completion for rollout in taken.rollouts])
    assert await references.take(taken) == scores
    assert await references.take(taken) is None


async def test_scores_that_nobody_will_take_are_forgotten():
    """Of a group that came too late, whether they are there or still being computed."""
    for computed_s in (0.0, 60.0):
        references = opened(computed_s=computed_s)
        references.refer(1, 0, (1, 2), [])
        await asyncio.sleep(0.001)
        references.forget(1, 0)
        references.forget(2, 0)  # one that was never sampled to its end
        await asyncio.sleep(0)
        assert await references.take(GOOD) is None
        assert len(asyncio.all_tasks()) == 1
