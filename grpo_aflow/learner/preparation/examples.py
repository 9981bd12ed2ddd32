"""What a warm start trains on: which workflows are shown for which prompts, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from grpo_aflow.learner.preparation.reference_workflows import corpus, weights
from grpo_aflow.learner.warmstart import ReferenceWorkflows
from grpo_aflow.protocols import Tokenizer
from grpo_aflow.types import Domain, Message, Task, UserError

if TYPE_CHECKING:
    import numpy as np

Prompts = Callable[[Task], list[Message]]
PromptList = Sequence[tuple[Domain, tuple[Message, ...]]]

# One stand-in per dataset schema, for datasets that a run does not load: the warm start always shows all six.
STAND_INS: tuple[tuple[str, Domain, str], ...] = (
    ("gsm8k", "math", "A crate holds 12 jars and 3 crates arrive. How many jars are there?"),
    ("math", "math", "Compute $3^4 - 2^5$."),
    ("squad2", "qa", "Context: The mill was built in 1840.\nQuestion: When was the mill built?"),
    ("hotpotqa", "qa", "Context: Oslo lies in Norway. Norway's king is Harald.\nQuestion: Who reigns where Oslo lies?"),
    ("humaneval", "code", 'def double(x):\n    """Return twice x."""\n'),
    ("mbpp", "code", "Write a function that returns the larger of two numbers."),
)
ROWS_PER_PROMPT = 4  # in a step of an adapter's warm start: a prompt is computed once for its rows
MAX_TASKS_PER_DATASET = 32  # enough variety for prompts that carry the problem; compact prompts are all alike anyway


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One prompt with the workflows that may answer it."""

    messages: tuple[Message, ...]
    workflows: tuple[str, ...]
    shares: tuple[float, ...]  # of each workflow; sums to 1


def warm_start_prompts(prompts: Prompts, tasks: Sequence[Task]) -> PromptList:
    """The distinct prompts of the run's tasks of all datasets, and stand-ins for those of the six that have none."""
    chosen: list[Task] = []
    for dataset, domain, problem in STAND_INS:
        stand_in = Task(id=f"stand-in/{dataset}", dataset=dataset, domain=domain, problem=problem, answers=("",))
        chosen.extend(_some_of(dataset, tasks) or [stand_in])
    known = [dataset for dataset, _, _ in STAND_INS]
    for dataset in dict.fromkeys(task.dataset for task in tasks if task.dataset not in known):
        chosen.extend(_some_of(dataset, tasks))
    distinct = {tuple(message["content"] for message in prompts(task)): task for task in chosen}
    return [(task.domain, tuple(prompts(task))) for task in distinct.values()]


def _some_of(dataset: str, tasks: Sequence[Task]) -> list[Task]:
    return list(islice((task for task in tasks if task.dataset == dataset), MAX_TASKS_PER_DATASET))


def make_examples(prompt_list: PromptList, warmstart: ReferenceWorkflows) -> list[Example]:
    """Pair each prompt with its domain's workflows and their shares."""
    sources = {workflow.name: workflow.source for workflow in corpus()}
    examples = []
    for domain, messages in prompt_list:
        shares = weights(domain, warmstart.preference)
        examples.append(
            Example(messages=messages, workflows=tuple(sources[name] for name in shares), shares=tuple(shares.values()))
        )
    return examples


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptRows:
    """One prompt of a step and the distinct completions that are shown for it."""

    prompt_ids: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]  # how often each was drawn


class EncodedExamples:
    """The examples as token ids. Raises UserError for those that the model's context cannot hold."""

    def __init__(self, tokenizer: Tokenizer, examples: Sequence[Example], *, max_model_len: int) -> None:
        self._prompts = [tokenizer.encode_chat(example.messages) for example in examples]
        self._workflows = [[(*tokenizer.encode(text), tokenizer.end_id) for text in e.workflows] for e in examples]
        self._shares = [example.shares for example in examples]
        for prompt, workflows in zip(self._prompts, self._workflows, strict=True):
            longest = len(prompt) + max(map(len, workflows))
            if longest > max_model_len:
                raise UserError(
                    f"the warm start needs {longest} tokens for a prompt of {len(prompt)} with its workflow, "
                    f"model.max_model_len={max_model_len} is {longest - max_model_len} too few: raise it, or set "
                    "prompt=compact"
                )

    @property
    def identity(self) -> list[object]:
        """All that decides what is drawn, for the key of the cache: prompts, workflows and shares, as token ids."""
        return [self._prompts, self._workflows, self._shares]

    def rows(self, warmstart: ReferenceWorkflows) -> Iterator[list[tuple[tuple[int, ...], tuple[int, ...]]]]:
        """Of each step, (prompt, completion) pairs: prompts taken in turn, workflows drawn from their shares."""
        from numpy.random import default_rng

        draw = default_rng(warmstart.seed)
        order: list[int] = []
        for _ in range(warmstart.num_steps):
            rows = []
            for _ in range(warmstart.batch_size):
                order = order or list(draw.permutation(len(self._prompts)))
                index = order.pop()
                rows.append((self._prompts[index], self._workflows[index][self._drawn(draw, index)]))
            yield rows

    def prompt_rows(self, warmstart: ReferenceWorkflows) -> Iterator[list[PromptRows]]:
        """Of each step, the same with `ROWS_PER_PROMPT` draws for each prompt that is taken."""
        from numpy.random import default_rng

        draw = default_rng(warmstart.seed)
        order: list[int] = []
        for _ in range(warmstart.num_steps):
            step, left = [], warmstart.batch_size
            while left:
                order = order or list(draw.permutation(len(self._prompts)))
                index, number = order.pop(), min(ROWS_PER_PROMPT, left)
                left -= number
                drawn = Counter(self._workflows[index][self._drawn(draw, index)] for _ in range(number))
                step.append(
                    PromptRows(prompt_ids=self._prompts[index], completions=tuple(drawn), counts=tuple(drawn.values()))
                )
            yield step

    def _drawn(self, draw: np.random.Generator, index: int) -> int:
        return int(draw.choice(len(self._shares[index]), p=self._shares[index]))
