"""What the policy is shown (config group `prompt`): `Full` for instructed models, `Compact` for the tiny one.

The part that is equal for all tasks of a domain stands first, in the system message: vLLM's prefix cache and the
learner's shared prefix live from it. The operators shown are generated from `OPERATORS`.
"""

from __future__ import annotations

from collections.abc import Sequence
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


def operator_section(domain: Domain, operator_domains: dict[str, list[str]], operators: Sequence[str] = ()) -> str:
    """The operators that may be called in a domain, one per line."""
    specs = load(tuple(operators)).specs.values()
    return "\n".join(_operator_line(spec) for spec in specs if _allowed(spec, domain, operator_domains))


def _allowed(spec: OperatorSpec, domain: Domain, operator_domains: dict[str, list[str]]) -> bool:
    return domain in operator_domains.get(spec.slot, spec.domains)


def _operator_line(spec: OperatorSpec) -> str:
    call = f"self.{spec.slot}{spec.arguments_text} -> {{{spec.results_text}}}"
    return f"- operator.{spec.class_name}: {call}\n  {spec.description}"


def _check_domains(name: str, given: dict[str, str] | dict[str, list[str]]) -> None:
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
        if self.num_examples < 0:
            raise ValueError(f"num_examples must be at least 0; got {self.num_examples}")
        if self.problem_chars < 0:
            raise ValueError(f"problem_chars must be at least 0; got {self.problem_chars}")

    def messages(self, task: Task) -> list[Message]:
        """System: all that is equal for the task's domain. User: the task."""
        problem = task.problem[: self.problem_chars]
        more = "" if len(problem) == len(task.problem) else "\n[…]"
        user = f"Write a workflow for tasks like this one ({task.domain}, {task.dataset}).\n\n{problem}{more}"
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


@dataclass(frozen=True, kw_only=True, slots=True)
class Compact:
    """The prompt for a tiny policy that has been warm-started: domain, dataset, the problem's beginning."""

    problem_chars: int

    def __post_init__(self) -> None:
        if self.problem_chars < 0:
            raise ValueError(f"problem_chars must be at least 0; got {self.problem_chars}")

    def messages(self, task: Task) -> list[Message]:
        """One user message: `math gsm8k` and a newline, then the first characters of the problem."""
        content = f"{task.domain} {task.dataset}\n{task.problem[: self.problem_chars]}"
        return [{"role": "user", "content": content}]
