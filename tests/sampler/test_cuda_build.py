"""What we give to vLLM exists in its CUDA build: names read from the pinned wheel (`cuda_wheel.py`), compared here."""

import ast
import importlib
import json
import tomllib
from dataclasses import fields, replace
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.memory.shapes import QWEN25_7B
from grpo_aflow.sampler.settings import AdapterLimits

ROOT = Path(__file__).parents[2]
WHEEL = json.loads(Path(__file__).with_name("cuda_wheel.json").read_text(encoding="utf-8"))
SAMPLER = [
    ast.parse(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "grpo_aflow/sampler").glob("vllm*.py"))
]
NODES = [node for tree in SAMPLER for node in ast.walk(tree)]


def test_the_list_is_of_the_pinned_version():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [pinned] = [line for line in extras["cuda"] if line.startswith("vllm")]
    assert WHEEL["wheel"].startswith(pinned.replace("==", "-") + "-")


def test_every_engine_argument_of_ours_exists_there():
    [call] = [n for n in NODES if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "AsyncEngineArgs"]
    given = {keyword.arg for keyword in call.keywords}
    assert {"hf_overrides", "logprobs_mode", "lora_target_modules"} <= given
    assert given <= set(WHEEL["engine_arguments"])


def test_every_variable_that_we_set_for_the_engine_is_read_there():
    texts = {n.value for n in NODES if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    named = {text for text in texts if text.startswith("VLLM_") and text.isupper()}
    assert {"VLLM_FLOAT32_MATMUL_PRECISION", "VLLM_LOGGING_LEVEL"} <= named
    assert named <= set(WHEEL["environment"])


def test_every_method_of_the_engine_that_we_call_exists_there():
    on_engine = [n for n in NODES if isinstance(n, ast.Attribute) and getattr(n.value, "id", "") == "engine"]
    called = {node.attr for node in on_engine}
    assert {"generate", "add_lora", "remove_lora"} <= called
    assert called <= set(WHEEL["engine_methods"])


def test_both_builds_run_the_same_python():
    """So what the CPU tests see of scheduling, LoRA, caching and scoring is what a card runs, down to the kernels."""
    apart = ["vllm/_version.py", "vllm/platforms/__init__.py", "vllm/utils/cpu_triton_utils.py"]  # which build it is
    assert WHEEL["differs_from_cpu_build"] == apart


@pytest.mark.slow
def test_the_engine_of_a_card(tiny_policy, monkeypatch):
    """Arguments and environment as a card's engine gets them; nothing is started."""
    from grpo_aflow.sampler.vllm_engine import UNUSED_SHARE, _engine_arguments, _environment

    model = replace(tiny_policy, device="cuda:1", dtype="bfloat16")
    limits = AdapterLimits(rank=16, num_versions=3, layers=("q_proj", "down_proj"))

    def arguments(*overrides):
        return _engine_arguments(compose(*overrides).sampler, model, limits, seed=0)

    shared = arguments()
    assert (shared.gpu_memory_utilization, shared.kv_cache_memory_bytes) == (0.5, None)
    assert (shared.hf_overrides, shared.lora_target_modules) == ({}, ["q_proj", "down_proj"])
    given = arguments("sampler.kv_cache_gb=2", "learner.lm_head_fp32=true")
    assert (given.gpu_memory_utilization, given.kv_cache_memory_bytes) == (UNUSED_SHARE, 2 << 30)
    assert given.hf_overrides == {"head_dtype": "float32"}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    environment = _environment(compose().sampler, model)
    assert environment["CUDA_VISIBLE_DEVICES"] == "5"
    halves = arguments("sampler.tensor_parallel_size=2")
    assert (shared.tensor_parallel_size, shared.distributed_executor_backend) == (1, "uni")
    assert (halves.tensor_parallel_size, halves.distributed_executor_backend) == (2, "mp")
    both = _environment(compose("sampler.tensor_parallel_size=2").sampler, replace(model, device="cuda:0"))
    assert both["CUDA_VISIBLE_DEVICES"] == "3,5"
    assert environment["VLLM_FLOAT32_MATMUL_PRECISION"] == "highest"


@pytest.mark.slow
def test_nothing_of_ours_keeps_a_card_from_async_scheduling(tiny_policy):
    """By what `VllmConfig` asks before it turns it on; the estimates count the host's time beside the card's."""
    from vllm.v1.executor.abstract import Executor
    from vllm.v1.executor.multiproc_executor import MultiprocExecutor
    from vllm.v1.executor.uniproc_executor import UniProcExecutor

    from grpo_aflow.sampler.vllm_engine import _engine_arguments

    limits = AdapterLimits(rank=16, num_versions=3, layers=("q_proj",))
    for cards in (1, 2):
        sampling = compose(f"sampler.tensor_parallel_size={cards}").sampler
        given = _engine_arguments(sampling, replace(tiny_policy, device="cuda:0", dtype="bfloat16"), limits, seed=0)
        assert (given.async_scheduling, given.speculative_config, given.pipeline_parallel_size) == (None, None, 1)
        assert given.distributed_executor_backend in ("uni", "mp")
    assert UniProcExecutor.supports_async_scheduling()
    assert MultiprocExecutor.supports_async_scheduling()
    assert not Executor.supports_async_scheduling()


@pytest.mark.slow
def test_the_installed_build_has_these_arguments():
    from vllm import AsyncEngineArgs

    assert {field.name for field in fields(AsyncEngineArgs)} == set(WHEEL["engine_arguments"])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["qwen2.Qwen2ForCausalLM", "qwen3.Qwen3ForCausalLM"])
def test_layers_by_name_are_all_but_the_head(model):
    """What a run with lora.target_modules=[all-linear] names to vLLM; without names it would adapt the LM head, too."""
    from vllm.lora.utils import is_in_target_modules

    module, _, name = model.partition(".")
    served = getattr(importlib.import_module(f"vllm.model_executor.models.{module}"), name)

    def adapted(module, names):
        return is_in_target_modules(module, names, served.packed_modules_mapping)

    names = list(QWEN25_7B.linears())
    assert all(adapted(f"model.layers.0.{name}", names) for name in ("qkv_proj", "o_proj", "gate_up_proj", "down_proj"))
    assert not adapted("lm_head", names)
    assert adapted("lm_head", None)
