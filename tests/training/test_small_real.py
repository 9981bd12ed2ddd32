"""The real model on two cores: what `experiment=small_real` composes to, what is refused, and two steps of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.types import DOMAINS, Task, UserError
from grpo_aflow.workflow import check_text

BIN = Path(sys.executable).parent
MODEL = os.environ.get("GRPO_AFLOW_REAL_MODEL", "")
SHARED = ("model=qwen25_coder_05b", "executor=shared", "prompt=brief")


@pytest.fixture
def folder(tmp_path):
    """As much of a model as is looked at before anything is opened."""
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 32768}')
    (tmp_path / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    return tmp_path


def test_it_composes(folder):
    config = compose("experiment=small_real", f"model.path={folder}", "model.device=cuda")
    config.check()
    assert type(config.executor).__name__ == "SharedExecutor"
    assert type(config.prompt).__name__ == "Brief"
    assert config.schedule.prompts_per_step * config.schedule.group_size >= 16
    assert {name for name, weight in config.data_mix.datasets.items() if weight} == {"gsm8k", "squad2", "mbpp"}


def test_the_evaluation_composes_too(folder):
    compose(*SHARED, f"model.path={folder}", config_name="evaluate").check()


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (("executor=shared",), "model=tiny can only write workflows; choose a model that follows instructions"),
        (("executor=shared", "policy=fixed", "policy.path=x.py"), "choose a model that follows instructions"),
        ((*SHARED, "executor.max_tokens=4096"), "executor.max_tokens=4096 leaves no room for a prompt in model.max_mo"),
        ((*SHARED, "executor.base_url=http://h/v1"), "base_url must be null in executor=shared: executor=local has"),
        ((*SHARED, "executor.api_key_env=KEY"), "api_key_env must be null in executor=shared: the engine asks for no"),
        ((*SHARED, "+executor.extra_body.x=1"), "extra_body is for servers; executor=shared reads"),
    ],
)
def test_bad_input_is_one_line(overrides, told, folder):
    path = [f"model.path={folder}"] if overrides[0].startswith("model=") else []
    with pytest.raises(UserError, match=r".") as raised:
        compose(*overrides, *path, config_name="evaluate").check()
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_brief_prompt_shows_a_valid_workflow_and_the_problem(domain):
    config = compose("prompt=brief", "prompt.problem_chars=20")
    problem = "How many legs have three spiders and a duck?"
    system, user = config.prompt.messages(Task(id="x", dataset="d", domain=domain, problem=problem, answers=("",)))
    assert problem[:20] in user["content"]
    assert problem[:21] not in user["content"]
    assert "[…]" in user["content"]
    assert config.prompt.example[domain].strip() in system["content"]
    assert ("operator.Programmer" in system["content"]) == (domain == "math")
    assert not check_text(config.prompt.example[domain], domain=domain, rules=config.workflow, repair=False).findings


@pytest.mark.real_model
@pytest.mark.skipif(not MODEL, reason="GRPO_AFLOW_REAL_MODEL names no model folder")
def test_two_steps_of_a_real_model(tmp_path):
    command = [
        str(BIN / "grpo-aflow-train"),
        *("experiment=small_real", f"model.path={MODEL}", "data_mix=balanced", "data_mix.source=bundled"),
        *("warmstart.num_steps=2", "schedule.num_steps=2", "schedule.prompts_per_step=2", "schedule.group_size=2"),
        *("executor.max_tokens=64", "sampler.max_tokens=128", f"paths.runs={tmp_path}", f"paths.cache={tmp_path}/c"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [metrics] = tmp_path.rglob("metrics.jsonl")
    assert len(metrics.read_text().splitlines()) == 2


def test_a_step_fits_a_card_of_8_gb(tmp_path):
    from grpo_aflow.learner.memory.plan import Load, memory_plan
    from grpo_aflow.learner.memory.shapes import QWEN25_05B as shape
    from grpo_aflow.training.planning import served_weights

    config = compose("experiment=small_real", f"model.path={tmp_path}", "model.device=cuda")
    sampler = config.sampler.memory(served_weights(config, shape), device_bytes=8 << 30, on_card=True).total
    load = Load(prompt_tokens=800, completion_tokens=config.sampler.max_tokens, group_size=config.schedule.group_size)
    memory_plan(
        shape, config.lora, config.learner, load, dtype="bfloat16", device_bytes=8 << 30, sampler_bytes=sampler
    ).check()
