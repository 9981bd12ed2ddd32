"""The order in which the loop does things, where it decides something; its parts only note their calls."""

import asyncio
from types import SimpleNamespace

from rollouts import TASK, group, rollout
from schedules import schedule

from grpo_aflow.run.timing import Timeline
from grpo_aflow.train import run_loop
from grpo_aflow.training.pipeline import Pipeline
from grpo_aflow.training.turns import SideBySide
from grpo_aflow.types import AdvantageKind, SamplingParams

GOOD = (rollout(1.0, reward=1.0), rollout(0.0, member=1, reward=0.0))
PARAMS = SamplingParams(temperature=0.5, top_p=1.0, top_k=0, max_tokens=9)


class Interrupt:
    async def each(self, stream):
        async for item in stream:
            yield item


async def test_late_groups_that_could_only_be_dropped_are_ended_before_the_next_version_is_published():
    done = []
    worker = SimpleNamespace(version=0)

    async def start(task, step, index, version):
        try:
            await asyncio.sleep(60 * (index == 1))
        finally:
            done.append(f"group {step}/{index} ended")
        return group(*GOOD, step=step, index=index, version=version)

    async def step(lr):
        worker.version += 1
        return {}

    async def publish(learned):
        done.append(f"version {worker.version} published")
        return {}

    async def nothing(*_):
        pass

    worker.step = step
    settings = schedule(num_steps=1, prompts_per_step=2, group_deadline_s=0.02, save_every=5)
    training = SimpleNamespace(
        config=SimpleNamespace(
            schedule=settings,
            objective=SimpleNamespace(advantage=AdvantageKind.none),
            reward=SimpleNamespace(permuted=False),
            seed=0,
        ),
        finished=0,
        worker=worker,
        services=SimpleNamespace(timeline=Timeline()),
        pipeline=lambda: Pipeline(
            schedule=settings,
            tasks=lambda step, number, round_: [TASK] * number,
            start_group=start,
            version=lambda: 0,
            finished=0,
        ),
        sampling=lambda step: PARAMS,
        watch=lambda *_: None,
        turns=SideBySide(),
        recorded=lambda batches, arrived: taken(batches, arrived),
        learn=nothing,
        learned_in=lambda step: f"of step {step}",
        refuse_outage=lambda *_: None,
        publisher=SimpleNamespace(check_trained=lambda stats, drawn: None, publish=publish),
        finish=lambda step: None,
        log=lambda step, figures, num_rollouts: done.append(f"{figures['groups/late_dropped']} dropped"),
        save=nothing,
        evaluate=nothing,
    )
    await run_loop(training, Interrupt())
    assert done == ["group 1/0 ended", "group 1/1 ended", "version 1 published", "1 dropped"]


async def taken(batches, arrived):
    async for place, member, batch in batches:
        arrived[place] = member
        yield place, member, batch
