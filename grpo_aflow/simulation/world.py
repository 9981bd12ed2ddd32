"""The simulated world: a fallible solver whose reply is a pure function of (request body, sample index, seed).

`server` hands it each request's body; the sample index is the request's `seed`. It finds the task by the problem's text
inside the user message and the operator by the system text, draws from fixed probabilities whether the reply is right,
and writes it through `artefacts`. What it is and is not: SIMULATED_WORLD.md.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from grpo_aflow.simulation import artefacts
from grpo_aflow.simulation.answer_key import final_answer, is_right, normalise
from grpo_aflow.types import DOMAINS, Domain, Task

SOLVERS = ("custom", "answer_generate", "custom_code_generate", "programmer")
_OTHERS = (
    "programmer_crash",  # a first solve() that raises, out of those that are not right at once
    "programmer_repair",  # right after seeing the traceback
    "test_repair",  # right after seeing a failed public test
    "review_accepts_right",
    "review_rejects_wrong",
    "revise_keeps_right",
    "revise_mends_untold",  # wrong -> right without feedback that names a mistake
    "revise_mends_told",  # wrong -> right with it
    "same_mistake",  # a wrong answer is the task's one tempting mistake
)
BEHAVIOURS = tuple(f"{domain}_{name}" for domain in DOMAINS for name in (*SOLVERS, *_OTHERS))
ENSEMBLES = tuple(f"{domain}_{name}" for domain in DOMAINS for name in ("sc_ensemble", "md_ensemble"))

_SECTION = re.compile(
    r"<(instruction|input|problem|entry_point|analysis|solution|feedback|code|error)>\n?(.*?)\n?</\1>", re.DOTALL
)
_CANDIDATE = re.compile(r'<candidate id="([A-Z]+)">\n?(.*?)\n?</candidate>', re.DOTALL)
_LOST = "I cannot tell which problem this is about."
_NOTHING = "unclear"  # an empty reply would read as a fault of the endpoint
_MISTAKE = "Mistake: a step does not follow from what is given; redo it from there."


class Draw:
    """Named uniform numbers of one request.

    With a sample index they depend on (seed, index, task) alone, so that two policies that reach the same call of the
    same rollout meet the same luck. Index 0 means temperature 0: then the request's text decides, as in
    greedy decoding.
    """

    def __init__(self, seed: int, index: int, task_id: str, messages: Sequence[Mapping[str, str]]) -> None:
        text = "" if index else json.dumps(messages, sort_keys=True)
        self._base = hashlib.blake2b(f"{seed}|{index}|{task_id}|{text}".encode(), digest_size=16)

    def __call__(self, name: str) -> float:
        """Uniform in [0, 1), the same at each call with the same name."""
        branch = self._base.copy()
        branch.update(name.encode())
        return int.from_bytes(branch.digest()[:7], "big") / 2**56


class World:
    """All that the simulated endpoint knows: the tasks with their golds, who is who, and the fixed probabilities."""

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        system_prompts: Mapping[str, str],
        accuracy: Mapping[str, float],
        ensemble_power: Mapping[str, float],
        seed: int,
    ) -> None:
        self._by_problem = {task.problem.strip(): task for task in tasks}
        self._longest_first = sorted(self._by_problem, key=len, reverse=True)
        self._slots = dict(system_prompts)
        self._accuracy = dict(accuracy)
        self._power = dict(ensemble_power)
        self._seed = seed

    def reply(self, body: Mapping[str, Any]) -> str:
        """The assistant's text for one chat-completions request."""
        messages = body["messages"]
        system = "".join(m["content"] for m in messages if m["role"] == "system")
        user = "\n".join(m["content"] for m in messages if m["role"] == "user")
        sections = dict(_SECTION.findall(user))
        candidates = _CANDIDATE.findall(user)
        slot = self._slots.get(system, "custom")
        task = self._find(sections, user)
        draw = Draw(self._seed, int(body.get("seed") or 0), task.id if task else "", messages)
        if slot in ("sc_ensemble", "md_ensemble"):
            return self._ensemble(slot, task, candidates, draw)
        if task is None:
            return _LOST
        if slot in ("custom", "answer_generate", "custom_code_generate"):
            return self._solve(slot, task, draw)
        if slot == "programmer":
            return self._program(task, sections, draw)
        if slot == "test":
            return artefacts.fence(self._answer(task, draw, self._p(task.domain, "test_repair")))
        if slot == "review":
            return self._review(task, sections, draw)
        if slot == "revise":
            return self._revise(task, sections, draw)
        return final_answer(task.domain, sections.get("solution", "")).strip() or _NOTHING  # format

    def _find(self, sections: Mapping[str, str], user: str) -> Task | None:
        for name in ("problem", "input"):
            task = self._by_problem.get(sections.get(name, "").strip())
            if task:
                return task
        return next((self._by_problem[text] for text in self._longest_first if text in user), None)

    def _p(self, domain: Domain, behaviour: str) -> float:
        return self._accuracy[f"{domain}_{behaviour}"]

    def _answer(self, task: Task, draw: Draw, p_right: float) -> str:
        if draw("right") < p_right:
            return artefacts.right_answer(task)
        return artefacts.wrong_answer(task, draw, same_mistake=self._p(task.domain, "same_mistake"))

    def _solve(self, slot: str, task: Task, draw: Draw) -> str:
        answer = self._answer(task, draw, self._p(task.domain, slot))
        if slot == "custom":
            return artefacts.free_text(task, answer)
        if slot == "answer_generate":
            return artefacts.thought_and_answer(task, answer)
        return artefacts.fence(answer)

    def _program(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        repairing = "error" in sections
        p_right = self._p(task.domain, "programmer_repair" if repairing else "programmer")
        wrong = draw("right") >= p_right
        if wrong and not repairing and draw("crash") < self._p(task.domain, "programmer_crash"):
            return artefacts.fence(artefacts.crashing_program())
        return artefacts.fence(artefacts.solving_program(self._answer(task, draw, p_right)))

    def _review(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        right = is_right(task, sections.get("solution", ""))
        known = draw("right") < self._p(task.domain, "review_accepts_right" if right else "review_rejects_wrong")
        if right == known:
            return "<verdict>true</verdict><feedback>Every step holds up.</feedback>"
        return f"<verdict>false</verdict><feedback>{_MISTAKE}</feedback>"

    def _revise(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        told = "mistake" in sections.get("feedback", "").lower()
        if is_right(task, sections.get("solution", "")):
            behaviour = "revise_keeps_right"
        else:
            behaviour = "revise_mends_told" if told else "revise_mends_untold"
        return artefacts.free_text(task, self._answer(task, draw, self._p(task.domain, behaviour)))

    def _ensemble(self, slot: str, task: Task | None, candidates: Sequence[tuple[str, str]], draw: Draw) -> str:
        if not candidates:
            return _LOST
        letter = _most_common(candidates) if task is None else self._pick(slot, task, candidates, draw)
        return f"<choice>{letter}</choice>"

    def _pick(self, slot: str, task: Task, candidates: Sequence[tuple[str, str]], draw: Draw) -> str:
        """A right candidate with probability 1 - (share of wrong ones) ** power: the more agree, the surer."""
        right = [letter for letter, text in candidates if is_right(task, text)]
        wrong = [letter for letter, text in candidates if letter not in right]
        p_right = 1 - (len(wrong) / len(candidates)) ** self._power[f"{task.domain}_{slot}"]
        pool = right if right and (not wrong or draw("right") < p_right) else wrong
        return pool[int(draw("choice") * len(pool))]


def _most_common(candidates: Sequence[tuple[str, str]]) -> str:
    """Without the problem one can only count: the first of the largest family of equal texts."""
    texts = [normalise("qa", final_answer("qa", text)) for _, text in candidates]
    winner, _ = Counter(texts).most_common(1)[0]
    return candidates[texts.index(winner)][0]
