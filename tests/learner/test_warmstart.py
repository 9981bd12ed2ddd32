import math
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml

from grpo_aflow.learner import tiny
from grpo_aflow.learner.reference_workflows import BEST, TABLE, best, corpus, weights
from grpo_aflow.learner.warmstart import (
    NoWarmStart,
    ReferenceWorkflows,
    _batches,
    fine_tune,
    make_examples,
    warm_start_prompts,
)
from grpo_aflow.types import DOMAINS, Task
from grpo_aflow.workflow.check import check_text
from grpo_aflow.workflow.rules import WorkflowRules

CONF = Path(__file__).parents[2] / "conf"
SETTINGS = {"num_steps": 25, "batch_size": 8, "learning_rate": 3e-3, "preference": 0.2, "lora_rank": 8, "seed": 0}
SIZES = {"hidden_size": 64, "num_layers": 2, "num_heads": 2, "intermediate_size": 128, "max_model_len": 64}


def compact(task: Task):
    return [{"role": "user", "content": f"{task.domain} {task.dataset}\n"}]


@pytest.fixture(scope="module")
def prompts():
    return warm_start_prompts(compact, [])


@pytest.fixture(scope="module")
def tokenizer(prompts):
    texts = [workflow.source for workflow in corpus()]
    texts += [message["content"] for _, messages in prompts for message in messages]
    return tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=64)


def test_every_reference_workflow_is_valid_without_repair_in_its_domains():
    rules = WorkflowRules(**_values("workflow/default.yaml"))
    for workflow in corpus():
        for domain in workflow.domains:
            checked = check_text(workflow.source, domain=domain, rules=rules, repair=False)
            assert checked.valid, (workflow.name, domain, checked.findings)


def test_the_table_and_the_files_are_the_same_set():
    folder = Path(__file__).parents[2] / "grpo_aflow" / "learner" / "reference_workflows"
    assert {path.stem for path in folder.glob("*.txt")} == set(TABLE)
    assert all(set(preferred) <= set(domains) for domains, preferred in TABLE.values())


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_prefers_its_best_workflows_weakly(domain):
    shares = weights(domain, 0.2)
    assert math.fsum(shares.values()) == pytest.approx(1)
    preferred = [name for name, (_, domains) in TABLE.items() if domain in domains]
    assert math.fsum(shares[name] for name in preferred) == pytest.approx(0.2)
    assert BEST[domain] in preferred
    assert len(shares) >= 6
    assert best(domain).startswith("class Workflow:")


def test_all_six_datasets_are_shown_with_their_own_tasks_where_there_are_any():
    own = [Task(id=str(i), dataset="gsm8k", domain="math", problem=f"problem {i}", answers=("1",)) for i in range(3)]
    by_problem = warm_start_prompts(lambda task: [{"role": "user", "content": task.problem}], own)
    assert [domain for domain, _ in by_problem] == ["math"] * 4 + ["qa"] * 2 + ["code"] * 2
    assert [messages[0]["content"] for _, messages in by_problem[:3]] == ["problem 0", "problem 1", "problem 2"]
    assert len(warm_start_prompts(compact, own)) == 6  # alike prompts count once


def test_the_loss_is_on_the_completion_and_its_end_alone(tokenizer, prompts):
    settings = ReferenceWorkflows(**SETTINGS)
    batch = next(_batches(tokenizer, make_examples(prompts, settings), settings))
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
        loss = fine_tune(
            model, tokenizer, make_examples(prompts, settings), settings, lambda what, done, total: steps.append(done)
        )
        assert steps == list(range(1, 26))
        assert not model.training
        return loss, model.state_dict()

    loss, state = train()
    assert loss < 0.5 * math.log(len(tokenizer))  # a random model's loss is the logarithm of the vocabulary
    again, state_again = train()
    assert again == loss
    assert all(torch.equal(state[name], state_again[name]) for name in state)


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_steps", 0), ("batch_size", 0), ("learning_rate", 0.0), ("preference", 1.0), ("lora_rank", 0)],
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
