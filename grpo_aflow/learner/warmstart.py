"""Warm start: supervised fine-tuning on the reference workflows, before the run's base model is frozen.

It stands between the model as it was made or downloaded and the base that sampler and learner load (see `models.py`).
The loss is on completions only, the end-of-sequence token included.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from grpo_aflow.learner.reference_workflows import corpus, weights
from grpo_aflow.types import Domain, Message, Task

if TYPE_CHECKING:
    import torch

Prompts = Callable[[Task], list[Message]]
Progress = Callable[[str, int, int], None]  # what, done, total

# One stand-in per dataset schema, for datasets that a run does not load: the warm start always shows all six.
STAND_INS: tuple[tuple[str, Domain, str], ...] = (
    ("gsm8k", "math", "A crate holds 12 jars and 3 crates arrive. How many jars are there?"),
    ("math", "math", "Compute $3^4 - 2^5$."),
    ("squad2", "qa", "Context: The mill was built in 1840.\nQuestion: When was the mill built?"),
    ("hotpotqa", "qa", "Context: Oslo lies in Norway. Norway's king is Harald.\nQuestion: Who reigns where Oslo lies?"),
    ("humaneval", "code", 'def double(x):\n    """Return twice x."""\n'),
    ("mbpp", "code", "Write a function that returns the larger of two numbers."),
)
MAX_TASKS_PER_DATASET = 32  # enough variety for prompts that carry the problem; compact prompts are all alike anyway


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """One prompt with the workflows that may answer it."""

    messages: tuple[Message, ...]
    workflows: tuple[str, ...]
    shares: tuple[float, ...]  # of each workflow; sums to 1


@dataclass(frozen=True, kw_only=True, slots=True)
class NoWarmStart:
    """`warmstart=none`: the base model is used as it is."""

    @property
    def identity(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferenceWorkflows:
    """`warmstart=reference_workflows`: fine-tune on the corpus for a fixed number of steps."""

    num_steps: int
    batch_size: int
    learning_rate: float  # peak; linear warm-up over a tenth of the steps, then linear decay to zero
    preference: float  # share of each domain's own best operators; the other workflows share the rest evenly
    lora_rank: int  # for a pretrained model, whose adapter is merged; the tiny policy trains all its weights
    seed: int

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "lora_rank"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive; got {self.learning_rate}")
        if not 0 < self.preference < 1:
            raise ValueError(f"preference must be between 0 and 1; got {self.preference}")

    @property
    def identity(self) -> dict[str, Any]:
        """All that decides the result, for the key of the cache."""
        return asdict(self) | {"corpus": [asdict(workflow) for workflow in corpus()]}


WarmStart = NoWarmStart | ReferenceWorkflows


def warm_start_prompts(prompts: Prompts, tasks: Sequence[Task]) -> list[tuple[Domain, tuple[Message, ...]]]:
    """The distinct prompts of all six datasets: those of the run's tasks, stand-ins where it has none."""
    chosen: list[Task] = []
    for dataset, domain, problem in STAND_INS:
        own = islice((task for task in tasks if task.dataset == dataset), MAX_TASKS_PER_DATASET)
        stand_in = Task(id=f"stand-in/{dataset}", dataset=dataset, domain=domain, problem=problem, answers=("",))
        chosen.extend(list(own) or [stand_in])
    distinct = {tuple(message["content"] for message in prompts(task)): task for task in chosen}
    return [(task.domain, tuple(prompts(task))) for task in distinct.values()]


def make_examples(
    prompt_list: Sequence[tuple[Domain, tuple[Message, ...]]], warmstart: ReferenceWorkflows
) -> list[Example]:
    """Pair each prompt with its domain's workflows and their shares."""
    sources = {workflow.name: workflow.source for workflow in corpus()}
    examples = []
    for domain, messages in prompt_list:
        shares = weights(domain, warmstart.preference)
        examples.append(
            Example(messages=messages, workflows=tuple(sources[name] for name in shares), shares=tuple(shares.values()))
        )
    return examples


def fine_tune(
    model: Any, tokenizer: Any, examples: Sequence[Example], warmstart: ReferenceWorkflows, progress: Progress
) -> float:
    """Train `model`'s trainable parameters in place and return the last loss (mean nats per completion token).

    The model's device and dtype are kept; AdamW without weight decay, gradients clipped to norm 1.
    """
    import torch

    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=warmstart.learning_rate, weight_decay=0.0)
    warm_up = max(1, warmstart.num_steps // 10)
    loss_value = math.nan
    model.train()
    for step, batch in enumerate(_batches(tokenizer, examples, warmstart)):
        rate = min((step + 1) / warm_up, (warmstart.num_steps - step) / max(1, warmstart.num_steps - warm_up))
        for group in optimizer.param_groups:
            group["lr"] = warmstart.learning_rate * min(1.0, rate)
        loss = model(**{name: value.to(model.device) for name, value in batch.items()}, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_value = float(loss.detach())
        progress("warm start", step + 1, warmstart.num_steps)
    model.eval()
    return loss_value


def _batches(
    tokenizer: Any, examples: Sequence[Example], warmstart: ReferenceWorkflows
) -> Iterator[dict[str, torch.Tensor]]:
    """Batches of right-padded ids [B, T], prompts taken in turn, workflows drawn from their shares."""
    import numpy as np

    draw = np.random.default_rng(warmstart.seed)
    prompts = [
        tokenizer.apply_chat_template(list(example.messages), add_generation_prompt=True, return_dict=False)
        for example in examples
    ]
    order: list[int] = []
    for _ in range(warmstart.num_steps):
        rows = []
        for _ in range(warmstart.batch_size):
            order = order or list(draw.permutation(len(examples)))
            index = order.pop()
            source = str(draw.choice(np.array(examples[index].workflows, dtype=object), p=examples[index].shares))
            completion = [*tokenizer.encode(source, add_special_tokens=False), tokenizer.eos_token_id]
            rows.append((prompts[index], completion))
        yield _collate(rows, tokenizer.pad_token_id)


def _collate(rows: Sequence[tuple[list[int], list[int]]], pad_id: int) -> dict[str, torch.Tensor]:
    """Right-pad; labels are -100 on prompts and padding."""
    import torch

    length = max(len(prompt) + len(completion) for prompt, completion in rows)
    ids = torch.full((len(rows), length), pad_id)
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, (prompt, completion) in enumerate(rows):
        end = len(prompt) + len(completion)
        ids[row, :end] = torch.tensor(prompt + completion)
        labels[row, len(prompt) : end] = torch.tensor(completion)
        mask[row, :end] = 1
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}
