import math
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from learner_cases import settings, spec
from torch.optim.optimizer import register_optimizer_step_pre_hook

from grpo_aflow.learner.policy.model import PolicyModel
from grpo_aflow.learner.policy.rows import Limits
from grpo_aflow.learner.preparation import tiny
from grpo_aflow.learner.preparation.examples import EncodedExamples, make_examples, warm_start_prompts
from grpo_aflow.learner.preparation.fine_tuning import collate, fine_tune_adapter, fine_tune_all
from grpo_aflow.learner.preparation.reference_workflows import PREFERRED, best, corpus, weights, write
from grpo_aflow.learner.warmstart import NoWarmStart, ReferenceWorkflows
from grpo_aflow.sampler.tokenizer import ChatTokenizer
from grpo_aflow.types import DOMAINS, Task, UserError
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.graph import operator_graph
from grpo_aflow.workflow.rules import WorkflowRules

pytestmark = pytest.mark.slow

CONF = Path(__file__).parents[2] / "conf"
SETTINGS = {"num_steps": 60, "batch_size": 8, "learning_rate": 3e-3, "preference": 0.2, "seed": 0}
SIZES = {
    "hidden_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "num_kv_heads": 1,
    "intermediate_size": 128,
    "max_model_len": 128,
}


def compact(task: Task):
    return [{"role": "user", "content": f"{task.domain} {task.dataset}\n"}]


@pytest.fixture(scope="module")
def prompts():
    return warm_start_prompts(compact, [])


@pytest.fixture(scope="module")
def tokenizer(prompts):
    texts = [workflow.source for workflow in corpus()]
    texts += [message["content"] for _, messages in prompts for message in messages]
    return tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=128)


