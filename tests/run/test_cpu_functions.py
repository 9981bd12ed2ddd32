import re
from pathlib import Path

import pytest
import torch
from model_cases import TINY, prepare

from grpo_aflow.learner.policy.base import load_base
from grpo_aflow.learner.preparation.threads import use_threads
from grpo_aflow.learner.settings import Packing
from grpo_aflow.learner.warmstart import NoWarmStart
from grpo_aflow.run.cpu_functions import FUNCTIONS, settle
from grpo_aflow.sampler.hf import HfSampler


@pytest.fixture
def unsettled():
    settle.cache_clear()
    return settle.cache_info


def test_these_are_the_functions_that_torch_takes_from_mkl():
    header = (Path(torch.__file__).parent / "include/ATen/cpu/vml.h").read_text()
    assert sorted(FUNCTIONS) == sorted(re.findall(r"^IMPLEMENT_VML_MKL\((\w+), \w+\)", header, re.MULTILINE))


def test_before_a_process_is_given_its_threads(unsettled):
    use_threads(torch.get_num_threads())
    assert unsettled().misses == 1
    use_threads(torch.get_num_threads())
    assert unsettled().misses == 1


async def test_before_a_model_is_loaded_by_itself(unsettled, tmp_path):
    model, _ = prepare(TINY, tmp_path, NoWarmStart())
    settle.cache_clear()
    load_base(model.path, device="cpu", dtype="float32", packing=Packing.shared_prefix)
    assert unsettled().misses == 1
    settle.cache_clear()
    await (await HfSampler.start(model)).close()
    assert unsettled().misses == 1


def test_before_an_engine_computes(unsettled, monkeypatch):
    """vLLM calls it first of all in each of an engine's processes."""
    register = pytest.importorskip("grpo_aflow.sampler.cpu_platform").register
    monkeypatch.setenv("GRPO_AFLOW_CPU_LORA", "1")
    assert register() == "grpo_aflow.sampler.cpu_platform.Platform"
    assert unsettled().misses == 1
