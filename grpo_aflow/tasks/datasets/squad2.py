"""SQuAD v2: questions on a passage, half of them without an answer. train 130,319; validation (= our test) 11,873.

Hub `rajpurkar/squad_v2`, columns: id, title, context, question, answers ({"text": [...], "answer_start": [...]}, both
lists empty for an unanswerable question). The original JSON (data > paragraphs > qas) is read as well. The official
test set is not public, so "test" is the official dev set, as everywhere in the literature.
Prompt: the passage, the question, and what to say when the passage does not answer it. Grade: official EM and F1,
after the closed list of no-answer phrases (`qa_grading.SpanGrader`); an unanswerable task has answers == ("",).

Example:
    >>> from grpo_aflow.tasks import grade, load_tasks
    >>> tasks = load_tasks("squad2", split="train", source="bundled")
    >>> unanswerable = next(task for task in tasks if task.answers == ("",))
    >>> grade(unanswerable, "Unanswerable.").exact
    True
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from grpo_aflow.tasks.datasets.dataset import Dataset, KnownGolds, Origin
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.qa_grading import SpanGrader
from grpo_aflow.types import Task

PROMPT = (
    "Context:\n{context}\n\nQuestion: {question}\n\n"
    'Answer with the shortest span of the context, or "unanswerable" when the context does not say.'
)


def to_task(row: DataRow, origin: Origin) -> Task:
    """One row as a task; several identical golds are kept once."""
    answers = row.values.get("answers")
    if not isinstance(answers, dict) or not isinstance(answers.get("text"), list):
        raise row.refusal("column 'answers' must be {'text': [...], 'answer_start': [...]}")
    golds = tuple(dict.fromkeys(answers["text"]))
    if not all(isinstance(gold, str) and gold.strip() for gold in golds):
        raise row.refusal("column 'answers' holds an empty gold; an unanswerable question has an empty list")
    question = row.text("question").strip()
    return Task(
        id=f"{origin.prefix}squad2/{row.text('id')}",
        dataset="squad2",
        domain="qa",
        problem=PROMPT.format(context=row.text("context").strip(), question=question),
        answers=golds or ("",),
        metadata={"title": row.values.get("title", ""), "question": question, "answerable": bool(golds)},
    )


def expand(row: DataRow) -> Iterator[DataRow]:
    """One article of the original JSON -> one row per question, in the hub's columns."""
    if not row.has("paragraphs"):
        yield row
        return
    number = 0
    for paragraph in row.records("paragraphs", schema="context, qas"):
        for item in paragraph.records("qas", schema="id, question, answers, is_impossible"):
            number += 1
            yield _question(replace(item, place=f"{row.place}, question {number}"), paragraph)


def _question(item: DataRow, paragraph: DataRow) -> DataRow:
    """One question of the original JSON in the hub's columns."""
    is_impossible = item.values.get("is_impossible")
    golds = [] if is_impossible else item.records("answers", schema="text, answer_start")
    if not golds and is_impossible is not True:
        raise item.refusal("no gold, and not marked is_impossible")
    values = {
        "id": item.text("id"),
        "context": paragraph.text("context"),
        "question": item.text("question"),
        "answers": {"text": [gold.text("text", may_be_empty=True) for gold in golds]},
    }
    return replace(item, values=values)


SQUAD2 = Dataset(
    name="squad2",
    domain="qa",
    grader=SpanGrader(),
    hub="rajpurkar/squad_v2",
    configs=("squad_v2",),
    splits={"train": "train", "validation": "validation", "test": "validation"},
    schema="id, title, context, question, answers",
    to_task=to_task,
    files={"train": ("train-v2.0.json",), "test": ("dev-v2.0.json", "dev_half.json")},
    expand=expand,
    known_golds=KnownGolds(splits=("test",), num_exact=6078),
)
