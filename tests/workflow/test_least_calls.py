"""Property test: whatever loops stand within each other, a run makes no fewer calls than its workflow surely makes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
from scripted_executor import RULES, ScriptedChat, run, workflow_text

from grpo_aflow.workflow import Workflow, check_text

LARGE = replace(RULES, max_operator_calls=10_000, max_llm_calls=10_000, max_nesting=10, max_steps=10**6)
MOST = 60  # calls; a program that makes more is not drawn
CALL = "r = await self.custom(problem, '')"


def indented(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


class Programs:
    """Draws programs of loops within loops, whose counters are set before, within or not at all anew."""

    def __init__(self, seed: int, *, flagged: float) -> None:
        """flagged: the share of the `while`s that a flag ends beside its counter."""
        self._random, self._share_flagged = random.Random(seed), flagged
        self._num_names = 0

    def body(self) -> str:
        return "\n".join([*self._block(depth=0), "return 'a'"])

    def _block(self, depth: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self._random.randint(1, 2)):
            lines += self._random.choice([self._call, self._for, self._while, self._while, self._if])(depth)
        return lines

    def _call(self, depth: int) -> list[str]:
        return [CALL]

    def _for(self, depth: int) -> list[str]:
        if depth > 2:
            return [CALL]
        header = f"for {self._name()} in {self._random.choice(['range(2)', '[1]', 'range(3)', '[]'])}:"
        return [header, *indented([*self._block(depth + 1), *self._jump()])]

    def _if(self, depth: int) -> list[str]:
        test = self._random.choice(["problem", "not problem", "'zz' in problem", "len(problem) > 3"])
        return [f"if {test}:", *indented(self._block(depth + 1) if depth < 3 else [CALL])]

    def _while(self, depth: int) -> list[str]:
        if depth > 2:
            return [CALL]
        name = self._name()
        start, test, step = self._random.choice(
            [
                ("0", "< 2", "+= 1"),
                ("0", "< 3", "+= 2"),
                ("2", "> 0", "-= 1"),
                ("0", "!= 2", "+= 1"),
                ("5", "< 3", "+= 1"),
            ]
        )
        turn = self._block(depth + 1)
        if self._random.random() < self._share_flagged:
            return self._flagged(turn)
        turn.insert(self._random.choice([0, len(turn)]), f"{name} {step}")  # before a `continue`, so that it ends
        loop = [f"while {name} {test}:", *indented([*turn, *self._jump()])]
        begun = f"{name} = {start}"
        around = self._random.choice(["", "", "for {} in range(2):", "for {} in [1]:"])
        if not around:
            return [begun, *loop]
        around = around.format(self._name())
        return [begun, around, *indented(loop)] if self._random.random() < 0.5 else [around, *indented([begun, *loop])]

    def _flagged(self, turn: list[str]) -> list[str]:
        """A loop that a flag ends, beside a counter; the two are set side by side, or the flag inside of a branch."""
        flag, name = self._name(), self._name()
        begun = self._random.choice([[f"{flag}, {name} = False, 0"], [f"{name} = 0", f"{flag} = False"]])
        if self._random.random() < 0.3:
            begun += [f"if {self._random.choice(['problem', 'not problem'])}:", f"    {flag} = True"]
        ended = f"{flag} = {self._random.choice(['True', 'False'])}"
        test = self._random.choice(
            [f"not {flag} and {name} < 2", f"{name} < 2 and not {flag}", f"not ({flag} or {name} >= 2)"]
        )
        loop = [f"while {test}:", *indented([f"{name} += 1", *turn, ended])]
        around = f"for {self._name()} in {self._random.choice(['range(2)', '[1]'])}:"
        return self._random.choice(
            [[*begun, *loop], [*begun, around, *indented(loop)], [around, *indented([*begun, *loop])]]
        )

    def _jump(self) -> list[str]:
        if self._random.random() < 0.7:
            return []
        test = self._random.choice(["problem", "'zz' in problem"])
        return [f"if {test}:", f"    {self._random.choice(['break', 'continue'])}"]

    def _name(self) -> str:
        self._num_names += 1
        return f"n{self._num_names}"


def valid_under(text: str, least: int) -> Workflow | None:
    checked = check_text(text, domain=None, rules=replace(LARGE, min_operator_calls=least))
    return checked.workflow if not checked.findings else None


def surely_made(text: str) -> int:
    """The calls that the workflow surely makes: the most that may be asked of it."""
    return next(least for least in range(MOST + 2) if least > MOST or valid_under(text, least + 1) is None)


def drawn(count: int, *, seed: int, flagged: float = 0.0) -> Iterator[tuple[str, Workflow]]:
    while count:
        seed += 1
        text = workflow_text(Programs(seed, flagged=flagged).body())
        workflow = valid_under(text, 0)
        if workflow is not None and 0 < workflow.max_operator_calls <= MOST:
            count -= 1
            yield text, workflow


@pytest.mark.slow
@pytest.mark.parametrize("flagged", [0.0, 0.7])
def test_no_run_makes_fewer_calls_than_the_least(flagged: float) -> None:
    exact = counting = 0
    for text, workflow in drawn(300, seed=0, flagged=flagged):
        chat = ScriptedChat()
        execution = asyncio.run(run(workflow, chat=chat))
        assert execution.status == "ok", text
        least = surely_made(text)
        assert least <= len(chat.calls) <= workflow.max_operator_calls, text
        counting += "while" in text
        exact += "while" in text and least == len(chat.calls)
    assert counting > 100
    assert exact > (0.2 if flagged else 0.5) * counting  # a flag alone says no more than the first turn
