"""A run that ends early keeps what it paid for and can be resumed: evaluation and training, each way to end."""

import json
import signal
import time
from collections import Counter
from types import SimpleNamespace

import pytest
from commands import Command, finished
from run_cases import SMALL, in_runs, only_run
from schedules import schedule
from small_endpoint import completion, small_endpoint

from grpo_aflow import train
from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.command import run_evaluation
from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.types import BudgetReached, InfrastructureError, UserError

WORKFLOW = """
class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem, entry_point=None):
        reply = await self.custom(input=problem, instruction="Solve it.")
        return reply["response"]
"""


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    flow = tmp_path_factory.mktemp("flow") / "flow.py"
    flow.write_text(WORKFLOW)
    return (
        "policy=fixed",
        f"policy.path={flow}",
        "eval.datasets=[gsm8k]",
        "eval.samples=2",
        "eval.concurrency=2",
        "sandbox.num_servers=1",
        "executor.temperature=0.7",
    )


def answered(folder):
    return Counter(entry.key for entry in read_costs(folder / "ledger.jsonl").entries if entry.outcome == "ok")


def the_error(done):
    assert "Traceback" not in done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    return line


def check_resumed(done, folder, whole):
    """It ends as the uninterrupted evaluation did, and nothing was paid twice."""
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "manifest.json").read_text())["status"] == "done"
    ended, expected = (json.loads((f / "evaluation.json").read_text()) for f in (folder, whole))
    assert ended["scores"] == expected["scores"]
    assert ended["num_masked"] == 0
    assert answered(folder) == answered(whole)
    kinds = Counter(line["kind"] for line in read_jsonl(folder / "rollouts.jsonl"))
    assert kinds["rollout"] == kinds["completion"] == ended["num_rollouts"]


@pytest.fixture(scope="module")
def whole(overrides, tmp_path_factory):
    """The folder of the same evaluation, uninterrupted."""
    runs = tmp_path_factory.mktemp("whole")
    run_evaluation(compose(*overrides, f"paths.runs={runs}", config_name="evaluate"))
    return only_run(runs)


@pytest.mark.slow
def test_an_evaluation_at_its_cap_is_kept_and_goes_on_with_a_higher_one(overrides, whole, tmp_path):
    cap = read_costs(whole / "ledger.jsonl").total.usd / 2 + 0.00065
    runs = tmp_path / "capped"
    done = finished("eval", [*overrides, f"executor.max_usd={cap}", f"paths.runs={runs}"], tmp_path)
    assert done.returncode == 3, done.stderr
    folder = only_run(runs)
    assert f"resume with: grpo-aflow-eval resume={folder}" in the_error(done)
    assert json.loads((folder / "manifest.json").read_text())["status"] == "budget reached"
    costs = read_costs(folder / "ledger.jsonl").total
    assert 0 < costs.usd + costs.at_most_usd <= cap
    key = "executor.max_usd"
    check_resumed(finished("eval", [f"resume={folder}", f"{key}=1", f"resume_with=[{key}]"], tmp_path), folder, whole)


@pytest.mark.slow
def test_an_interrupted_evaluation_is_kept(overrides, whole, tmp_path):
    runs = tmp_path / "interrupted"
    slow = "executor.median_latency_s=0.2"
    command = Command("eval", [*overrides, slow, f"paths.runs={runs}"], tmp_path)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not command.has_ended():
        if any(b'"kind":"rollout"' in file.read_bytes() for file in in_runs(runs, "rollouts.jsonl")):
            break
        time.sleep(0.02)
    command.send(signal.SIGINT)
    done = command.end()
    assert done.returncode == 130, done.stderr
    folder = only_run(runs)
    assert f"resume with: grpo-aflow-eval resume={folder}" in the_error(done)
    assert json.loads((folder / "manifest.json").read_text())["status"] == "interrupted"
    assert answered(folder)
    check_resumed(finished("eval", [f"resume={folder}"], tmp_path), folder, whole)


