"""A platform plugin of vLLM (entry point `vllm.platform_plugins`): our CPU kernels for LoRA in place of its own.

vLLM calls `register` in every process that imports it. It names our platform inside an engine of ours on the CPU, and
nowhere else.
"""

from __future__ import annotations

import os

from vllm.platforms.cpu import CpuPlatform

from grpo_aflow.run import cpu_functions
from grpo_aflow.sampler.settings import CPU_LORA_SWITCH


def register() -> str | None:
    """The platform class to use, or None to leave vLLM as it is."""
    if os.environ.get(CPU_LORA_SWITCH) != "1":
        return None
    cpu_functions.settle()
    return f"{__name__}.{Platform.__name__}"


class Platform(CpuPlatform):
    """vLLM's CPU platform with other kernels for LoRA."""

    @classmethod
    def get_punica_wrapper(cls) -> str:
        return "grpo_aflow.sampler.cpu_lora.GroupedLora"
