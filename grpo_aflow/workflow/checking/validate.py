"""The validator: from a source to a `Workflow`, or to all that is wrong with it."""

from __future__ import annotations

import ast

from grpo_aflow.types import Domain, Finding
from grpo_aflow.workflow.checking.diagnosis import Diagnosis
from grpo_aflow.workflow.checking.expressions import CHECKS
from grpo_aflow.workflow.checking.extract import has_class
from grpo_aflow.workflow.checking.facts import Facts, TooDeep, gather_facts
from grpo_aflow.workflow.checking.flow import Flow
from grpo_aflow.workflow.checking.header import NO_CLASS, read
from grpo_aflow.workflow.checking.lengths import Lengths
from grpo_aflow.workflow.checking.outline import Outline
from grpo_aflow.workflow.checking.paths import PathCosts
from grpo_aflow.workflow.checking.walk import Walk
from grpo_aflow.workflow.parsing import parse
from grpo_aflow.workflow.program import Cost, Workflow
from grpo_aflow.workflow.rules import WorkflowRules


def validate(source: str, *, domain: Domain | None, rules: WorkflowRules) -> tuple[Workflow | None, list[Diagnosis]]:
    """All that is wrong with a source, in order of lines; a Workflow if nothing is."""
    tree = parse(source)
    if isinstance(tree, SyntaxError):
        finding = Finding(code="E101", line=tree.lineno or 1, message=f"syntax error: {tree.msg}")
        if not has_class(source):
            finding = Finding(code="E102", line=1, message=NO_CLASS)
        return None, [Diagnosis(finding=finding)]
    workflow, outline = None, read(tree, rules.operator_set)
    if outline.call is not None:
        try:
            workflow = _validate_call(outline, outline.call, source, domain=domain, rules=rules)
        except TooDeep as deep:
            message = f"the syntax tree is deeper than {rules.max_depth}; split the expression"
            outline.report(deep.line, "E402", message)
    ordered = sorted(outline.diagnoses, key=lambda diagnosis: (diagnosis.finding.line, diagnosis.finding.code))
    return (None if ordered else workflow), ordered


def _validate_call(
    outline: Outline, call: ast.AsyncFunctionDef, source: str, *, domain: Domain | None, rules: WorkflowRules
) -> Workflow:
    facts = gather_facts(outline, call, max_depth=rules.max_depth)
    walk = _walk_outside(outline, facts, domain=domain, rules=rules)
    paths = Flow(walk).block(call.body)
    if paths.through is not None:
        outline.report(call.body[-1], "E301", "__call__ can end without a return; write `return answer` at its end")
    _check_least(outline, call, paths, rules)
    tokens, usd = _worst_case(walk, call, paths.worst)
    return Workflow(
        source=source,
        constants=tuple(outline.constants),
        init=tuple(outline.init_body),
        body=tuple(call.body),
        parameters=outline.parameters,
        init_parameters=outline.init_parameters,
        slots=dict(outline.slots),
        llm_names=frozenset(outline.llm_names),
        prompt_modules=frozenset(outline.prompt_modules),
        loop_bounds=dict(walk.loop_bounds),
        calls=tuple(slot for _, slot in sorted(walk.called)),
        max_operator_calls=paths.worst.operators,
        max_llm_calls=paths.worst.llm,
        max_tokens=tokens,
        max_usd=usd,
        notes=tuple(outline.notes),
    )


def _walk_outside(outline: Outline, facts: Facts, *, domain: Domain | None, rules: WorkflowRules) -> Walk:
    """Check constants and `__init__`; the walk is then ready for the body of `__call__`."""
    parameters = frozenset(name for name, _ in outline.parameters)
    lengths = Lengths(facts=facts, parameters=parameters)
    walk = Walk(checks=CHECKS, outline=outline, facts=facts, rules=rules, domain=domain, lengths=lengths)
    walk.parameters, walk.module_level = frozenset(outline.init_names), True
    walk.visit_all(value for statement in outline.assignments for value in [statement.value] if value is not None)
    walk.parameters, walk.module_level = parameters, False
    walk.assigned = set(parameters)
    walk.attributes = {name for name in facts.attributes if name not in outline.data_names}
    return walk


def _check_least(outline: Outline, call: ast.AsyncFunctionDef, paths: PathCosts, rules: WorkflowRules) -> None:
    """E406 where some path returns after too few calls that ask the executor, and nothing else is wrong."""
    if outline.diagnoses or paths.returned is None or paths.returned.least >= rules.min_operator_calls:
        return
    least, wanted = paths.returned.least, rules.min_operator_calls
    outline.report(
        call,
        "E406",
        f"a path returns after {least} call{'s' * (least != 1)} of an operator that asks the model, at least {wanted} "
        f"{'is' if wanted == 1 else 'are'} wanted; call one on every path, for example `await self.custom(...)`, and "
        "return what it gives",
    )


def _worst_case(walk: Walk, node: ast.AST, worst: Cost) -> tuple[int, float]:
    """Tokens and cost of the longest path; reports each bound that it breaks (E401, E403, E404)."""
    outline, rules = walk.outline, walk.rules
    tokens = worst.llm * (rules.call_prompt_tokens + rules.call_completion_tokens)
    usd = rules.worst_usd(worst.llm)
    fix = "shorten the loops or call less"
    if walk.uncounted:
        fix += (
            f"; the `while` of line {walk.uncounted[0]} counts {rules.max_loop_iterations} turns, for no counter ends "
            "it: write `n = 0` above it, and in it `n += 1` once a turn with `while n < 3` or `if n >= 3: break`"
        )
    if worst.operators > rules.max_operator_calls:
        shown = f"up to {worst.operators} operator calls, {rules.max_operator_calls} are allowed"
        outline.report(node, "E401", f"{shown}; {fix}")
    if worst.llm > rules.max_llm_calls:
        outline.report(node, "E403", f"up to {worst.llm} executor calls, {rules.max_llm_calls} are allowed; {fix}")
    elif tokens > rules.max_tokens:
        outline.report(node, "E403", f"up to {tokens} tokens, {rules.max_tokens} are allowed; {fix}")
    if usd > rules.max_usd:
        outline.report(node, "E404", f"up to {usd:.4f} USD, {rules.max_usd:.4f} are allowed; {fix}")
    return tokens, usd
