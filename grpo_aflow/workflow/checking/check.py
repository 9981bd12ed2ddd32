"""From the policy's text to a checked workflow: extract the source, validate it, repair it and validate again.

Training, evaluation, the report and `grpo-aflow-check` all use `check_text`.
"""

from __future__ import annotations

from dataclasses import dataclass

from grpo_aflow.types import Domain, Finding
from grpo_aflow.workflow.checking.diagnosis import Diagnosis
from grpo_aflow.workflow.checking.extract import extract_source
from grpo_aflow.workflow.checking.repair import apply_repairs, fix_indentation
from grpo_aflow.workflow.checking.validate import validate
from grpo_aflow.workflow.program import Workflow
from grpo_aflow.workflow.rules import RepairName, WorkflowRules

MAX_REPAIR_ROUNDS = 3
TEXT_FACTOR = 8  # a text longer than this many sources is not even searched for one


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """What became of a policy's text. `workflow` is None when it is not valid; then `findings` says why."""

    source: str  # what is interpreted: after the repairs
    workflow: Workflow | None
    findings: tuple[Finding, ...]  # in order of lines; empty when valid
    notes: tuple[str, ...] = ()  # what has no effect or is not taken as Python would, for people
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
    findings = tuple(diagnosis.finding for diagnosis in diagnoses)
    return Checked(source=source, workflow=workflow, findings=findings, notes=workflow.notes if workflow else ())


def _repair(source: str, diagnoses: list[Diagnosis], *, domain: Domain | None, rules: WorkflowRules) -> Checked | None:
    """Repair round by round until the source is valid; None if it does not become so."""
    names: list[RepairName] = []
    workflow: Workflow | None = None
    if diagnoses[0].finding.code == "E101":
        indented = fix_indentation(source) if rules.repairs("indentation") else None
        if indented is None:
            return None
        source = indented
        names.append("indentation")
        workflow, diagnoses = validate(source, domain=domain, rules=rules)
    for _ in range(MAX_REPAIR_ROUNDS):
        if workflow is not None:
            break
        repairs = [d.repair for d in diagnoses if d.repair is not None and rules.repairs(d.repair.name)]
        if not repairs:
            return None
        source, made = apply_repairs(source, repairs)
        names += made
        workflow, diagnoses = validate(source, domain=domain, rules=rules)
    if workflow is None:
        return None
    return Checked(source=source, workflow=workflow, findings=(), notes=workflow.notes, repairs=tuple(names))
