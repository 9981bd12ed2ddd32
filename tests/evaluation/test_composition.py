"""What a policy's workflows are made of, beside what it was shown."""

from dataclasses import replace

from rollouts import completion, rollout

from grpo_aflow.evaluation.composition import Composition, composition
from grpo_aflow.learner.preparation.reference_workflows import corpus, write
from grpo_aflow.types import RolloutStatus
from grpo_aflow.workflow.rules import default_rules

CUSTOM = write("custom")
NOVEL = write("custom format format")


def written(source, *, tokens=3, finish_reason="stop"):
    ids = tuple(range(tokens))
    return replace(
        rollout(),
        source=source,
        completion=replace(completion(), token_ids=ids, logprobs=(0.0,) * tokens, finish_reason=finish_reason),
    )


def test_graphs_that_no_reference_workflow_has_are_counted():
    sources = [CUSTOM, CUSTOM.replace("solution", "text").replace("Solve it.", "Go on."), NOVEL, NOVEL]
    found = composition([written(source) for source in sources], default_rules())
    assert found == Composition(num_workflows=4, num_valid=4, num_novel=2, num_novel_graphs=1, median_tokens=2.0)


def test_every_reference_workflow_is_known():
    shown = [written(workflow.source) for workflow in corpus() if "math" in workflow.domains]
    assert composition(shown, default_rules()).num_novel == 0


def test_an_invalid_workflow_has_a_length_and_no_graph():
    invalid = replace(written("", tokens=9, finish_reason="length"), status=RolloutStatus.INVALID)
    found = composition([invalid], default_rules())
    assert (found.num_workflows, found.num_valid, found.num_novel, found.median_tokens) == (1, 0, 0, 9.0)


def test_calling_nothing_is_no_composition():
    source = CUSTOM.replace('(await self.custom(input=problem, instruction="Solve it."))["response"]', "problem")
    assert composition([written(source)], default_rules()).num_novel == 0


def test_nothing_was_written():
    assert composition([], default_rules()).num_workflows == 0
