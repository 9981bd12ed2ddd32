from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from grpo_aflow.learner import hardware
from grpo_aflow.learner.hardware import about_card, driver_version, read_hardware
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


@pytest.mark.parametrize(
    ("script", "driver", "number"),
    [
        ("echo 'Unable to determine the device handle for GPU0000:01:00.0: Unknown Error'; echo \"$row\"", "580.1", 1),
        ("echo 'NVIDIA-SMI has failed, because it could not communicate with the driver.'; exit 9", None, None),
        ("sleep 60", None, None),
    ],
)
def test_an_ailing_nvidia_smi_is_as_good_as_none(
    script: str, driver: str | None, number: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "nvidia-smi"
    rows = 'case "$1" in *free*) row="GPU-1, 580.1, [N/A]";; *) row="GPU-1, 580.1";; esac\n'
    program.write_text(f"#!/bin/bash\n{rows}exec 2>/dev/null\n{script.replace('sleep', 'exec sleep')}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(hardware, "SMI_S", 1.0 if script.startswith("sleep") else 30.0)
    assert driver_version() == driver
    found = read_hardware()
    assert (found.driver, found.num_installed) == (driver, number)


def test_emulated_bfloat16_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    t4 = SimpleNamespace(name="Tesla T4", major=7, minor=5)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: t4)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (15 << 30, 16 << 30))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)  # as torch says of a T4
    assert "capability 7.5, NO bf16" in about_card("cuda:0")
