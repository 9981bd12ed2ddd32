import torch

from grpo_aflow.learner.hardware import read_hardware
from grpo_aflow.run.cards import float32_products


def test_fp32_products_are_exact_unless_asked_otherwise():
    before = torch.get_float32_matmul_precision()
    try:
        for tf32 in (True, False):
            torch.set_float32_matmul_precision(float32_products(tf32=tf32))
            assert torch.backends.cuda.matmul.allow_tf32 is tf32
    finally:
        torch.set_float32_matmul_precision(before)


def test_this_machine_is_read():
    found = read_hardware()
    assert len(found.cards) == torch.cuda.device_count()
    assert found.torch_has_cuda == (torch.version.cuda is not None)
    assert found.vllm_build in ("cpu", "cuda")
    assert read_hardware(cards=False).vllm_build == found.vllm_build
