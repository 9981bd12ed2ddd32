"""Attention kernels against the softmax written out; a wrong one is named."""

import pytest
import torch

from grpo_aflow.learner.policy import kernel_check
from grpo_aflow.learner.policy.kernel_check import check_kernels
from grpo_aflow.learner.policy.kernels import CpuKernel
from grpo_aflow.types import SelfTestFailed

CPU = torch.device("cpu")
SHAPE = {"num_heads": 14, "num_kv_heads": 2, "head_size": 64}  # of a 0.5B model


class Faulty(CpuKernel):
    def __init__(self, factor):
        self.factor = factor

    def backward(self, *given):
        d_query, d_key, d_value = super().backward(*given)
        return d_query, d_key * self.factor, d_value


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [SHAPE, {"num_heads": 4, "num_kv_heads": 4, "head_size": 128}])
def test_this_machines_kernels_hold(dtype, shape):
    errors = check_kernels(CPU, dtype, **shape)
    assert list(errors) == ["causal attention", "continued attention, joined", "continued attention, CpuKernel"]
    assert max(errors.values()) <= kernel_check.TOLERANCE[dtype]


@pytest.mark.parametrize(
    ("factor", "message"),
    [(float("nan"), "Faulty returns NaN or infinity"), (1.01, "Faulty is off by .* of its result")],
)
def test_a_wrong_kernel_is_named(monkeypatch, factor, message):
    monkeypatch.setattr(kernel_check, "kernel_for", lambda *_: Faulty(factor))
    with pytest.raises(SelfTestFailed, match=message + r" .*torch.float32 on cpu, 14 heads of 64.*update torch"):
        check_kernels(CPU, torch.float32, **SHAPE)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA card")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_cards_kernels_hold(dtype):
    check_kernels(torch.device("cuda"), dtype, **SHAPE)
