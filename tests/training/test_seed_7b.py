"""The predecessor's run, `experiment=seed_7b`: every value as it was, and two real steps of it on the tiny model."""

import json
import math
import shutil
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.run.files import read_jsonl

pytestmark = pytest.mark.slow

SEED = {
    "name": "seed_7b",
    "lora.rank": 128,
    "lora.alpha": 128,
    "lora.dropout": 0.05,
    "lora.target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"],
    "schedule.prompts_per_step": 4,
    "schedule.group_size": 4,
    "schedule.learning_rate": 2e-5,
    "schedule.warmup_steps": 100,
    "schedule.decay": "constant",
    "schedule.max_staleness": 0,
    "schedule.log_every": 5,
    "schedule.save_every": 20,
    "schedule.eval_every": 0,
    "learner.micro_batch": 4,
    "learner.accumulation": 4,
    "learner.max_grad_norm": 1.0,
    "learner.weight_decay": 0.01,
    "objective._target_": "grpo_aflow.learner.objectives.TokenClip",
    "objective.advantage": "group_std",
    "objective.clip_low": 0.2,
    "objective.clip_high": 0.2,
    "objective.kl": "k3",
    "objective.kl_coef": 0.02,
    "objective.old_logprobs": "learner",
    "objective.correction": "token_truncate",
    "sampler._target_": "grpo_aflow.sampler.opening.Vllm",
    "sampler.temperature": 0.5,
    "sampler.final_temperature": 0.15,
    "sampler.temperature_steps": 150,
    "sampler.top_p": 0.95,
    "sampler.top_k": 50,
    "sampler.max_tokens": 8192,
    "data_mix.ratios": {"math": 0.4, "qa": 0.3, "code": 0.3},
    "workflow.deadline_s": 180.0,
    "eval.datasets": [],
    "logger.wandb._target_": "grpo_aflow.run.loggers.WandB",
    "logger.wandb.project": "aflow-roll-integration",
}
# What the predecessor had otherwise: float16, and activations that were kept.
DIFFERENT = {"model.dtype": "bfloat16", "learner.gradient_checkpointing": True}
ON_ITS_OWN_MACHINE = {
    "model.path": "Qwen/Qwen2.5-7B-Instruct",
    "model.device": "cuda",
    "schedule.num_steps": 500,
    "executor.model": "gpt-4o-mini",
    "executor.base_url": "https://api.openai.com/v1",
    "data_mix.source": "hub",
    "warmstart._target_": "grpo_aflow.learner.warmstart.NoWarmStart",
    "prompt._target_": "grpo_aflow.workflow.prompt.Full",
}
# What a machine without a card, a key and a network forces. The tiny policy stands for the published model and needs no
# warm start; it reads the short prompt that it knows, and its context must hold answers of 8,192 tokens. Refills, since
# the rewards of so few small groups may all be equal, and then there is no second version.
HERE = (
    "experiment=seed_7b",
    "model.device=cpu",
    "model.cpu_threads=1",
    "model.dtype=float16",
    "prompt=compact",
    "executor=simulated",
    "data_mix.source=bundled",
    "schedule.num_steps=2",
    "schedule.refill=8",
    "model.max_model_len=8448",
)


def value(plain, key):
    for name in key.split("."):
        plain = plain[name]
    return plain


def differing(config, expected):
    return {key: value(config.plain, key) for key in expected if value(config.plain, key) != expected[key]}


@pytest.fixture(scope="module")
def published(trained_run, tmp_path_factory):
    """The tiny policy's folder with a context as long as a published model's."""
    folder = tmp_path_factory.mktemp("hub") / "published"
    shutil.copytree(trained_run / "base_model", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 8448}))
    return folder


