"""The prompt for a small model that follows instructions (config group `prompt`, option `brief`).

Stands between `Full`, whose length a small model pays for with every sample, and `Compact`, which says nothing of the
language: signatures, one worked example of the exact form, the problem. What is equal for all tasks of a domain stands
first, for vLLM's prefix cache and the learner's shared prefix.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.types import DOMAINS, Domain, Message, Task
from grpo_aflow.workflow.operators.table import load

_SYSTEM = """\
You write a Python class Workflow that solves a task by calling operators. Do not solve the task yourself.

Operators (await each call; it returns a dict with these keys):
{operators}

Form, copied exactly; choose operators and calls that suit the task:
```python
{example}
```
Reply with one ```python fence and nothing else."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Brief:
    """Signatures of the operators that the domain allows, one example, the problem's first characters."""

    example: dict[str, str]
    problem_chars: int
    operator_domains: dict[str, list[str]]
    operators: list[str]

    def __post_init__(self) -> None:
        missing = [domain for domain in DOMAINS if domain not in self.example]
        unknown = [domain for domain in self.example if domain not in DOMAINS]
        if missing or unknown:
            raise ValueError(f"example needs exactly the keys {', '.join(DOMAINS)}; got {', '.join(self.example)}")
        if self.problem_chars < 0:
            raise ValueError(f"problem_chars must be at least 0; got {self.problem_chars}")

    def messages(self, task: Task) -> list[Message]:
        """System: all that is equal for the task's domain. User: the task."""
        shown = task.problem[: self.problem_chars]
        more = "" if len(shown) == len(task.problem) else " […]"
        user = f"Task ({task.domain}, {task.dataset}):\n{shown}{more}"
        return [{"role": "system", "content": self.section(task.domain)}, {"role": "user", "content": user}]

    def section(self, domain: Domain) -> str:
        """The shared prefix of a domain's tasks."""
        lines = [
            f"self.{spec.slot} = operator.{spec.class_name}(self.llm): "
            f"({', '.join(argument.name for argument in spec.arguments)}) -> {', '.join(spec.results)}"
            for spec in load(tuple(self.operators)).specs.values()
            if domain in self.operator_domains.get(spec.slot, spec.domains)
        ]
        return _SYSTEM.format(operators="\n".join(lines), example=self.example[domain].strip())