@pytest.mark.slow
def test_an_evaluation_whose_key_is_refused_says_so_and_goes_on(overrides, tmp_path):
    """After some answers; in the server's words; what was answered is not asked for again."""
    broken = True

    def answer(number, body):
        if broken and number > 5:
            return 401, {"error": {"message": "Your key was revoked on Tuesday"}}
        return completion("It is \\boxed{4}.")

    with small_endpoint(answer) as endpoint:
        runs = tmp_path / "refused"
        done = finished("eval", [*overrides, *endpoint.overrides, f"paths.runs={runs}"], tmp_path)
        assert done.returncode == 2, done.stderr
        folder = only_run(runs)
        error = the_error(done)
        assert "Your key was revoked on Tuesday" in error
        assert f"resume with: grpo-aflow-eval resume={folder}" in error
        assert 1 <= len(answered(folder)) <= 5
        broken = False
        resumed = finished("eval", [f"resume={folder}"], tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        assert set(answered(folder).values()) == {1}


@pytest.mark.slow
def test_a_slow_endpoint_masks_and_stops_the_evaluation(overrides, tmp_path):
    """Forty-eight tasks, an answer always later than the timeout: nothing is scored 0, and one line says why."""

    def answer(number, body):
        time.sleep(0.6)
        return completion("It is \\boxed{4}.")

    limits = (
        "executor.timeout_s=0.15",
        "executor.retries=2",
        "executor.backoff_s=0.001",
        "executor.breaker_pause_s=0.05",
        "executor.max_outage_s=0.5",
        "workflow.deadline_s=0.3",
        "eval.datasets=[gsm8k,math,squad2,hotpotqa]",
        "eval.max_tasks_per_dataset=12",
        "eval.samples=1",
        "eval.concurrency=48",
    )
    with small_endpoint(answer) as endpoint:
        config = compose(
            *(o for o in overrides if o.partition("=")[0] not in {limit.partition("=")[0] for limit in limits}),
            *endpoint.overrides,
            *limits,
            f"paths.runs={tmp_path}",
            config_name="evaluate",
        )
        with pytest.raises(InfrastructureError, match=r"evaluation: 2\d of 48 rollouts are masked") as stopped:
            run_evaluation(config)
    assert "no answer within executor.timeout_s=0.15" in str(stopped.value) or "was down for" in str(stopped.value)
    rollouts = [line for line in read_jsonl(only_run(tmp_path) / "rollouts.jsonl") if line["kind"] == "rollout"]
    assert len(rollouts) >= 25
    assert {line["status"] for line in rollouts} == {"masked"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "share", "code", "line"),
    [
        (418, 0.5, 2, "I am a teapot"),
        (503, 0.5, 5, r"\d of 4 rollouts are masked, over executor.max_masked_share=0.5 .*I am a teapot"),
        (503, 1.0, 5, "nothing could be measured: all 4 rollouts are masked"),
    ],
)
def test_an_evaluation_in_which_every_call_fails_has_no_result(overrides, tmp_path, status, share, code, line):
    """No accuracy of nothing: one line that says why and how to go on, and an exit code."""
    limits = (f"executor.max_masked_share={share}", "executor.backoff_s=0.001", "executor.breaker_pause_s=0.01")
    with small_endpoint(lambda number, body: (status, {"error": {"message": "I am a teapot"}})) as endpoint:
        more = ("eval.max_tasks_per_dataset=2", f"paths.runs={tmp_path}")
        with pytest.raises(UserError, match=line) as stopped:
            run_evaluation(compose(*overrides, *endpoint.overrides, *limits, *more, config_name="evaluate"))
    folder = only_run(tmp_path)
    assert stopped.value.code == code
    assert f"resume with: grpo-aflow-eval resume={folder}" in str(stopped.value)
    assert json.loads((folder / "manifest.json").read_text())["status"].startswith("failed: ")
    assert not (folder / "results.json").exists()


@pytest.mark.slow
def test_a_training_whose_key_is_refused_is_saved(model_cache, tmp_path):
    """Bad input after the first step: a checkpoint, the resume line, and a resumed run that pays nothing twice."""
    broken = True

    def answer(number, body):
        if broken and number > 60:
            return 401, {"error": {"message": "Your key was revoked on Tuesday"}}
        return completion("<answer>4</answer> \\boxed{4}")

    with small_endpoint(answer) as endpoint:
        long = ("schedule.num_steps=40", "schedule.save_every=50", "eval.datasets=[]")
        done = finished("train", [*SMALL, *endpoint.overrides, *long, f"paths.runs={tmp_path}"], tmp_path)
        assert done.returncode == 2, done.stderr
        folder = only_run(tmp_path)
        steps = len(list(read_jsonl(folder / "metrics.jsonl")))
        assert steps >= 1
        error = the_error(done)
        assert "Your key was revoked on Tuesday" in error
        assert f"saved step_{steps:06d}; resume with: grpo-aflow-train resume={folder}" in error
        assert (folder / f"checkpoints/step_{steps:06d}").is_dir()
        broken = False
        more = ["schedule.num_steps=" + str(steps + 1), "resume_with=[schedule.num_steps]"]
        resumed = finished("train", [f"resume={folder}", *more], tmp_path)
        assert resumed.returncode == 0, resumed.stderr
        assert set(answered(folder).values()) == {1}


def test_an_evaluation_goes_on_with_the_tasks_that_it_began_with(overrides, tmp_path):
    """A completion on file is known by its task's place: that of another task there would be run on this one."""
    run = RunDirectory.create(tmp_path, "eval", compose(*overrides, config_name="evaluate").plain)
    run.update_manifest(tasks={"evaluated": "of the file before a line of it was deleted"})
    run.close("interrupted")
    before = (run.path / "manifest.json").read_bytes()
    with pytest.raises(UserError, match=r"the tasks of evaluated are not those .* resume_with=\[eval\]"):
        run_evaluation(compose(*overrides, f"resume={run.path}", config_name="evaluate"))
    assert (run.path / "manifest.json").read_bytes() == before


@pytest.mark.parametrize("kind", [UserError, BudgetReached, InfrastructureError])
async def test_whatever_a_user_can_correct_is_rescued(kind):
    """The loop's own ending, by itself: saved, told with the way to go on, and its report printed."""

    class Ended:
        finished, reported = 0, False

        async def evaluate(self, step, interrupt):
            raise kind("the server's words")

        async def rescue(self, error):
            return f"{error}; saved step_{self.finished:06d}; resume with: grpo-aflow-train resume=folder"

        def report(self):
            self.reported = True

    training = Ended()
    with pytest.raises(kind, match="the server's words; saved step_000000; resume with: .* resume=folder"):
        await train._run(training, interrupt=None, stepped=lambda step, figures: None)
    assert training.reported


@pytest.mark.parametrize(("finished", "evaluated"), [(0, [0, 3]), (2, [2, 3]), (3, [3, 3])])
async def test_only_the_policy_that_is_there_is_evaluated(finished, evaluated, monkeypatch):
    """A run that goes on behind its first step has none from before training any more."""

    class Resumed:
        def __init__(self):
            self.finished, self.config, self.asked = finished, SimpleNamespace(schedule=schedule(eval_every=1)), []

        async def evaluate(self, step, interrupt):
            self.asked.append(step)

        def report(self):
            return 0.5

    async def steps(training, interrupt, stepped):
        training.finished = 3

    monkeypatch.setattr(train, "run_loop", steps)
    training = Resumed()
    await train._run(training, interrupt=None, stepped=lambda step, figures: None)
    assert training.asked == evaluated
