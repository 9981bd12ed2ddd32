"""What the simulated solver knows of the right answers: a text is compared with the golds; nothing is run or graded.

`world` asks about solutions and candidates that a workflow sends back. This is deliberately not the grader: the grader
decides what a workflow earns, this only what the simulated reviewer, reviser and ensemble can see.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache

from grpo_aflow.types import Domain, Task

NO_ANSWER = "unanswerable"  # what the simulated solver writes where the gold is empty

_FENCE = re.compile(r"```[A-Za-z0-9]*[ \t]*\n(.*?)```", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def is_right(task: Task, text: str) -> bool:
    """Does the final answer in `text` say the same as one of the task's golds?"""
    answer = normalise(task.domain, final_answer(task.domain, text))
    return answer in golds(task)


@lru_cache(maxsize=65536)
def _normalised_golds(domain: Domain, answers: tuple[str, ...]) -> frozenset[str]:
    if domain == "code":
        answers = answers[:1]
    return frozenset(normalise(domain, answer or NO_ANSWER) for answer in answers)


def golds(task: Task) -> frozenset[str]:
    """The task's golds, normalised as `normalise` does."""
    return _normalised_golds(task.domain, task.answers)


def final_answer(domain: Domain, text: str) -> str:
    """The part of a reply that is its answer: the last fence, the last box, the answer tag, else a short text."""
    if domain == "code":
        fences = _FENCE.findall(text)
        return fences[-1] if fences else text
    tagged = _ANSWER.findall(text)
    if domain == "qa":
        return tagged[-1] if tagged else text
    inner = tagged[-1] if tagged else text
    boxed = last_boxed(inner)
    if boxed is not None:
        return boxed
    numbers = _NUMBER.findall(inner)
    return numbers[-1] if numbers and len(inner) > 40 else inner


def last_boxed(text: str) -> str | None:
    """The content of the last \\boxed{...}, braces balanced; None when there is none."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 1, start + len("\\boxed{")
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return text[begin:]


def normalise(domain: Domain, answer: str) -> str:
    """A form in which equal answers are equal strings."""
    if domain == "code":
        return "\n".join(line.rstrip() for line in answer.splitlines() if line.strip())
    if domain == "qa":
        words = _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION)).split()
        return " ".join(words) or NO_ANSWER
    plain = answer.strip().strip("$").strip().rstrip(".").replace("\\!", "").replace("\\$", "")
    plain = plain.replace("dfrac", "frac").replace("tfrac", "frac").replace("\\left", "").replace("\\right", "")
    plain = "".join(plain.split())
    if _NUMBER.fullmatch(plain):
        value = float(plain.replace(",", ""))
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return plain