@pytest.fixture(scope="module")
def seed_run(published, tmp_path_factory):
    pytest.importorskip("vllm", reason="vLLM is not installed")
    pytest.importorskip("wandb", reason="W&B is not installed")
    from grpo_aflow.train import train

    root = tmp_path_factory.mktemp("seed_7b")
    config = compose(*HERE, f"model.path={published}", f"paths.runs={root}")
    config.check()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("WANDB_MODE", "offline")
        train(config)
    [manifest] = root.rglob("manifest.json")
    return manifest.parent


def test_the_experiment_holds_every_value_of_the_seed():
    config = compose("experiment=seed_7b")
    config.check()
    assert differing(config, SEED | DIFFERENT | ON_ITS_OWN_MACHINE) == {}


def test_what_this_machine_forces_changes_none_of_them():
    assert differing(compose(*HERE), SEED) == {}


def test_values_that_are_worked_out():
    config = compose(*HERE)
    size = config.schedule.prompts_per_step * config.schedule.group_size
    assert config.learner.num_rows(size) == 4  # four micro-batches of four make the step
    assert config.schedule.learning_rate_at(1) == pytest.approx(2e-7)
    assert config.schedule.learning_rate_at(100) == config.schedule.learning_rate_at(400) == 2e-5
    temperatures = [config.sampler.params(step).temperature for step in (1, 76, 151, 500)]
    assert temperatures == pytest.approx([0.5, 0.325, 0.15, 0.15])


def test_two_steps_make_two_versions_with_finite_losses(seed_run):
    assert json.loads((seed_run / "manifest.json").read_text())["status"] == "done"
    steps = list(read_jsonl(seed_run / "metrics.jsonl"))
    assert [line["step"] for line in steps] == [line["update/version"] for line in steps] == [1, 2]
    for line in steps:
        assert line["update/made"] == 1
        assert line["gate/adapter_effect"] > 0
        assert 0 < line["update/grad_norm"] < math.inf
        assert all(math.isfinite(line[name]) for name in ("loss/total", "loss/policy", "loss/kl"))
        assert line["sampler/temperature"] == pytest.approx(0.5 - 0.35 * (line["step"] - 1) / 150)
    versions = {line["step"]: line["version"] for line in read_jsonl(seed_run / "rollouts.jsonl")}
    assert versions == {1: 0, 2: 1}


def test_what_is_saved_is_the_seeds_adapter(seed_run):
    adapter = json.loads((seed_run / "checkpoints/step_000002/adapter/adapter_config.json").read_text())
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (128, 128, 0.05)
    assert sorted(adapter["target_modules"]) == ["k_proj", "o_proj", "q_proj", "v_proj"]
    assert list(seed_run.glob("wandb/offline-run-*/*.wandb"))


def test_a_truncated_sampler_is_corrected_over_its_own_support(seed_run):
    """Top-p 0.95 and top-k 50 raise recorded log-probabilities above the full distribution's, by up to -log 0.95.

    The learner's mismatch, from which its correction weights come, must not see that as a mismatch.
    """
    import torch
    from transformers import AutoModelForCausalLM

    base = Path(json.loads((seed_run / "manifest.json").read_text())["base_model"])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()
    raised = []
    for line in read_jsonl(seed_run / "rollouts.jsonl"):
        if (line["kind"], line["step"]) != ("completion", 1):  # version 0 is the base
            continue
        prompt, ids = line["prompt_ids"], torch.tensor(line["token_ids"])
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *line["token_ids"]]])).logits[0, len(prompt) - 1 : -1]
        full = (logits / 0.5).log_softmax(dim=-1).gather(-1, ids[:, None])[:, 0]
        raised += (torch.tensor(line["logprobs"]) - full).tolist()
    assert 0.01 < max(raised) < -math.log(0.95) + 0.02  # beyond rounding in fp16
    first = next(read_jsonl(seed_run / "metrics.jsonl"))
    assert first["mismatch/mean_abs_logp"] < sum(raised) / len(raised) / 5
    assert first["mismatch/out_of_support"] < 0.02
    assert 0.99 < first["mismatch/ess"] <= 1
