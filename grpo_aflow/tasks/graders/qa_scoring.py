"""Exact match and F1 of question answering, as the published SQuAD 2.0 and HotpotQA scorers compute them.

The two differ in one point: HotpotQA gives no F1 at all when exactly one side, or either side unequally, is "yes", "no"
or "noanswer". Before the scorer stands one extraction step for SQuAD v2: a closed list of phrases that mean "there is
no answer".
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED_ANSWERS = ("yes", "no", "noanswer")

# Phrases that mean "the passage does not say", compared after normalisation. Closed: nothing is inferred.
NO_ANSWER_PHRASES = frozenset(
    {
        "answer not found",
        "cannot be answered",
        "cannot be determined",
        "insufficient information",
        "na",
        "no answer",
        "no answer found",
        "no answer in context",
        "noanswer",
        "none",
        "not answerable",
        "not enough information",
        "not given",
        "not mentioned",
        "not mentioned in context",
        "not mentioned in passage",
        "not provided",
        "not specified",
        "not stated",
        "null",
        "question cannot be answered",
        "question is unanswerable",
        "unanswerable",
        "unknown",
    }
)


ANSWER_TAG = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an, the; white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def declared_answer(text: str) -> str:
    """What stands in the last `<answer>` tag, which operators are told to end with; the whole text without one."""
    tags = ANSWER_TAG.findall(text)
    return tags[-1].strip() if tags else text


def is_no_answer(text: str) -> bool:
    """Whether a prediction is one of the phrases of the closed list (the empty text is no phrase)."""
    return len(text) < 100 and normalise_answer(text) in NO_ANSWER_PHRASES


def squad_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """(EM, F1) of the published SQuAD 2.0 scorer: the best over the golds; no golds, or "", means unanswerable."""
    answers = [gold for gold in golds if normalise_answer(gold)] or [""]
    predicted = normalise_answer(prediction)
    em = max(float(normalise_answer(gold) == predicted) for gold in answers)
    return em, max(_token_f1(predicted, normalise_answer(gold)) for gold in answers)


def hotpotqa_scores(prediction: str, golds: Sequence[str]) -> tuple[float, float]:
    """(EM, F1) of the published HotpotQA answer scorer; with several golds (it has one) the best of each."""
    predicted = normalise_answer(prediction)
    normalised = [normalise_answer(gold) for gold in golds] or [""]
    em = max(float(gold == predicted) for gold in normalised)
    return em, max(_hotpotqa_f1(predicted, gold) for gold in normalised)


def aflow_f1(prediction: str, gold: str) -> float:
    """AFlow's F1 for HotpotQA: the token F1 without the special case for yes, no and noanswer."""
    return _overlap_f1(normalise_answer(prediction).split(), normalise_answer(gold).split())


def _token_f1(predicted: str, gold: str) -> float:
    if not predicted or not gold:
        return float(predicted == gold)
    return _overlap_f1(predicted.split(), gold.split())


def _hotpotqa_f1(predicted: str, gold: str) -> float:
    if predicted != gold and (predicted in _CLOSED_ANSWERS or gold in _CLOSED_ANSWERS):
        return 0.0
    return _overlap_f1(predicted.split(), gold.split())


def _overlap_f1(predicted: list[str], gold: list[str]) -> float:
    num_same = sum((Counter(predicted) & Counter(gold)).values())
    if num_same == 0:
        return 0.0
    precision, recall = num_same / len(predicted), num_same / len(gold)
    return 2 * precision * recall / (precision + recall)
