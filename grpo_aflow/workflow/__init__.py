"""The workflow language: what the policy writes, checked before it costs anything, and run without being executed.

`check_text` makes a `Workflow` of a policy's text, an `Interpreter` runs it, `operators` says what it can call.
"""

from grpo_aflow.workflow.checking.check import Checked, check_text
from grpo_aflow.workflow.language import WorkflowError
from grpo_aflow.workflow.operators.table import OPERATORS, OperatorSpec, operator_table, system_prompts
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.rules import WorkflowRules
from grpo_aflow.workflow.running.interpret import Interpreter, run_workflow

__all__ = [
    "OPERATORS",
    "Checked",
    "Interpreter",
    "OperatorSpec",
    "Workflow",
    "WorkflowError",
    "WorkflowRules",
    "check_text",
    "operator_table",
    "run_workflow",
    "system_prompts",
]
