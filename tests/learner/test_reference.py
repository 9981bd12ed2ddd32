"""A learner that begins from an adapter: version 0 is it, and so is the KL reference, whatever is learnt since."""

import json

import pytest
import torch
from learner_cases import group, learner, objective, spec
from peft import PeftModel
from transformers import AutoModelForCausalLM

from grpo_aflow.learner.objectives import KL
from grpo_aflow.learner.storage import checkpoint
from grpo_aflow.types import UserError

WITH_KL = {"kl": KL.k3, "kl_coef": 0.1}


@pytest.fixture
def start(random_base, tmp_path):
    """An adapter in PEFT's format that does something."""
    folder = tmp_path / "start"
    learner(random_base).save_adapter(folder)
    return folder


def begun(random_base, start, **options):
    return learner(random_base, objective_=objective(**WITH_KL), warm=False, start=start, **options)


def peft_logprobs(base, adapter, prompt, token_ids, temperature):
    model = AutoModelForCausalLM.from_pretrained(base)
    model = (model if adapter is None else PeftModel.from_pretrained(model, str(adapter))).eval()
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *token_ids]])).logits[0, len(prompt) - 1 : -1] / temperature
    return logits.log_softmax(dim=-1).gather(-1, torch.tensor(token_ids)[:, None])[:, 0].tolist()


def test_version_zero_and_the_reference_are_the_adapter_that_was_given(random_base, start):
    ours, one = begun(random_base, start), group()
    [first, *_] = one.completions
    expected = peft_logprobs(random_base, start, one.prompt_ids, first.token_ids, 0.8)
    assert ours.version == 0
    assert ours.reference_logprobs(one.prompt_ids, [first], 0.8)[0] == pytest.approx(expected, abs=1e-5)
    scored = ours.score((*one.prompt_ids, *first.token_ids))[-len(first.token_ids) :]
    assert scored == pytest.approx(peft_logprobs(random_base, start, one.prompt_ids, first.token_ids, 1.0), abs=1e-5)


def test_learning_moves_the_policy_and_leaves_reference_and_base_alone(random_base, start, tmp_path):
    ours, one = begun(random_base, start), group()
    sequence = (*one.prompt_ids, *one.completions[0].token_ids)
    before = ours.reference_logprobs(one.prompt_ids, one.completions, 1.0)
    base = ours.score(sequence, adapter=False)
    policy = ours.score(sequence)
    for _ in range(3):
        ours.backward(group())
        assert ours.step(1e-2)["update/made"] == 1.0
    assert ours.reference_logprobs(one.prompt_ids, one.completions, 1.0) == before
    assert ours.score(sequence, adapter=False) == base
    assert ours.score(sequence) != pytest.approx(policy, abs=1e-3)
    plain = peft_logprobs(random_base, None, sequence[:1], sequence[1:], 1.0)
    assert base == pytest.approx(plain, abs=1e-5)
    ours.save_adapter(tmp_path / "now")
    assert {path.name for path in (tmp_path / "now").iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors", "base_model.json", "README.md")
    }
    now = peft_logprobs(random_base, tmp_path / "now", sequence[:1], sequence[1:], 1.0)
    assert ours.score(sequence) == pytest.approx(now, abs=1e-5)


def test_the_first_step_has_no_divergence_from_the_start_and_later_ones_have(random_base, start):
    ours = begun(random_base, start)
    ours.backward(group())
    assert ours.step(1e-2)["loss/kl"] == pytest.approx(0.0, abs=1e-6)
    ours.backward(group())
    assert ours.step(1e-2)["loss/kl"] > 1e-4


def test_a_second_adapter_is_kept_only_where_the_objective_needs_it(random_base, start):
    assert set(begun(random_base, start).policy.model.peft_config) == {"default", "reference"}
    assert set(learner(random_base, start=start).policy.model.peft_config) == {"default"}
    trainable = {name for name, p in begun(random_base, start).policy.model.named_parameters() if p.requires_grad}
    assert trainable
    assert all(".default." in name for name in trainable)


def test_steps_after_a_checkpoint_are_those_without_it_to_the_bit(random_base, start, tmp_path):
    whole, half = begun(random_base, start), begun(random_base, start)
    for ours in (whole, half):
        ours.backward(group())
        ours.step(1e-2)
    checkpoint.save(tmp_path / "saved", half, {})
    resumed = begun(random_base, start)
    checkpoint.load(tmp_path / "saved", resumed)
    stats = []
    for ours in (whole, resumed):
        ours.backward(group(seed=4))
        stats.append(ours.step(1e-2)["loss/kl"])
    assert stats[0] == stats[1] > 0
    assert all(
        torch.equal(a, b)
        for a, b in zip(whole.policy.parameters.values(), resumed.policy.parameters.values(), strict=True)
    )


def test_a_checkpoint_of_another_start_is_refused(random_base, start, tmp_path):
    checkpoint.save(tmp_path / "saved", begun(random_base, start), {})
    for other in (None, tmp_path / "other"):
        if other is not None:
            learner(random_base, warm=False).save_adapter(other)
        with pytest.raises(UserError, match="was trained from another warm start than this run's"):
            checkpoint.load(tmp_path / "saved", learner(random_base, start=other))


def test_a_start_that_does_not_fit_or_cannot_be_read_is_named(random_base, start):
    with pytest.raises(UserError, match="the saved adapter does not fit"):
        learner(random_base, lora=spec(rank=2), start=start)
    weights = start / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"the adapter .*start cannot be read"):
        learner(random_base, start=start)


def test_the_base_bears_the_name_that_it_was_given(random_base, tmp_path):
    learner(random_base, base_name="org/model").save_adapter(tmp_path)
    described = json.loads((tmp_path / "adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "org/model"
