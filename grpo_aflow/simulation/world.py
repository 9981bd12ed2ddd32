"""The simulated world: a fallible solver whose reply is a pure function of (request body, sample index, seed).

`server` hands it each request's body; the sample index is the request's `seed`. It finds the task by the problem's text
inside the user message and the operator by the system text (`simulated_as` of the operator's prompt says whose kind of
reply is wanted), draws from fixed probabilities whether the reply is right, and writes it through `artefacts`. What it
is and is not: README.md.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from grpo_aflow.simulation import artefacts
from grpo_aflow.simulation.answer_key import final_answer, is_right, normalise
from grpo_aflow.simulation.request import Asked, RequestBody, read_messages
from grpo_aflow.types import DOMAINS, Domain, Message, Task

_BEHAVIOURS = (
    # right at once, by the operator that is asked
    "custom",
    "answer_generate",
    "custom_code_generate",
    "programmer",
    # of the others
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
_ENSEMBLES = ("sc_ensemble", "md_ensemble")
BEHAVIOURS = tuple(f"{domain}_{name}" for domain in DOMAINS for name in _BEHAVIOURS)
ENSEMBLES = tuple(f"{domain}_{name}" for domain in DOMAINS for name in _ENSEMBLES)

_LOST = "I cannot tell which problem this is about."
_NOTHING = "unclear"  # an empty reply would read as a fault of the endpoint
_NAMES_A_MISTAKE = "mistake"  # feedback with this word tells a reviser what to fix
_MISTAKE = "Mistake: a step does not follow from what is given; redo it from there."


class Draw:
    """Named uniform numbers of one request.

    With a sample index they depend on (seed, index, task) alone, so that two policies that reach the same call of the
    same rollout meet the same luck. Index 0 means temperature 0: then the request's text decides, as in
    greedy decoding.
    """

    def __init__(self, seed: int, index: int, task_id: str, messages: Sequence[Message]) -> None:
        text = "" if index else json.dumps(messages, sort_keys=True)
        self._base = hashlib.blake2b(f"{seed}|{index}|{task_id}|{text}".encode(), digest_size=16)

    def __call__(self, name: str) -> float:
        """Uniform in [0, 1), the same at each call with the same name."""
        branch = self._base.copy()
        branch.update(name.encode())
        return int.from_bytes(branch.digest()[:7], "big") / 2**56


class World:
    """All that the simulated endpoint knows: the tasks with their golds, who is asking, and the fixed probabilities."""

    def __init__(
        self,
        *,
        tasks: Sequence[Task],
        system_prompts: Mapping[str, str],
        accuracy: Mapping[str, float],
        ensemble_power: Mapping[str, float],
        seed: int,
    ) -> None:
        """
        Args:
            system_prompts: system text -> one of `SLOTS`; any other system text is answered as by `custom`.
            accuracy, ensemble_power: for each of `BEHAVIOURS` and `ENSEMBLES`; see conf/executor/simulated.yaml.
        """
        unknown = sorted(set(system_prompts.values()) - set(SLOTS))
        if unknown:
            raise ValueError(f"the simulated world cannot reply as {unknown[0]}; it knows {', '.join(SLOTS)}")
        self._by_problem = {task.problem.strip(): task for task in tasks}
        self._longest_first = sorted(self._by_problem, key=len, reverse=True)
        self._slots = dict(system_prompts)
        self._accuracy = dict(accuracy)
        self._power = dict(ensemble_power)
        self._seed = seed

    def reply(self, body: RequestBody) -> str:
        """The assistant's text for one chat completion."""
        messages = body["messages"]
        asked = read_messages(messages)
        slot = self._slots.get(asked.system, "custom")
        task = self._find(asked)
        draw = Draw(self._seed, int(body.get("seed") or 0), task.id if task else "", messages)
        if slot in _ENSEMBLES:
            return self._ensemble(slot, task, asked.candidates, draw)
        return _REPLIES[slot](self, task, asked.sections, draw) if task else _LOST

    def _find(self, asked: Asked) -> Task | None:
        for name in ("problem", "input"):
            task = self._by_problem.get(asked.sections.get(name, "").strip())
            if task:
                return task
        return next((self._by_problem[text] for text in self._longest_first if text in asked.user), None)

    def _p(self, domain: Domain, behaviour: str) -> float:
        return self._accuracy[f"{domain}_{behaviour}"]

    def _answer(self, task: Task, draw: Draw, behaviour: str) -> str:
        """An answer that is right with the probability of `behaviour`."""
        if draw("right") < self._p(task.domain, behaviour):
            return artefacts.right_answer(task)
        return artefacts.wrong_answer(task, draw, same_mistake=self._p(task.domain, "same_mistake"))

    def _custom(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        return artefacts.free_text(task, self._answer(task, draw, "custom"))

    def _answer_generate(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        return artefacts.thought_and_answer(task, self._answer(task, draw, "answer_generate"))

    def _custom_code_generate(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        return artefacts.fence(self._answer(task, draw, "custom_code_generate"))

    def _programmer(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        repairing = "error" in sections
        behaviour = "programmer_repair" if repairing else "programmer"
        wrong = draw("right") >= self._p(task.domain, behaviour)
        if wrong and not repairing and draw("crash") < self._p(task.domain, "programmer_crash"):
            return artefacts.fence(artefacts.crashing_program())
        return artefacts.fence(artefacts.solving_program(self._answer(task, draw, behaviour)))

    def _test(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        return artefacts.fence(self._answer(task, draw, "test_repair"))

    def _review(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        right = is_right(task, sections.get("solution", ""))
        seen = draw("right") < self._p(task.domain, "review_accepts_right" if right else "review_rejects_wrong")
        if right == seen:
            return "<verdict>true</verdict><feedback>Every step holds up.</feedback>"
        return f"<verdict>false</verdict><feedback>{_MISTAKE}</feedback>"

    def _revise(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        told = _NAMES_A_MISTAKE in sections.get("feedback", "").lower()
        if is_right(task, sections.get("solution", "")):
            behaviour = "revise_keeps_right"
        else:
            behaviour = "revise_mends_told" if told else "revise_mends_untold"
        return artefacts.free_text(task, self._answer(task, draw, behaviour))

    def _format(self, task: Task, sections: Mapping[str, str], draw: Draw) -> str:
        return final_answer(task.domain, sections.get("solution", "")).strip() or _NOTHING

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


_REPLIES: Mapping[str, Callable[[World, Task, Mapping[str, str], Draw], str]] = {
    "custom": World._custom,
    "answer_generate": World._answer_generate,
    "custom_code_generate": World._custom_code_generate,
    "programmer": World._programmer,
    "test": World._test,
    "review": World._review,
    "revise": World._revise,
    "format": World._format,
}
SLOTS = (*_REPLIES, *_ENSEMBLES)
"""The built-in operators whose kind of reply the world knows: what a prompt can be `simulated_as`."""


def _most_common(candidates: Sequence[tuple[str, str]]) -> str:
    """Without the problem one can only count: the first of the largest family of equal texts."""
    texts = [normalise("qa", final_answer("qa", text)) for _, text in candidates]
    winner, _ = Counter(texts).most_common(1)[0]
    return candidates[texts.index(winner)][0]
