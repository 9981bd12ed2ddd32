"""Whole training steps with vLLM's engines and two learner ranks, each a process that Ray places."""

import pytest
from installed import NEEDS_RAY, NEEDS_VLLM
from run_cases import SMALL, only_run

from grpo_aflow.config.composing import compose
from grpo_aflow.run.files import read_jsonl

pytestmark = [pytest.mark.slow, NEEDS_VLLM, NEEDS_RAY]

SHARES = ("cluster.engine_cpus=0.25", "cluster.rank_cpus=0.25")
# vLLM draws anew each time, and then the rewards of so few groups may all be equal: these make a version of any group.
ALWAYS_AN_UPDATE = ("objective.entropy_coef=0.01", "objective.zero_variance=regularise")
NUM_ENGINES = 1  # of two, `tests/sampler/test_vllm_on_ray.py` shows that they serve the same


def test_the_next_version_is_served_by_vllm(model_cache, tmp_path):
    from grpo_aflow.train import train

    train(
        compose(
            *SMALL, *SHARES, *ALWAYS_AN_UPDATE, "sampler=vllm", "sampler.kv_cache_gb=0.1", "schedule.num_steps=2",
            "eval.datasets=[]", "cluster=ray", f"cluster.num_engines={NUM_ENGINES}", "cluster.num_ranks=2",
            f"paths.runs={tmp_path}",
        )
    )  # fmt: skip
    first, second = read_jsonl(only_run(tmp_path) / "metrics.jsonl")
    assert (first["update/version"], second["update/version"]) == (1, 2)
    for line in (first, second):  # learner and engines agree on every version
        assert line["gate/disagreement"] <= line["gate/tolerance"]
        assert line["update/num_sequences"] > 0
    drawn = [line for line in read_jsonl(only_run(tmp_path) / "rollouts.jsonl") if line["kind"] == "completion"]
    assert {(line["step"], line["version"]) for line in drawn} == {(1, 0), (2, 1)}
