"""What a user would do without a trained policy: baselines on the same executor, tasks and cache.

Nearly all of them are workflows, so they run through the same interpreter and are graded alike; `baseline_workflows`
holds their texts. A `Baseline` turns an open evaluation into something that can be measured. Add one of your own by its
dotted name (`baselines=[my_pkg.Debate]`), or a workflow file (`baselines=[file:my_workflow.py]`).
"""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, cast

from grpo_aflow.config.schema import EvaluateConfig
from grpo_aflow.evaluation import baseline_workflows as workflows
from grpo_aflow.evaluation.evaluate import Result
from grpo_aflow.evaluation.figures import per_task
from grpo_aflow.evaluation.policies import RandomPolicy
from grpo_aflow.learner.preparation.reference_workflows import best
from grpo_aflow.protocols import CodeRunner, ServedModel
from grpo_aflow.rollout.group import Rollouter, make_rollouter
from grpo_aflow.rollout.policies import FixedPolicy, SampledPolicy
from grpo_aflow.run.faults import raised_at
from grpo_aflow.services import Services
from grpo_aflow.tasks import grade, is_masked
from grpo_aflow.types import (
    BASE,
    DOMAINS,
    Completion,
    Domain,
    Execution,
    ExecutionStatus,
    Message,
    Rollout,
    RolloutStatus,
    SamplingParams,
    Task,
    UserError,
)
from grpo_aflow.workflow import WorkflowRules, check_text
from grpo_aflow.workflow.fixed import load_fixed

POLICY = "policy"  # the name of the system under test among the measured ones
MAX_VOTES = 64  # of self-consistency at matched cost
UNBOUNDED = 10**9
NO_MODEL = "baselines: policy_alone asks the policy's model, and none is open; give policy=base or checkpoint"


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenEvaluation:
    """What a baseline can be built on."""

    config: EvaluateConfig
    services: Services
    served: ServedModel | None  # the policy's model, where one is open
    measured: Mapping[str, Result]  # systems that were measured before, the policy among them

    def workflow_rollouter(self, sources: Mapping[Domain, str]) -> Rollouter:
        """Runs given workflows. Their budget is lifted: what they cost is measured, not bounded."""
        lifted = replace(self.config, workflow=_lifted(self.config.workflow))
        return make_rollouter(self.services, lifted, FixedPolicy(sources=sources))

    def max_calls(self, sources: Mapping[Domain, str]) -> dict[Domain, int]:
        """The executor calls of each domain's workflow, at most; 0 for one that is not valid."""
        rules, calls = _lifted(self.config.workflow), {}
        for domain, source in sources.items():
            workflow = check_text(source, domain=domain, rules=rules).workflow
            calls[domain] = workflow.max_llm_calls if workflow else 0
        return calls


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """Something that can be measured."""

    rollouter_of: Callable[[Task], Rollouter]
    note: str = ""  # for the table: what was chosen, and by what
    max_calls_of: Callable[[Task], int] = lambda task: 0  # executor calls of one rollout, at most


