"""At staleness 0 the streaming loop equals the plain one to the bit: sample all, run all, learn all."""

import dataclasses
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from run_cases import SMALL

from grpo_aflow.config.composing import compose
from grpo_aflow.rollout.advantage import group_advantages
from grpo_aflow.rollout.batches import training_group
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.progress import Progress
from grpo_aflow.train import train
from grpo_aflow.training import served_policy, setup
from grpo_aflow.training.setup import open_training
from grpo_aflow.training.turns import InTurns

pytestmark = pytest.mark.slow


async def plain(config):
    """The adapter after a run without streams, deadlines, references ahead or any other overlap."""
    run = RunDirectory.create(Path(config.paths.runs), config.name, config.plain)
    async with AsyncExitStack() as stack:
        training = await open_training(config, run, stack, Progress(num_steps=1, log_every=10**9))
        rollouter = dataclasses.replace(training.rollouter, on_sampled=None)
        schedule, worker = config.schedule, training.worker
        for step in range(1, schedule.num_steps + 1):
            params, groups = training.sampling(step), []
            tasks = training.stream.batch(step, schedule.prompts_per_step, seed=config.seed)
            for index, task in enumerate(tasks):
                options = {"step": step, "index": index, "size": schedule.group_size, "version": step - 1}
                groups.append(await rollouter.group(task, params=params, **options))
            for group in groups:
                rewards = [rollout.reward for rollout in group.rollouts]
                batch = training_group(group, group_advantages(rewards, config.objective.advantage), params)
                await worker.backward(batch, None)
            await worker.step(schedule.learning_rate_at(step))
            await training.publisher.publish()
            training.finish(step)
        file = await training.save() / "adapter" / "adapter_model.safetensors"
    run.close("done")
    return file.read_bytes()


async def test_the_streaming_loop_is_the_plain_loop(trained_run, tmp_path):
    last = sorted((trained_run / "checkpoints").iterdir())[-1]
    assert (
        await plain(compose(*SMALL, "eval.datasets=[]", f"paths.runs={tmp_path}"))
        == (last / "adapter" / "adapter_model.safetensors").read_bytes()
    )


class Napping:
    """A real sampler that is asked for nothing while it sleeps."""

    def __init__(self, sampler):
        self.sampler, self.asleep, self.naps = sampler, False, 0

    async def sleep(self):
        self.asleep = True

    async def wake(self):
        self.asleep, self.naps = False, self.naps + self.asleep

    def __getattr__(self, name):
        assert not self.asleep, f"{name} of a sampler that sleeps"
        return getattr(self.sampler, name)


def test_in_turns_the_same_adapter_is_learned(trained_run, tmp_path, monkeypatch):
    """Every request of a real run falls into the sampler's turn, and the bits are those of a run side by side."""
    config = compose(*SMALL, "eval.datasets=[]", f"paths.runs={tmp_path}")
    naps = []

    def napping(sampling, served, timeline):
        naps.append(served.sampler)
        return InTurns(served.sampler, timeline)

    original = served_policy.serve

    @asynccontextmanager
    async def serve(*arguments):
        async with original(*arguments) as served:
            yield dataclasses.replace(served, sampler=Napping(served.sampler))

    monkeypatch.setattr(served_policy, "serve", serve)
    monkeypatch.setattr(setup, "turns", napping)
    train(config)
    assert naps[0].naps == config.schedule.num_steps
    [run] = [path.parent for path in tmp_path.rglob("manifest.json")]
    last, expected = (sorted((path / "checkpoints").iterdir())[-1] for path in (run, trained_run))
    file = "adapter/adapter_model.safetensors"
    assert (last / file).read_bytes() == (expected / file).read_bytes()
