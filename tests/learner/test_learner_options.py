"""Settings and LoRA: every shipped option is whole, nonsense is refused with the fix, nothing heavy is imported."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
from learner_cases import settings, spec
from test_objectives import option

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.settings import AdapterProducts, LearnerSettings, Packing

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "lora").glob("*.yaml")))
def test_a_lora_option_is_whole(name):
    node = option("lora", name)
    assert node.pop("_target_") == "grpo_aflow.learner.lora.LoraSpec"
    assert f"r{LoraSpec(**node).rank}" == name
    assert set(node) == {field.name for field in dataclasses.fields(LoraSpec)}


def test_the_learner_option_is_whole():
    node = option("learner", "default")
    assert node.pop("_target_") == "grpo_aflow.learner.settings.LearnerSettings"
    words = {"packing": Packing(node["packing"]), "adapter_products": AdapterProducts(node["adapter_products"])}
    assert LearnerSettings(**node | words)
    assert set(node) == {field.name for field in dataclasses.fields(LearnerSettings)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 0}, "rank must be from 1 to 512, the largest that vLLM serves; got 0"),
        ({"rank": 513}, "got 513"),
        ({"alpha": 0}, "alpha must be at least 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"target_modules": []}, "at least one linear layer"),
        ({"target_modules": ["q_proj", "lm_head"]}, "cannot hold lm_head"),
    ],
)
def test_lora_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        spec(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"micro_batch": 0}, "micro_batch must be at least 1; got 0"),
        ({"accumulation": -1}, "accumulation must be at least 1"),
        ({"logits_chunk": 0}, "logits_chunk must be at least 1"),
        ({"max_grad_norm": -0.1}, "max_grad_norm must be at least 0"),
        ({"betas": [0.9]}, "two numbers"),
        ({"betas": [0.9, 1.0]}, "two numbers"),
    ],
)
def test_settings_refuse(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


def test_option_classes_import_nothing_heavy():
    code = (
        "import sys; import grpo_aflow.rollout.advantage, grpo_aflow.learner.lora, grpo_aflow.learner.memory.plan, "
        "grpo_aflow.learner.models, grpo_aflow.learner.objectives, grpo_aflow.learner.settings, "
        "grpo_aflow.learner.warmstart, grpo_aflow.learner.worker, grpo_aflow.sampler.opening; "
        "sys.exit(bool({'torch', 'transformers', 'peft', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
