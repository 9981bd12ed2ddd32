"""Settings as conf/executor/ has them, small tasks, and one-line calls."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from executor_cases import values_of

from grpo_aflow.executor.settings import EndpointSettings
from grpo_aflow.protocols import ChatModel
from grpo_aflow.simulation.expected_accuracy import TASKS
from grpo_aflow.simulation.world import SLOTS
from grpo_aflow.types import CallContext, ChatReply, Task


@pytest.fixture
def settings() -> Callable[..., Any]:
    """settings("simulated", retries=0): the option's record with some values replaced."""

    def make(option: str = "simulated", **changed: Any) -> EndpointSettings:
        values = values_of(option) | changed
        module, _, name = values.pop("_target_").rpartition(".")
        return getattr(importlib.import_module(module), name)(**values)

    return make


@pytest.fixture
def prompts() -> dict[str, str]:
    return {slot: slot for slot in SLOTS}


@pytest.fixture
def tasks() -> tuple[Task, ...]:
    return TASKS


Ask = Callable[..., Awaitable[ChatReply]]


@pytest.fixture
def ask() -> Ask:
    """await ask(executor, task, member=0, ordinal=(0,)): one call of an operator about the task."""

    async def call(
        executor: ChatModel,
        task: Task,
        *,
        slot: str = "custom",
        step: int = 0,
        member: int = 0,
        ordinal: tuple[int, ...] = (0,),
        temperature: float = 0.7,
        max_tokens: int = 64,
        extra: str = "",
    ) -> ChatReply:
        context = CallContext(
            step=step,
            task_id=task.id,
            dataset=task.dataset,
            member=member,
            operator=slot,
            ordinal=ordinal,
            domain=task.domain,
        )
        return await executor.chat(
            [
                {"role": "system", "content": slot},
                {"role": "user", "content": f"<problem>\n{task.problem}\n</problem>{extra}"},
            ],
            context=context,
            temperature=temperature,
            max_tokens=max_tokens,
        )

    return call
