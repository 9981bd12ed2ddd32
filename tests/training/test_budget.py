"""A cap of the run is reached in the middle of training: all is saved; with a higher one it ends as without."""

import itertools
import json
from collections import Counter

import pytest
from commands import finished
from run_cases import ROLLOUTS_A_STEP, SMALL, adapter_of, metrics_of, only_run

from grpo_aflow.executor.ledger import read_costs
from grpo_aflow.run.files import read_jsonl

pytestmark = pytest.mark.slow

KEY = "executor.max_usd"
ONE_CALL = 0.00065  # the worst case of one call, which is set aside before it is sent


def usd(spend):
    return spend.usd


def spent_until_the_middle_of(step, run):
    """What the run had spent when half of the step's calls were answered."""
    entries = read_costs(run / "ledger.jsonl").entries
    before = list(itertools.takewhile(lambda entry: entry.step < step, entries))
    within = [entry for entry in entries if entry.step == step]
    return sum(usd(entry.spend) for entry in [*before, *within[: len(within) // 2]])


def test_a_cap_stops_the_run_within_the_step_and_a_higher_one_goes_on(trained_run, tmp_path):
    cap = spent_until_the_middle_of(2, trained_run) + ONE_CALL
    stopped = finished("train", [*SMALL, f"{KEY}={cap}", f"paths.runs={tmp_path}"], tmp_path)
    run = only_run(tmp_path)
    assert stopped.returncode == 3, stopped.stderr
    [line] = [line for line in stopped.stderr.splitlines() if line.startswith("error:")]
    assert f"{KEY}={cap:g} reached" in line
    assert f"resume_with=[{KEY}]; saved step_000001; resume with: grpo-aflow-train resume={run}" in line
    assert f"run folder: {run}\nlast step: 1, mean reward " in stopped.stdout
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["status"] == "budget reached"
    assert (run / "checkpoints/step_000001").is_dir()
    assert [line["step"] for line in read_jsonl(run / "metrics.jsonl")] == [1]
    assert not (run / "lock").exists()

    costs = read_costs(run / "ledger.jsonl")
    assert {entry.step for entry in costs.entries} == {-1, 1, 2}
    assert {entry.outcome for entry in costs.entries} <= {"ok", "cached"}  # nothing that was sent was given up
    assert usd(costs.total) <= cap
    for name in ("ledger.jsonl", "rollouts.jsonl"):
        content = (run / name).read_bytes()
        assert content.endswith(b"\n")
        assert all(json.loads(line) for line in content.splitlines())
    kinds = Counter((line["kind"], line["step"]) for line in read_jsonl(run / "rollouts.jsonl"))
    assert kinds["rollout", 1] == kinds["completion", 1] == ROLLOUTS_A_STEP
    assert kinds["rollout", 2] < ROLLOUTS_A_STEP

    raised = [f"resume={run}", f"{KEY}={100 * cap}", f"resume_with=[{KEY}]"]
    resumed = finished("train", raised, tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads((run / "manifest.json").read_text())["status"] == "done"
    assert metrics_of(run) == metrics_of(trained_run)
    assert adapter_of(run, 3) == adapter_of(trained_run, 3)
    costs, uncapped = (read_costs(folder / "ledger.jsonl") for folder in (run, trained_run))
    answered = Counter(entry.key for entry in costs.entries if entry.outcome == "ok")
    assert max(answered.values()) == 1
    assert usd(costs.total) == pytest.approx(usd(uncapped.total))  # nothing was paid for twice
