"""From the policy's text to a checked workflow: parse, validate, repair once more valid. Also `grpo-aflow-check`.

`check_text` is the one way in: training, evaluation, the report and the command line all use it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from grpo_aflow.types import Domain, Finding
from grpo_aflow.workflow.checking.expressions import Expressions
from grpo_aflow.workflow.checking.facts import TooDeep, gather_facts
from grpo_aflow.workflow.checking.flow import Flow, Paths
from grpo_aflow.workflow.checking.lengths import Lengths
from grpo_aflow.workflow.checking.parse import extract_source, has_class, parse
from grpo_aflow.workflow.checking.reader import NO_CLASS, Reading, read
from grpo_aflow.workflow.checking.repair import mend_indentation, mended
from grpo_aflow.workflow.language import Diagnosis, WorkflowError
from grpo_aflow.workflow.program import Cost, Workflow
from grpo_aflow.workflow.rules import WorkflowRules

MAX_REPAIR_ROUNDS = 3
TEXT_FACTOR = 8  # a text longer than this many sources is not even searched for one


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What became of a policy's text. `workflow` is None when it is not valid; then `findings` says why."""

    source: str  # what is interpreted: after the repairs
    workflow: Workflow | None
    findings: tuple[Finding, ...]  # in order of lines; empty when valid
    notes: tuple[str, ...] = ()  # what is understood and has no effect, for people
    repairs: tuple[str, ...] = ()  # names, one per repair made; only for a workflow that is valid by them

    @property
    def valid(self) -> bool:
        return self.workflow is not None


def check_text(text: str, *, domain: Domain | None, rules: WorkflowRules, repair: bool = True) -> Checked:
    """Parse, validate, and where that fails repair and validate again. Never raises, whatever the text.

    `domain` None checks no operator restriction. Repairs are for execution only: train on what was sampled.
    """
    source = extract_source(text) if len(text) <= TEXT_FACTOR * rules.max_source_bytes else text
    size = len(source.encode("utf-8", "replace"))
    if size > rules.max_source_bytes:
        message = f"the source has {size} bytes, {rules.max_source_bytes} are allowed; write a shorter workflow"
        return Checked(source=source, workflow=None, findings=(Finding(code="E405", line=1, message=message),))
    workflow, diagnoses = validate(source, domain=domain, rules=rules)
    if workflow is None and repair:
        repaired = _repair(source, diagnoses, domain=domain, rules=rules)
        if repaired is not None:
            return repaired
    notes = workflow.notes if workflow else ()
    return Checked(source=source, workflow=workflow, findings=_findings(diagnoses), notes=notes)


def demand(text: str, *, domain: Domain | None, rules: WorkflowRules) -> Workflow:
    """The workflow of a text that must be valid as it is. Raises WorkflowError with the findings."""
    checked = check_text(text, domain=domain, rules=rules, repair=False)
    if checked.workflow is None:
        raise WorkflowError(checked.findings)
    return checked.workflow


def validate(source: str, *, domain: Domain | None, rules: WorkflowRules) -> tuple[Workflow | None, list[Diagnosis]]:
    """All that is wrong with a source, in order of lines; a Workflow if nothing is."""
    tree = parse(source)
    if isinstance(tree, SyntaxError):
        finding = Finding(code="E101", line=tree.lineno or 1, message=f"syntax error: {tree.msg}")
        if not has_class(source):
            finding = Finding(code="E102", line=1, message=NO_CLASS)
        return None, [Diagnosis(finding=finding)]
    reading = read(tree, rules.operator_set)
    if reading.call is None:
        return None, _sorted(reading)
    try:
        workflow = _validate_call(reading, source, domain=domain, rules=rules)
    except TooDeep as deep:
        reading.report(deep.line, "E402", f"the syntax tree is deeper than {rules.max_depth}; split the expression")
        return None, _sorted(reading)
    return (None if reading.diagnoses else workflow), _sorted(reading)


