"""The workflow language: what the policy writes, checked before it costs anything, and run without being executed.

    checked = check_text(text, domain=task.domain, rules=rules)  # parsed, validated, repaired
    execution = await interpreter.run(checked.workflow, task, step=0, member=0)

`language` lists what the language has, `rules` what a workflow may cost, `program` is a workflow that was understood.
`checking` is the way from a text to a workflow, `running` the interpreter, `prompt` what the policy is shown. What a
workflow can call is in `operators`; all that an operator of your own needs is imported from there. Begin with
`checking.check` and `running.interpret`.
"""

from grpo_aflow.workflow.checking.check import Checked, check_text
from grpo_aflow.workflow.fixed import load_fixed
from grpo_aflow.workflow.graph import operator_graph
from grpo_aflow.workflow.operators.table import operator_table, system_prompts
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.rules import WorkflowRules, default_rules
from grpo_aflow.workflow.running.interpret import Interpreter

__all__ = [
    "Checked",
    "Interpreter",
    "Workflow",
    "WorkflowRules",
    "check_text",
    "default_rules",
    "load_fixed",
    "operator_graph",
    "operator_table",
    "system_prompts",
]
