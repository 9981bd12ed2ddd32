"""HotpotQA, distractor setting: a question over ten titled paragraphs. train 90,447; validation (= our test) 7,405.

Hub `hotpotqa/hotpot_qa`, config `distractor`, columns: id, question, answer, type, level,
supporting_facts ({"title": [...], "sent_id": [...]}), context ({"title": [...], "sentences": [[...], ...]}).
The original JSON and AFlow's files (validate 200, test 800) differ: `_id`, and context as
[[title, [sentence, ...]], ...].
Prompt: all ten paragraphs with their titles, then the question. Grade: official EM and F1 with the special case for
yes, no and noanswer (`qa_grading.PhraseGrader`).

Example:
    >>> from grpo_aflow.tasks import grade, load_tasks
    >>> task = load_tasks("hotpotqa", split="train", source="bundled")[0]
    >>> grade(task, task.answers[0]).exact
    True
"""

from __future__ import annotations

from grpo_aflow.tasks.datasets.dataset import Dataset, KnownGolds, Origin
from grpo_aflow.tasks.datasets.rows import DataRow
from grpo_aflow.tasks.graders.qa_grading import PhraseGrader
from grpo_aflow.types import Task

PROMPT = (
    "Context:\n{context}\n\nQuestion: {question}\n\nAnswer with a short phrase from the context, or with yes or no."
)


def to_task(row: DataRow, origin: Origin) -> Task:
    """One row, of the hub or of the original JSON, as a task."""
    question = row.text("question").strip()
    context = "\n\n".join(f"[{title}]\n{''.join(sentences).strip()}" for title, sentences in _paragraphs(row))
    return Task(
        id=f"{origin.prefix}hotpotqa/{row.text('id' if row.has('id') else '_id')}",
        dataset="hotpotqa",
        domain="qa",
        problem=PROMPT.format(context=context, question=question),
        answers=(row.text("answer"),),
        metadata={"question": question, "type": row.values.get("type"), "level": row.values.get("level")},
    )


def _paragraphs(row: DataRow) -> list[tuple[str, list[str]]]:
    context = row.values.get("context")
    if isinstance(context, dict) and {"title", "sentences"} <= context.keys():
        pairs = list(zip(context["title"], context["sentences"], strict=False))
    elif isinstance(context, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in context):
        pairs = [(title, sentences) for title, sentences in context]
    else:
        raise row.refusal("column 'context' must be {'title': [...], 'sentences': [[...]]} or [[title, [...]], ...]")
    if not pairs:
        raise row.refusal("column 'context' holds no paragraph")
    return pairs


HOTPOTQA = Dataset(
    name="hotpotqa",
    domain="qa",
    grader=PhraseGrader(),
    hub="hotpotqa/hotpot_qa",
    configs=("distractor",),
    splits={"train": "train", "validation": "validation", "test": "validation"},
    schema="id, question, answer, type, level, supporting_facts, context",
    to_task=to_task,
    files={"train": ("hotpot_train_v1.1.json",), "test": ("hotpot_dev_distractor_v1.json",)},
    known_golds=KnownGolds(splits=("aflow_validate",), num_exact=200),
)
