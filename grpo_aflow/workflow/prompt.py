"""What the policy is shown (config group `prompt`): `Full`, `Brief` for small models, `Compact` for the tiny one.

What is equal for all tasks of a domain stands first, in the system message: vLLM's prefix cache and the learner's
shared prefix live from it. The operators shown are generated from their specifications.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grpo_aflow.types import DOMAINS, Domain, Message, Task
from grpo_aflow.workflow.operators.table import OperatorSpec, load

_LANGUAGE = """\
You design agent workflows in Python. A workflow is one `class Workflow`: `__init__` sets operator slots, and
`async def __call__` receives the problem{signature}, calls operators, and returns the answer.

Operators (each call is awaited and returns a dict with the keys shown):
{operators}

Rules:
- Every operator that is called is set in `__init__`: `self.custom = operator.Custom(self.llm)`.
- At most {max_operator_calls} operator calls; loops of fixed length are best: `for _ in range(3):`.
- Allowed: assignments, if/elif/else, for, while, comprehensions, f-strings, asyncio.gather over operator calls, and
  the usual functions and methods of str, list and dict, try/except around conversions. No lambda, no further
  functions, no imports that are used.
- Every path ends with `return answer`, and the answer comes from operators: call one that asks the model on every path.
  Do not solve the problem yourself: the workflow must suit other tasks of the kind.
"""


def operator_section(
    domain: Domain, operator_domains: Mapping[str, Sequence[str]], operators: Sequence[str] = ()
) -> str:
    """The operators that may be called in a domain, one per line."""
    return "\n".join(map(_operator_line, _allowed(domain, operator_domains, operators)))


def _allowed(
    domain: Domain, operator_domains: Mapping[str, Sequence[str]], operators: Sequence[str]
) -> list[OperatorSpec]:
    """The operators that may be called in a domain, as the validator says."""
    specs = load(tuple(operators)).specs.values()
    return [spec for spec in specs if domain in operator_domains.get(spec.slot, spec.domains)]


def _operator_line(spec: OperatorSpec) -> str:
    call = f"self.{spec.slot}{spec.arguments_text} -> {{{spec.results_text}}}"
    return f"- operator.{spec.class_name}: {call}\n  {spec.description}"


def _beginning(task: Task, chars: int, more: str) -> str:
    """The first characters of the problem, and `more` where it is longer."""
    return task.problem if len(task.problem) <= chars else task.problem[:chars] + more


def _check_at_least_0(name: str, given: int) -> None:
    if given < 0:
        raise ValueError(f"{name} must be at least 0; got {given}")


def _check_domains(name: str, given: Mapping[str, object]) -> None:
    missing = [domain for domain in DOMAINS if domain not in given]
    unknown = [domain for domain in given if domain not in DOMAINS]
    if missing or unknown:
        raise ValueError(f"{name} needs exactly the keys {', '.join(DOMAINS)}; got {', '.join(given) or 'none'}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Full:
    """The prompt for a model that follows instructions: language, operators, guidance, examples, then the task."""

    guidance: dict[str, str]
    examples: dict[str, list[str]]
    num_examples: int
    problem_chars: int
    max_operator_calls: int
    operator_domains: dict[str, list[str]]
    operators: list[str]

    def __post_init__(self) -> None:
        _check_domains("guidance", self.guidance)
        _check_domains("examples", self.examples)
        _check_at_least_0("num_examples", self.num_examples)
        _check_at_least_0("problem_chars", self.problem_chars)

    def messages(self, task: Task) -> list[Message]:
        """System: all that is equal for the task's domain. User: the task."""
        problem = _beginning(task, self.problem_chars, "\n[…]")
        user = f"Write a workflow for tasks like this one ({task.domain}, {task.dataset}).\n\n{problem}"
        return [{"role": "system", "content": self.section(task.domain)}, {"role": "user", "content": user}]

    def section(self, domain: Domain) -> str:
        """The operator section with guidance and examples: the shared prefix of a domain's tasks."""
        language = _LANGUAGE.format(
            signature=" and the name of the function to write" if domain == "code" else "",
            operators=operator_section(domain, self.operator_domains, self.operators),
            max_operator_calls=self.max_operator_calls,
        )
        shown = self.examples[domain][: self.num_examples]
        title = "Example" if len(shown) == 1 else "Examples (they differ on purpose: write what suits the task)"
        blocks = "\n\n".join(f"```python\n{example.strip()}\n```" for example in shown)
        examples = f"\n{title}:\n{blocks}\n" if shown else ""
        return (
            f"{language}\n{self.guidance[domain].strip()}\n{examples}\nReply with one ```python fence and nothing else."
        )


# Last, behind the problem: a small model does what it has read last, and would answer the problem.
CLOSING = "Write the Python class Workflow for tasks like this one. Do not solve the task yourself."

_BRIEF = """\
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
    """The prompt for a small model that follows instructions: signatures of the operators, one example, the task.

    A small model pays for `Full`'s length with every sample, and `Compact` says nothing of the language.
    """

    example: dict[str, str]
    problem_chars: int
    operator_domains: dict[str, list[str]]
    operators: list[str]

    def __post_init__(self) -> None:
        _check_domains("example", self.example)
        _check_at_least_0("problem_chars", self.problem_chars)

    def messages(self, task: Task) -> list[Message]:
        """System: all that is equal for the task's domain. User: the task."""
        problem = _beginning(task, self.problem_chars, " […]")
        user = f"Task ({task.domain}, {task.dataset}):\n{problem}\n\n{CLOSING}"
        return [{"role": "system", "content": self.section(task.domain)}, {"role": "user", "content": user}]

    def section(self, domain: Domain) -> str:
        """The shared prefix of a domain's tasks."""
        lines = [
            f"self.{spec.slot} = operator.{spec.class_name}(self.llm): "
            f"({', '.join(argument.name for argument in spec.arguments)}) -> {', '.join(spec.results)}"
            for spec in _allowed(domain, self.operator_domains, self.operators)
        ]
        return _BRIEF.format(operators="\n".join(lines), example=self.example[domain].strip())


@dataclass(frozen=True, kw_only=True, slots=True)
class Compact:
    """The prompt for a tiny policy that has been warm-started: domain, dataset, the problem's beginning."""

    problem_chars: int

    def __post_init__(self) -> None:
        _check_at_least_0("problem_chars", self.problem_chars)

    def messages(self, task: Task) -> list[Message]:
        """One user message: `math gsm8k` and a newline, then the first characters of the problem."""
        content = f"{task.domain} {task.dataset}\n{task.problem[: self.problem_chars]}"
        return [{"role": "user", "content": content}]
