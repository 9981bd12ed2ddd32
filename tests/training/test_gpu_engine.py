"""The engine's half of `make gpu-check`, on the CPU: vLLM and the learner on one small model of a real shape's kind."""

from pathlib import Path

import pytest
from installed import NEEDS_VLLM

from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.memory.plan import Load
from grpo_aflow.learner.memory.shapes import ModelShape
from grpo_aflow.training.gpu_engine import engine_and_learner

pytestmark = [pytest.mark.slow, NEEDS_VLLM]

SHAPE = ModelShape(
    num_layers=2,
    hidden_size=128,
    intermediate_size=256,
    num_heads=4,
    num_kv_heads=2,
    head_size=32,
    vocab_size=512,
    tied_embeddings=True,
)
LOAD = Load(prompt_tokens=64, completion_tokens=32, group_size=4)
LORA = LoraSpec(rank=8, alpha=16, dropout=0.0, target_modules=["all-linear"])


def test_a_group_goes_the_whole_way_through_an_engine_in_two_halves():
    """Two processes of vLLM hold a half of the weights each; on cards they would be on one each."""
    segments = set(Path("/dev/shm").glob("vllm_dist_*"))
    found = engine_and_learner(SHAPE, LOAD, "cpu", lora=LORA, dtype="float32", tensor_parallel_size=2)
    assert found.startswith("engine started in ")
    assert "mismatch over 128 tokens: mean " in found
    largest = float(found.partition("largest ")[2].split()[0])
    assert largest < 1e-4
    assert found.endswith("new version's slope 1.00")
    assert set(Path("/dev/shm").glob("vllm_dist_*")) <= segments