class Baseline(Protocol):
    """One row of the table."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Baselines that must be measured before it."""
        ...

    def system(self, evaluation: OpenEvaluation) -> System:
        """Raises UserError where it cannot be measured here."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Workflows:
    """One workflow for each domain."""

    sources: Mapping[Domain, str]
    note: str = ""
    needs: tuple[str, ...] = ()

    def system(self, evaluation: OpenEvaluation) -> System:
        rollouter = evaluation.workflow_rollouter(self.sources)
        calls = evaluation.max_calls(self.sources)
        return System(rollouter_of=lambda task: rollouter, note=self.note, max_calls_of=lambda task: calls[task.domain])


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchedSelfConsistency:
    """Chain of thought with as many votes as the policy's mean cost pays for, in tokens, on each dataset."""

    needs: tuple[str, ...] = ("cot",)

    def system(self, evaluation: OpenEvaluation) -> System:
        votes = matched_votes(evaluation.measured[POLICY], evaluation.measured["cot"])
        sources = {dataset: workflows.self_consistency(k) for dataset, k in votes.items()}
        rollouters = {dataset: evaluation.workflow_rollouter(texts) for dataset, texts in sources.items()}
        return System(
            rollouter_of=lambda task: rollouters[task.dataset],
            note="votes: " + ", ".join(f"{dataset} {k}" for dataset, k in votes.items()),
            max_calls_of=lambda task: votes[task.dataset] + (task.domain == "code"),  # and the ensemble's
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class RandomWorkflows:
    """Another valid workflow for every rollout, drawn without a look at the task."""

    needs: tuple[str, ...] = ()

    def system(self, evaluation: OpenEvaluation) -> System:
        lifted = replace(evaluation.config, workflow=_lifted(evaluation.config.workflow))
        rollouter = make_rollouter(evaluation.services, lifted, RandomPolicy())
        return System(rollouter_of=lambda task: rollouter)


@dataclass(frozen=True, kw_only=True, slots=True)
class PolicyAlone:
    """The policy's base model answers by itself: says what workflow and executor add."""

    needs: tuple[str, ...] = ()

    def system(self, evaluation: OpenEvaluation) -> System:
        served, config = evaluation.served, evaluation.config
        if served is None:
            raise UserError(NO_MODEL)
        shipped = make_rollouter(evaluation.services, config, FixedPolicy(sources={}))
        rollouter = replace(
            shipped,
            policy=BaseModel(sampler=served.sampler, tokenizer=served.model.tokenizer, prompt=Direct()),
            environment=Answering(runner=evaluation.services.runner),
        )
        return System(rollouter_of=lambda task: rollouter, note="the base model, asked for the answer")


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnBaseline:
    """A baseline of a user's own: whatever is wrong with it is one line that names it."""

    name: str
    made: Baseline

    @property
    def needs(self) -> tuple[str, ...]:
        needs = self.made.needs
        if not isinstance(needs, list | tuple):
            raise UserError(f"baselines: {self.name}: needs must be a tuple of names; got {needs!r}")
        return tuple(needs)

    def system(self, evaluation: OpenEvaluation) -> System:
        try:
            system = self.made.system(evaluation)
        except UserError:
            raise
        except Exception as error:  # whatever the user's code may raise
            raise UserError(
                f"baselines: {self.name}.system fails: {type(error).__name__}: {error} ({raised_at(error)})"
            ) from error
        if not isinstance(system, System):
            raise UserError(
                f"baselines: {self.name}.system gives {system!r}: it must give a grpo_aflow.evaluation.baselines.System"
            )
        return system


def baseline(name: str) -> Baseline:
    """The baseline of a name: see `NAMES`, `cot_sc@5`, `file:my_workflow.py`, `my_pkg.MyBaseline`. Raises UserError."""
    if name in NAMES:
        return NAMES[name]
    if found := re.fullmatch(r"cot_sc@(\d+)", name):
        if not 1 <= int(found[1]) <= MAX_VOTES:
            raise UserError(f"baselines: {name}: give 1 to {MAX_VOTES} votes")
        return Workflows(sources=workflows.self_consistency(int(found[1])))
    if name.startswith("file:"):
        return Workflows(sources=dict.fromkeys(DOMAINS, load_fixed(Path(name[5:]))))
    if "." in name:
        return _imported(name)
    raise UserError(
        f"baselines: {name} is unknown; known: {', '.join(NAMES)}, cot_sc@<votes>, file:<workflow.py>, "
        "or the dotted name of your own"
    )


def in_order(names: Sequence[str]) -> list[str]:
    """The names, each behind those that it needs, none twice. Raises UserError for one that does not exist."""
    ordered: list[str] = []

    def add(name: str, behind: tuple[str, ...]) -> None:
        if name in behind:
            raise UserError(f"baselines: {name} needs itself, by {' and '.join(behind)}")
        if name not in ordered:
            for need in baseline(name).needs:
                add(need, (*behind, name))
            ordered.append(name)

    for name in names:
        add(name, ())
    return ordered


def planned(config: EvaluateConfig) -> list[str]:
    """The baselines of a config, `in_order`. Raises UserError for one that needs what will not be open."""
    names = in_order(config.baselines)
    if "policy_alone" in names and not config.needs_engine:
        raise UserError(NO_MODEL)
    return names


def matched_votes(policy: Result, cot: Result) -> dict[str, int]:
    """Dataset -> the number of chains of thought that cost what the policy costs, in tokens; at least one."""
    ours, theirs = policy.parts(), cot.parts()
    votes = {}
    for dataset, groups in ours.items():
        one = per_task(theirs[dataset])["tokens"]
        votes[dataset] = min(MAX_VOTES, max(1, round(per_task(groups)["tokens"] / one))) if one else 1
    return votes


@dataclass(frozen=True, kw_only=True, slots=True)
class Direct:
    """Asks for the answer itself."""

    def messages(self, task: Task) -> list[Message]:
        return [
            {"role": "system", "content": workflows.DIRECT[task.domain]},
            {"role": "user", "content": task.problem},
        ]


class BaseModel(SampledPolicy):
    """The base weights, whatever version the policy under test has."""

    async def draw(
        self,
        task: Task,
        prompt_ids: tuple[int, ...],
        *,
        seeds: Sequence[int],
        members: Sequence[int],
        params: SamplingParams,
        version: int,
    ) -> AsyncGenerator[tuple[int, Completion]]:
        stream = self.sampler.sample(prompt_ids, seeds=seeds, params=params, version=BASE)
        async for member, completion in stream:
            if member in members:
                yield member, completion


@dataclass(frozen=True, kw_only=True, slots=True)
class Answering:
    """The environment of a model that answers by itself: the completion is the answer."""

    runner: CodeRunner

    async def rollout(self, task: Task, completion: Completion, *, step: int, member: int) -> Rollout:
        graded = await asyncio.to_thread(grade, task, completion.text, runner=self.runner)
        masked = is_masked(graded)
        return Rollout(
            task=task,
            member=member,
            completion=completion,
            status=RolloutStatus.MASKED if masked else RolloutStatus.COMPLETED,
            execution=Execution(
                status=ExecutionStatus.MASKED if masked else ExecutionStatus.OK,
                answer=completion.text,
                reason="masked:grader" if masked else "",
            ),
            grade=None if masked else graded,
        )


def _lifted(rules: WorkflowRules) -> WorkflowRules:
    return replace(
        rules,
        max_operator_calls=UNBOUNDED,
        max_llm_calls=UNBOUNDED,
        max_tokens=UNBOUNDED,
        max_usd=float(UNBOUNDED),
        max_loop_iterations=UNBOUNDED,
    )


def _imported(name: str) -> Baseline:
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
        made = found() if isinstance(found, type) else found
    except Exception as error:  # whatever the user's module does while it is imported
        raise UserError(f"baselines: {name} cannot be imported ({type(error).__name__}: {error})") from error
    missing = [part for part in ("needs", "system") if not hasattr(made, part)]
    if missing:
        raise UserError(f"baselines: {name} has no {', '.join(missing)}; see grpo_aflow.evaluation.baselines.Baseline")
    return OwnBaseline(name=name, made=cast("Baseline", made))


NAMES: Mapping[str, Baseline] = {
    "io": Workflows(sources=workflows.IO),
    "cot": Workflows(sources=workflows.self_consistency(1)),
    "cot_sc@matched": MatchedSelfConsistency(),
    "self_refine": Workflows(sources=workflows.SELF_REFINE),
    "aflow_style": Workflows(sources=workflows.AFLOW_STYLE, note="after the best graphs that AFlow published"),
    "random_valid": RandomWorkflows(),
    "policy_alone": PolicyAlone(),
    "best_reference": Workflows(sources={domain: best(domain) for domain in DOMAINS}),
}
"""The built-in baselines; `cot_sc@5` and the like are made from their name."""
