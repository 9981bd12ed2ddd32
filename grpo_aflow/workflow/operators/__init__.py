"""What a workflow can call. An operator, built in or your own, is one class; all that it needs is imported from here.

`spec` is what is known of an operator without running it, `context` what its `run` is given; `replies` and `programs`
read what the executor writes, `instructions` writes the messages to it. `builtin` holds our operators, `table` puts
together those of a run. Examples: `builtin`, and `experiments/your_own/operators.py` from outside the package.
"""

from grpo_aflow.workflow.operators.context import OperatorContext
from grpo_aflow.workflow.operators.programs import code, looks_like_code, solving_program
from grpo_aflow.workflow.operators.replies import (
    answer_in,
    choice,
    short_answer,
    tagged,
    thought_and_answer,
    verdict,
    without_thinking,
)
from grpo_aflow.workflow.operators.spec import Argument, Kind, Operator, OperatorSpec, Prompt, Result, texts

__all__ = [
    "Argument",
    "Kind",
    "Operator",
    "OperatorContext",
    "OperatorSpec",
    "Prompt",
    "Result",
    "answer_in",
    "choice",
    "code",
    "looks_like_code",
    "short_answer",
    "solving_program",
    "tagged",
    "texts",
    "thought_and_answer",
    "verdict",
    "without_thinking",
]