def encoded(tokenizer, prompts, settings, *, max_model_len=128):
    """Through the run's own tokenizer, read back from a folder."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        read = ChatTokenizer(Path(folder))
    return EncodedExamples(read, make_examples(prompts, settings), max_model_len=max_model_len)


def test_every_reference_workflow_is_valid_without_repair_in_its_domains():
    rules = WorkflowRules(**_values("workflow/default.yaml"))
    for workflow in corpus():
        for domain in workflow.domains:
            checked = check_text(workflow.source, domain=domain, rules=rules, repair=False)
            assert checked.valid, (workflow.name, domain, checked.findings)


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_best_workflow_of_a_domain_is_valid_and_can_only_be_composed(domain):
    rules = WorkflowRules(**_values("workflow/default.yaml"))
    checked = check_text(best(domain), domain=domain, rules=rules, repair=False)
    assert checked.workflow is not None
    shown = [check_text(workflow.source, domain=workflow.domains[0], rules=rules).workflow for workflow in corpus()]
    graphs = {operator_graph(workflow).key() for workflow in shown}
    assert operator_graph(checked.workflow).key() not in graphs
    assert set(checked.workflow.calls) <= {call for workflow in shown for call in workflow.calls}


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_prefers_a_few_good_workflows_weakly(domain):
    shares = weights(domain, 0.2)
    assert math.fsum(shares.values()) == pytest.approx(1)
    assert math.fsum(shares[name] for name in PREFERRED[domain]) == pytest.approx(0.2)
    assert set(shares) == {workflow.name for workflow in corpus() if domain in workflow.domains}
    assert len(shares) >= 12


def test_a_chain_is_written_as_a_workflow():
    assert write("5 custom sc_ensemble").splitlines()[3:] == [
        "        self.custom = operator.Custom(self.llm)",
        "        self.sc_ensemble = operator.ScEnsemble(self.llm)",
        "",
        "    async def __call__(self, problem):",
        "        solutions = []",
        "        for _ in range(5):",
        '            solutions.append((await self.custom(input=problem, instruction="Solve it."))["response"])',
        '        solution = (await self.sc_ensemble(solutions=solutions, problem=problem))["response"]',
        "        return solution",
    ]


def test_all_six_datasets_are_shown_with_their_own_tasks_where_there_are_any():
    own = [Task(id=str(i), dataset="gsm8k", domain="math", problem=f"problem {i}", answers=("1",)) for i in range(3)]
    by_problem = warm_start_prompts(lambda task: [{"role": "user", "content": task.problem}], own)
    assert [domain for domain, _ in by_problem] == ["math"] * 4 + ["qa"] * 2 + ["code"] * 2
    assert [messages[0]["content"] for _, messages in by_problem[:3]] == ["problem 0", "problem 1", "problem 2"]
    assert len(warm_start_prompts(compact, own)) == 6  # alike prompts count once


def test_a_dataset_of_ones_own_is_in_the_warm_start():
    task = Task(id="own/0", dataset="my_package:PUZZLES", domain="math", problem="Make 24.", answers=("24",))
    prompts = warm_start_prompts(compact, [task])
    assert len(prompts) == 7
    assert prompts[-1] == ("math", ({"role": "user", "content": "math my_package:PUZZLES\n"},))


def test_the_loss_is_on_the_completion_and_its_end_alone(tokenizer, prompts):
    settings = ReferenceWorkflows(**SETTINGS)
    batch = collate(next(encoded(tokenizer, prompts, settings).rows(settings)), tokenizer.pad_token_id)
    for ids, labels, mask in zip(batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True):
        trained = labels[labels != -100].tolist()
        assert trained[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(trained[:-1]) in {workflow.source for workflow in corpus()}
        num_prompt = int((labels != -100).nonzero()[0])
        assert tokenizer.decode(ids[:num_prompt]).endswith("<|assistant|>")
        assert int(mask.sum()) == num_prompt + len(trained)
        assert set(ids[int(mask.sum()) :].tolist()) <= {tokenizer.pad_token_id}


def test_fine_tuning_learns_the_corpus_and_is_reproducible(tokenizer, prompts):
    def train():
        model = tiny.build_model(tokenizer, seed=0, **SIZES)
        settings = ReferenceWorkflows(**SETTINGS)
        steps: list[int] = []
        examples = encoded(tokenizer, prompts, settings)
        loss = fine_tune_all(
            model, examples, settings, lambda what, done, total: steps.append(done), pad_id=tokenizer.pad_token_id
        )
        assert steps == list(range(1, 61))
        assert not model.training
        return loss, model.state_dict()

    loss, state = train()
    assert loss < 0.5 * math.log(len(tokenizer))  # a random model's loss is the logarithm of the vocabulary
    again, state_again = train()
    assert again == loss
    assert all(torch.equal(state[name], state_again[name]) for name in state)


def test_a_prompt_is_shown_with_several_draws_and_each_distinct_one_is_computed_once(tokenizer, prompts):
    settings = ReferenceWorkflows(**SETTINGS | {"num_steps": 40, "batch_size": 10})
    examples = encoded(tokenizer, prompts, settings)
    steps = list(examples.prompt_rows(settings))
    for step in steps:
        assert [sum(group.counts) for group in step] == [4, 4, 2]
        assert all(len(set(group.completions)) == len(group.completions) == len(group.counts) for group in step)
    assert any(count > 1 for step in steps for group in step for count in group.counts)
    seen = {group.prompt_ids for step in steps for group in step}
    assert len(seen) == len(prompts)
    assert list(examples.prompt_rows(settings)) == steps


def test_an_adapters_step_is_the_gradient_of_the_mean_over_all_drawn_tokens(tokenizer, prompts, tmp_path):
    """Against the same loss written out with whole logits, rows repeated as often as they were drawn."""
    model = tiny.build_model(tokenizer, seed=0, **SIZES)
    model.save_pretrained(tmp_path)
    warmstart = ReferenceWorkflows(**SETTINGS | {"num_steps": 1, "learning_rate": 1e-2})
    examples = encoded(tokenizer, prompts, warmstart)
    limits = Limits(rows=2)
    policy = PolicyModel(tmp_path, spec(), settings(), device="cpu", dtype="float32", seed=3, limits=limits)
    [step] = examples.prompt_rows(warmstart)
    rows = [
        (group.prompt_ids, ids)
        for group in step
        for ids, count in zip(group.completions, group.counts, strict=True)
        for _ in range(count)
    ]
    batch = collate(rows, 0)
    loss = policy.model(**batch, use_cache=False).loss
    loss.backward()
    expected = [parameter.grad.clone() for parameter in policy.parameters.values()]
    policy.model.zero_grad()
    seen = []
    handle = register_optimizer_step_pre_hook(
        lambda optimizer, *_: seen.extend(p.grad.clone() for g in optimizer.param_groups for p in g["params"])
    )
    losses = fine_tune_adapter(policy, examples, warmstart, lambda *_: None, state=tmp_path / "state")
    handle.remove()
    assert losses[0] == pytest.approx(float(loss.detach()), abs=1e-5)
    norm = float(torch.nn.utils.get_total_norm(expected))
    for one, other in zip(seen, expected, strict=True):
        torch.testing.assert_close(one, other * min(1.0, 1.0 / norm), atol=1e-6, rtol=1e-4)


def test_a_step_whose_memory_runs_out_is_done_again_in_smaller_micro_batches(tokenizer, prompts, tmp_path, monkeypatch):
    """In the second of its micro-batches: what the first had added to the gradients is forgotten."""
    tiny.build_model(tokenizer, seed=0, **SIZES).save_pretrained(tmp_path)
    warmstart = ReferenceWorkflows(**SETTINGS | {"num_steps": 1})
    examples = encoded(tokenizer, prompts, warmstart)

    def trained(fails_at):
        limits = Limits(rows=4)
        policy = PolicyModel(tmp_path, spec(), settings(), device="cpu", dtype="float32", seed=3, limits=limits)
        scores, calls = policy.scores, []

        def limited(layout, rows, **arguments):
            calls.append(len(rows))
            if len(calls) in fails_at:
                raise torch.OutOfMemoryError("out of memory")
            return scores(layout, rows, **arguments)

        monkeypatch.setattr(policy, "scores", limited)
        state = tmp_path / f"state{len(fails_at)}"
        losses = fine_tune_adapter(policy, examples, warmstart, lambda *_: None, state=state)
        return losses, [parameter.detach().clone() for parameter in policy.parameters.values()], policy.limits

    losses, whole, limits = trained(())
    again, halved, less = trained((2,))
    assert less.rows < limits.rows
    assert again == pytest.approx(losses, abs=1e-6)
    for one, other in zip(halved, whole, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match=r"in the warm start.*lower learner\.max_tokens_per_micro_batch"):
        trained(range(2, 1000))


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_steps", 0), ("batch_size", 0), ("learning_rate", 0.0), ("preference", 1.0)],
)
def test_a_value_out_of_range_is_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*; got {value}"):
        ReferenceWorkflows(**(SETTINGS | {name: value}))


@pytest.mark.parametrize(("option", "of"), [("none", NoWarmStart), ("reference_workflows", ReferenceWorkflows)])
def test_the_yaml_gives_every_field_of_its_class(option, of):
    values = _values(f"warmstart/{option}.yaml")
    assert set(values) == {field.name for field in fields(of)}
    of(**values)


def _values(path: str) -> dict:
    values = yaml.safe_load((CONF / path).read_text())
    values.pop("_target_")
    return values
