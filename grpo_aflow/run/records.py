"""Rollouts and completions as the lines of `rollouts.jsonl`, and back."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from grpo_aflow.run.files import as_type, typed_lines, unreadable
from grpo_aflow.types import Completion, Finding, Grade, OperatorCall, Rollout

RolloutKey = tuple[int, int, int]  # (step, group index, member)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class StepLine:
    """What every line of metrics has."""

    step: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MemberLine:
    """What every line of rollouts has."""

    kind: Literal["completion", "rollout"]
    step: int
    group: int
    member: int

    @property
    def key(self) -> RolloutKey:
        return self.step, self.group, self.member


def completion_line(
    key: RolloutKey, task_id: str, prompt_ids: tuple[int, ...], completion: Completion, origin: str | None = None
) -> dict[str, Any]:
    """A completion as plain data, token ids included. origin: a digest of what it was drawn from."""
    step, index, member = key
    line = {"kind": "completion", "step": step, "group": index, "member": member, "task": task_id}
    return {
        **line,
        "prompt_ids": prompt_ids,
        "token_ids": completion.token_ids,  # as they are: dataclasses.asdict copies them one by one
        "logprobs": completion.logprobs,
        "text": completion.text,
        "finish_reason": completion.finish_reason,
        "version": completion.version,
        **({} if origin is None else {"origin": origin}),
    }


def read_completion(line: Mapping[str, Any]) -> Completion:
    """The completion of a line; ValueError where it holds none."""
    return as_type(Completion, line)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Drawn:
    """What a file of rollouts holds of what came after a step, or all of it."""

    recorded: dict[RolloutKey, Completion]  # of each key what was drawn last
    origins: dict[RolloutKey, str]  # what they were drawn from, where their lines say it
    rollouts: set[int]  # the lines, counted from 0, that say what became of them


def read_drawn(file: Path, after: int | None = None) -> Drawn:
    """What came after that step (None: all); nothing of a file that is not there.

    Raises UserError for a line that cannot be read.
    """
    drawn = Drawn(recorded={}, origins={}, rollouts=set())
    for number, (line, raw, where) in enumerate(typed_lines(file, MemberLine)):
        if after is not None and line.step <= after:
            continue
        if line.kind == "rollout":
            drawn.rollouts.add(number)
            continue
        try:
            content = json.loads(raw)
            drawn.recorded[line.key] = read_completion(content)
        except ValueError as error:
            raise unreadable(where, error) from error
        drawn.origins.pop(line.key, None)  # of an earlier draw
        if "origin" in content:
            drawn.origins[line.key] = content["origin"]
    return drawn


def rollout_line(key: RolloutKey, rollout: Rollout, advantage: float | None) -> dict[str, Any]:
    """A rollout as plain data, without its token ids (they stand in the completion's line)."""
    step, index, member = key
    execution = rollout.execution
    return {
        "kind": "rollout",
        "step": step,
        "group": index,
        "member": member,
        "task": rollout.task.id,
        "dataset": rollout.task.dataset,
        "domain": rollout.task.domain,
        "version": rollout.completion.version,
        "status": rollout.status.value,
        "text": rollout.completion.text,
        "source": rollout.source,
        "repairs": list(rollout.repairs),
        "findings": [_fields(finding) for finding in rollout.findings],
        "answer": execution.answer if execution else "",
        "execution": execution.status.value if execution else None,
        "reason": execution.reason if execution else "",
        "trace": [_fields(call) for call in execution.trace] if execution else [],
        "num_calls": execution.num_calls if execution else 0,
        "num_tokens": execution.num_tokens if execution else 0,
        "cost_usd": execution.cost_usd if execution else 0.0,
        "grade": _fields(rollout.grade) if rollout.grade else None,
        "reward": rollout.reward,
        "reward_terms": dict(rollout.reward_terms),
        "advantage": advantage,
    }


def _fields(record: Finding | OperatorCall | Grade) -> dict[str, Any]:
    """A record as plain data; its values are that already, and are not copied one by one."""
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def replayed(recorded: Mapping[RolloutKey, Completion], version: int, group_size: int) -> dict[RolloutKey, Completion]:
    """Of the completions that a killed run left behind, those that may be replayed when it resumes at `version`.

    A group that is not whole under one version, and was begun under one older than the checkpoint's, cannot be finished
    under that version any more: it is drawn anew.
    """
    members = Counter((step, index, completion.version) for (step, index, _), completion in recorded.items())
    return {
        (step, index, member): completion
        for (step, index, member), completion in recorded.items()
        if members[step, index, completion.version] == group_size or completion.version >= version
    }
