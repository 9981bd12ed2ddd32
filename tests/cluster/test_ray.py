"""`cluster=ray` on a Ray of this machine: the same run as in one process, though one of each kind is killed in it."""

import contextlib
import json
import signal
import socket
import threading
import time
from pathlib import Path

import psutil
import pytest
from commands import Command, finished
from installed import NEEDS_RAY
from run_cases import ROLLOUTS_A_STEP, SMALL, in_runs, metrics_of, only_run
from safetensors.torch import load_file

from grpo_aflow.config.composing import compose
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.sandbox import launcher as launching
from grpo_aflow.types import InfrastructureError, UserError

pytestmark = NEEDS_RAY
SHARES = ("cluster.engine_cpus=0.25", "cluster.rank_cpus=0.25", "cluster.worker_cpus=0.25")
RAY = ("cluster=ray", "cluster.num_ranks=2", "cluster.num_workers=2", *SHARES)
# Ranks add their sums in the order of arrival, and Adam makes a step of the learning rate of any sum, however small: at
# 5e-3 the weights of the second step differ by 3e-5. The reference of the KL is computed ahead, by any one rank.
WITH_KL = ("objective.kl=k3", "objective.kl_coef=0.05")
SHORT = (*SMALL, "schedule.num_steps=2", "schedule.learning_rate=1.0e-3", "eval.datasets=[]", *WITH_KL)
SLOW = "executor.median_latency_s=1"  # so that a step is still under way when one has seen that it has begun
PROCESSES = ("ray::", "raylet", "gcs_server")


