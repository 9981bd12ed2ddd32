"""Exact match and F1 of question answering, as the published SQuAD 2.0 and HotpotQA scorers compute them.

The two differ in one point: HotpotQA gives no F1 at all when exactly one side, or either side unequally, is "yes", "no"
or "noanswer". What is compared is the phrase that `reading.phrases` finds; for SQuAD v2 a closed list of forms says
that there is no answer.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from grpo_aflow.tasks.reading.phrases import begins_with_no_answer, says_no_answer

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_CLOSED_ANSWERS = ("yes", "no", "noanswer")


def normalise_answer(text: str) -> str:
    """Lower case, without ASCII punctuation and the articles a, an, the; white space collapsed."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def is_no_answer(text: str) -> bool:
    """Whether a prediction says that there is no answer, in a closed list of forms (the empty text is none).

    "Unanswerable" may be followed by a reason.
    """
    return begins_with_no_answer(text) or (len(text) < 100 and says_no_answer(normalise_answer(text)))


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