def _validate_call(reading: Reading, source: str, *, domain: Domain | None, rules: WorkflowRules) -> Workflow:
    function = reading.call
    assert function is not None
    facts = gather_facts(reading, function, max_depth=rules.max_depth)
    parameters = {name for name, _ in reading.parameters}
    lengths = Lengths(facts=facts, parameters=frozenset(parameters))
    expressions = Expressions(reading=reading, facts=facts, rules=rules, domain=domain, lengths=lengths)
    expressions.parameters = frozenset(reading.init_names)
    expressions.module_level = True
    for statement in (*reading.constants, *reading.init_body):
        expressions.visit(statement.value)  # type: ignore[attr-defined]  # `read` keeps assignments with a value only
    expressions.module_level = False
    expressions.parameters = frozenset(parameters)
    expressions.assigned = set(parameters)
    expressions.attributes = {name for name in facts.attributes if name not in reading.data_names}
    flow = Flow(expressions)
    paths = flow.block(function.body)
    if paths.through is not None:
        reading.report(function.body[-1], "E301", "__call__ can end without a return; write `return answer` at its end")
    _check_least(reading, function, paths, rules)
    tokens, usd = _worst_case(reading, function, paths.worst, rules)
    return Workflow(
        source=source,
        constants=tuple(reading.constants),
        init=tuple(reading.init_body),
        body=tuple(function.body),
        parameters=reading.parameters,
        init_parameters=reading.init_parameters,
        slots=dict(reading.slots),
        llm_names=frozenset(reading.llm_names),
        prompt_modules=frozenset(reading.prompt_modules),
        loop_bounds=dict(expressions.loop_bounds),
        calls=tuple(slot for _, slot in sorted(expressions.called)),
        max_operator_calls=paths.worst.operators,
        max_llm_calls=paths.worst.llm,
        max_tokens=tokens,
        max_usd=usd,
        notes=tuple(reading.notes),
    )


def _check_least(reading: Reading, function: ast.AsyncFunctionDef, paths: Paths, rules: WorkflowRules) -> None:
    """E406 where some path returns after too few calls that ask the executor, and nothing else is wrong."""
    if reading.diagnoses or paths.returned is None or paths.returned.least >= rules.min_operator_calls:
        return
    least, wanted = paths.returned.least, rules.min_operator_calls
    reading.report(
        function,
        "E406",
        f"a path returns after {least} call{'s' * (least != 1)} of an operator that asks the model, at least {wanted} "
        f"{'is' if wanted == 1 else 'are'} wanted; call one on every path, for example `await self.custom(...)`, and "
        "return what it gives",
    )


def _worst_case(reading: Reading, node: ast.AST, worst: Cost, rules: WorkflowRules) -> tuple[int, float]:
    """Tokens and cost of the longest path; reports each bound that it breaks (E401, E403, E404)."""
    tokens = worst.llm * (rules.call_prompt_tokens + rules.call_completion_tokens)
    usd = (
        worst.llm
        * 1e-6
        * (
            rules.call_prompt_tokens * rules.usd_per_million_prompt_tokens
            + rules.call_completion_tokens * rules.usd_per_million_completion_tokens
        )
    )
    mend = "shorten the loops or call less"
    if worst.operators > rules.max_operator_calls:
        shown = f"up to {worst.operators} operator calls, {rules.max_operator_calls} are allowed"
        reading.report(node, "E401", f"{shown}; {mend}")
    if worst.llm > rules.max_llm_calls:
        reading.report(node, "E403", f"up to {worst.llm} executor calls, {rules.max_llm_calls} are allowed; {mend}")
    elif tokens > rules.max_tokens:
        reading.report(node, "E403", f"up to {tokens} tokens, {rules.max_tokens} are allowed; {mend}")
    if usd > rules.max_usd:
        reading.report(node, "E404", f"up to {usd:.2f} USD, {rules.max_usd:.2f} are allowed; {mend}")
    return tokens, usd


def _sorted(reading: Reading) -> list[Diagnosis]:
    return sorted(reading.diagnoses, key=lambda diagnosis: (diagnosis.finding.line, diagnosis.finding.code))


def _findings(diagnoses: list[Diagnosis]) -> tuple[Finding, ...]:
    return tuple(diagnosis.finding for diagnosis in diagnoses)


def _repair(source: str, diagnoses: list[Diagnosis], *, domain: Domain | None, rules: WorkflowRules) -> Checked | None:
    """Repair round by round until the source is valid; None if it does not become so."""
    names: list[str] = []
    workflow: Workflow | None = None
    if diagnoses[0].finding.code == "E101":
        mended_source = mend_indentation(source) if rules.repairs("indentation") else None
        if mended_source is None:
            return None
        source = mended_source
        names.append("indentation")
        workflow, diagnoses = validate(source, domain=domain, rules=rules)
    for _ in range(MAX_REPAIR_ROUNDS):
        if workflow is not None:
            break
        repairs = [d.repair for d in diagnoses if d.repair is not None and rules.repairs(d.repair.name)]
        if not repairs:
            return None
        source, made = mended(source, repairs)
        names += made
        workflow, diagnoses = validate(source, domain=domain, rules=rules)
    if workflow is None:
        return None
    return Checked(source=source, workflow=workflow, findings=(), notes=workflow.notes, repairs=tuple(names))