def of_ray():
    """The processes of Ray below this one."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if any(name in " ".join(process.cmdline()) for name in PROCESSES):
                found.append(process)
    return found


def orphaned_sandboxes():
    """Sandboxes whose own process was killed."""
    launcher = str(Path(launching.__file__))
    found = []
    for process in psutil.process_iter(["ppid", "cmdline"]):
        if process.info["ppid"] == 1 and launcher in (process.info["cmdline"] or []):
            found.append(process)
    return found


def lines(root, name):
    """What a run has written so far."""
    for path in in_runs(root, name):
        yield from read_jsonl(path)


class Killer(threading.Thread):
    """Kills one of each kind in the middle of its work, and at last the process that runs it all.

    An engine when the first completion of step 1 is there, a worker when the first executor call is under way, a rank
    when the first rollout of step 2 is done, and the run when most of them are.
    """

    MOMENTS = (  # who, when the file has so many lines of this kind
        ("EngineActor", "rollouts.jsonl", 1, {"kind": "completion", "step": 1}),
        ("WorkerActor", "ledger.jsonl", 1, {"event": "intent", "step": 1}),
        ("RankActor", "rollouts.jsonl", 1, {"kind": "rollout", "step": 2}),
        ("run", "rollouts.jsonl", ROLLOUTS_A_STEP - 2, {"kind": "rollout", "step": 2}),
    )

    def __init__(self, root, command, actors=("EngineActor", "WorkerActor", "RankActor", "run")):
        super().__init__(daemon=True)
        self.root, self.command = root, command
        self.moments = [moment for moment in self.MOMENTS if moment[0] in actors]
        self.killed, self.processes = [], []

    def run(self):
        for actor, file, number, wanted in self.moments:
            while sum(wanted.items() <= line.items() for line in lines(self.root, file)) < number:
                if self.command.has_ended():
                    return
                time.sleep(0.02)
            found = of_ray()
            if actor == "run":
                self.command.send(signal.SIGKILL)
            else:
                next(one for one in found if f"ray::{actor}" in " ".join(one.cmdline())).kill()
            self.processes += found
            self.killed.append(actor)


def answered(root):
    """(task, member, ordinal) of the executor calls that were paid."""
    calls = {line["attempt"]: line for line in lines(root, "ledger.jsonl") if line["event"] == "intent"}
    paid = [calls[line["attempt"]] for line in lines(root, "ledger.jsonl") if line.get("outcome") == "ok"]
    return sorted((line["step"], line["task"], line["member"], tuple(line["ordinal"])) for line in paid)


@pytest.fixture(scope="module")
def here(model_cache, tmp_path_factory):
    """The folder of the run in one process."""
    from grpo_aflow.train import train

    folder = tmp_path_factory.mktemp("here")
    train(compose(*SHORT, f"paths.runs={folder}"))
    return folder


@pytest.mark.slow
def test_the_same_run_though_one_of_each_kind_and_the_run_itself_are_killed(here, tmp_path):
    there = tmp_path / "there"
    command = Command("train", [*SHORT, SLOW, *RAY, f"paths.runs={there}"], tmp_path)
    killer = Killer(there, command)
    killer.start()
    said = command.end().stderr
    killer.join()
    assert killer.killed == ["EngineActor", "WorkerActor", "RankActor", "run"], said
    done = finished("train", [f"resume={only_run(there)}"], tmp_path)
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout
    assert "step 1/2" not in done.stdout
    assert_same_learning(only_run(here), only_run(there))
    assert answered(there) == answered(here)
    assert len(set(answered(there))) == len(answered(there))  # nothing is paid twice
    deadline = time.monotonic() + 30  # Ray's last processes take a moment to end
    left = [*killer.processes, *of_ray()]
    while (left := [one for one in left if one.is_running()] + orphaned_sandboxes()) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left


@pytest.mark.slow
def test_a_base_in_parts_learns_the_same_though_a_rank_is_killed(here, tmp_path):
    there = tmp_path / "there"
    in_parts = ("cluster=ray", "cluster.num_engines=1", "cluster.num_ranks=2", "cluster.shard_base=true", *SHARES)
    command = Command("train", [*SHORT, SLOW, *in_parts, f"paths.runs={there}"], tmp_path)
    killer = Killer(there, command, actors=("RankActor",))
    killer.start()
    done = command.end()
    assert done.returncode == 0, done.stderr
    killer.join()
    assert killer.killed == ["RankActor"]
    assert_same_learning(only_run(here), only_run(there))


def assert_same_learning(here, there):
    for own, other in zip(metrics_of(here), metrics_of(there), strict=True):
        for name in ("loss/total", "loss/policy", "reward/mean", "update/num_tokens", "update/version"):
            assert other[name] == pytest.approx(own[name], abs=1e-5), name
    for step in (1, 2):
        file = f"checkpoints/step_{step:06d}/adapter/adapter_model.safetensors"
        own, other = load_file(here / file), load_file(there / file)
        assert own.keys() == other.keys()
        assert max(float((own[name] - other[name]).abs().max()) for name in own) <= 1e-5


@pytest.mark.slow
async def test_what_cannot_be_placed_is_said_at_once():
    cluster = compose("cluster=ray", "cluster.num_ranks=3", "cluster.rank_gpus=64").cluster
    with pytest.raises(UserError, match=r"there is room for 0 of 3 ranks \(1 CPUs and 64 GPUs each\) only"):
        async with cluster.open(print):
            pass
    import ray

    assert not ray.is_initialized()


@pytest.mark.slow
async def test_what_does_not_come_up(model_cache, tmp_path):
    """An engine beyond its deadline is named; a node without the model says so."""
    from grpo_aflow.protocols import PreparedModel
    from grpo_aflow.sampler.settings import AdapterLimits

    config = compose("sampler=hf", *RAY, "cluster.num_engines=1", "cluster.start_timeout_s=0.01")
    model = PreparedModel(
        path=tmp_path / "no model", name="m", tokenizer=None, adapter=None, device="cpu",
        sampler_device="cpu", dtype="float32", max_model_len=64,
    )  # fmt: skip
    async with config.cluster.open(print) as cluster:
        ask = {"watchdog": None, "seed": 0}
        with pytest.raises(
            InfrastructureError, match=r"engine 0 did not come up within cluster.start_timeout_s=0.01 s"
        ):
            await cluster.start_sampler(config.sampler, model, AdapterLimits(rank=8), **ask)
    config = compose("sampler=hf", *RAY, "cluster.num_engines=1")
    async with config.cluster.open(print) as cluster:
        with pytest.raises(InfrastructureError, match=r"engine 0 on [\d.]+: there is no .*no model: copy it there"):
            await cluster.start_sampler(config.sampler, model, AdapterLimits(rank=8), **ask)


async def test_without_ray(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -e '\.\[ray\]'"):
        async with compose("cluster=ray").cluster.open(print):
            pass


def test_local_does_not_import_ray(tmp_path):
    import subprocess
    import sys

    code = "import sys; from grpo_aflow.train import train; from grpo_aflow.config.composing import compose; "
    code += "compose().cluster; import grpo_aflow.cluster.local; print(json.dumps('ray' in sys.modules))"
    done = subprocess.run([sys.executable, "-c", "import json; " + code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False


def test_in_how_many_parts_the_base_is_held():
    two = ("cluster=ray", "cluster.num_ranks=2")
    given = ((), two, (*two, "cluster.shard_base=true"))
    assert [compose(*overrides).base_shares for overrides in given] == [1, 1, 2]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("cluster.num_engines=0", "num_engines must be at least 1; got 0"),
        ("cluster.max_engines=1", "max_engines=1 is less than num_engines=2"),
        ("cluster.rank_gpus=-1", "rank_gpus must not be negative"),
        ("cluster.start_timeout_s=0", "start_timeout_s must be positive"),
        ("cluster.shard_base=true", "shard_base spreads .* and num_ranks is 1: set num_ranks=2 or more"),
    ],
)
def test_values_out_of_range(override, said):
    with pytest.raises(UserError, match=said):
        compose("cluster=ray", override)


@pytest.mark.parametrize(
    ("raised", "address", "kind", "said"),
    [
        (
            RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.50.0\nThis process with 2.60.0"),
            "auto",
            UserError,
            "Ray: 2.50.0 This process with 2.60.0; install the same versions of Ray and Python",
        ),
        (ConnectionError("Could not find any running Ray instance"), "auto", UserError, "ray start --head"),
        (Exception("timed out"), "null", InfrastructureError, r"Ray does not start here \(timed out\)"),
    ],
)
def test_a_ray_that_cannot_be_reached(monkeypatch, raised, address, kind, said):
    def init(**given):
        raise raised

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(kind, match=said):
        compose("cluster=ray", f"cluster.address={address}").cluster.look()


def test_an_address_where_nothing_listens_is_told_at_once(monkeypatch):
    monkeypatch.setattr("ray.init", lambda **given: pytest.fail("Ray would try for minutes"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"no Ray answers at cluster.address={address} \(.*refused\); start one"):
            compose("cluster=ray", f"cluster.address='{address}'").cluster.look()


def test_the_doctor_shows_what_there_is_beside_what_is_needed(monkeypatch):
    from grpo_aflow.cluster import ray_cluster
    from grpo_aflow.cluster.needs import Node

    monkeypatch.setattr(ray_cluster, "_connect", lambda address: [Node(name="10.0.0.7", cpus=8, gpus=2)])
    monkeypatch.setattr(ray_cluster, "_disconnect", lambda: None)
    shown = compose("cluster=ray", "cluster.engine_gpus=1", "cluster.num_workers=1").cluster.look()
    assert shown == (
        "needs 2 engines (1 CPUs and 1 GPUs each), 1 ranks (1 CPUs each), 1 execution workers (1 CPUs each); "
        "nodes: 10.0.0.7: 8 CPUs and 2 GPUs"
    )
    with pytest.raises(UserError, match=r"room for 2 of 3 engines \(1 CPUs and 1 GPUs each\) only \(10.0.0.7: 8 CPUs"):
        compose("cluster=ray", "cluster.num_engines=3", "cluster.engine_gpus=1").cluster.look()
