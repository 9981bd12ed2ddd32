"""The learner's steps, scores and state on a tiny random policy."""

import json
import math
import threading
from dataclasses import replace

import pytest
import torch
from learner_cases import completion, gradients, group, learner, objective, settings, spec
from torch.optim.optimizer import register_optimizer_step_pre_hook

from grpo_aflow.learner.learner import NonFiniteSteps
from grpo_aflow.learner.objectives import KL, Correction, OldLogprobs
from grpo_aflow.learner.settings import Packing
from grpo_aflow.types import UserError


def adapter(made):
    return torch.cat([p.detach().flatten().clone() for p in made.policy.parameters.values()])


def test_a_step_makes_a_version_and_moves_the_adapter_alone(random_base):
    ours = learner(random_base)
    before, base = adapter(ours), ours.score((1, 2, 3, 4), adapter=False)
    ours.backward(group())
    stats = ours.step(1e-3)
    assert (ours.version, stats["update/made"], stats["update/version"]) == (1, 1.0, 1.0)
    assert stats["update/num_tokens"] == 22
    assert not torch.equal(adapter(ours), before)
    assert ours.score((1, 2, 3, 4), adapter=False) == base
    assert all(isinstance(value, float) and math.isfinite(value) for value in stats.values())


def test_a_step_without_any_gradient_makes_no_version(random_base):
    ours = learner(random_base)
    before = adapter(ours)
    for groups in ([], [group((3, 4), (0.0, 0.0))], [group((0, 0), (1.0, -1.0))], [group((5,), (math.nan,))]):
        for each in groups:
            ours.backward(each)
        assert ours.step(1e-3)["update/made"] == 0.0
    assert ours.version == 0
    assert torch.equal(adapter(ours), before)


def test_a_group_of_one_trains_on_whatever_advantage_it_is_given(random_base):
    ours = learner(random_base)
    ours.backward(group((5,), (1.0,)))
    assert ours.step(1e-3)["update/made"] == 1.0


@pytest.mark.parametrize("calls", [(0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)])
def test_the_places_of_groups_decide_the_bits_and_the_order_of_calls_does_not(random_base, calls):
    groups = [group(seed=0), group((3, 12), (0.0, 0.0)), group((8, 4, 6), (-1.0, 1.0, 0.2), seed=2), group(seed=3)]

    def after(order):
        made = learner(random_base, lora=spec(dropout=0.1))
        for place in order:
            made.backward(groups[place], None, place)
        return made.step(1e-2), adapter(made)

    (one, straight), (other, mixed) = after((0, 1, 2, 3)), after(calls)
    assert torch.equal(straight, mixed)
    assert {k: v for k, v in one.items() if "time/" not in k} == {k: v for k, v in other.items() if "time/" not in k}


def test_a_place_is_taken_once_and_may_stay_empty(random_base):
    ours, dense = learner(random_base), learner(random_base)
    for place in (4, 2):  # 0, 1 and 3 never came
        ours.backward(group(seed=place), None, place)
    with pytest.raises(ValueError, match="place 2"):
        ours.backward(group(seed=2), None, 2)
    for place in (2, 4):
        dense.backward(group(seed=place))
    assert ours.step(1e-2)["update/num_groups"] == dense.step(1e-2)["update/num_groups"] == 2
    assert torch.equal(adapter(ours), adapter(dense))


def test_training_raises_the_likelihood_of_what_was_good(random_base):
    ours = learner(random_base, warm=False)
    each = group((6, 6), (1.0, -1.0), temperature=1.0)

    def likelihood(row):
        return sum(ours.score((*each.prompt_ids, *row.token_ids))[len(each.prompt_ids) - 1 :])

    before = [likelihood(row) for row in each.completions]
    for _ in range(5):
        ours.backward(each)
        ours.step(1e-2)
    after = [likelihood(row) for row in each.completions]
    assert after[0] > before[0] + 0.5
    assert after[1] < before[1] - 0.5


def test_the_gradient_is_clipped_to_its_norm(random_base):
    ours = learner(random_base, settings_=settings(max_grad_norm=1e-3, weight_decay=0.0))
    seen = []

    def look(*_):
        seen.append(float(torch.cat([p.grad.flatten() for p in ours.policy.parameters.values()]).norm()))

    ours.backward(group())
    hook = register_optimizer_step_pre_hook(look)
    norm = ours.step(1e-3)["update/grad_norm"]
    hook.remove()
    assert norm > 1e-3
    assert seen == pytest.approx([1e-3], rel=1e-5)


@pytest.mark.parametrize("packing", list(Packing))
def test_score_equals_transformers(random_base, packing):
    ours = learner(random_base, settings_=settings(packing=packing))
    ids = (5, 9, 2, 77, 31, 8)
    for on in (True, False):
        with torch.no_grad():
            if on:
                logits = ours.policy.model(input_ids=torch.tensor([ids])).logits[0]
            else:
                with ours.policy.model.disable_adapter():
                    logits = ours.policy.model(input_ids=torch.tensor([ids])).logits[0]
        expected = torch.log_softmax(logits[:-1], 1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        assert ours.score(ids, adapter=on) == pytest.approx(expected.tolist(), abs=1e-5)
    assert ours.score((3,)) == ()


def test_a_saved_adapter_is_loaded_by_plain_peft(random_base, tmp_path):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ours = learner(random_base)
    ours.save_adapter(tmp_path / "adapter")
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(random_base), tmp_path / "adapter").eval()
    ids = (5, 9, 2, 77, 31, 8)
    with torch.no_grad():
        logp = torch.log_softmax(plain(input_ids=torch.tensor([ids])).logits[0, :-1], 1)
    expected = logp.gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    assert ours.score(ids) == pytest.approx(expected.tolist(), abs=1e-5)
    assert ours.score(ids) != pytest.approx(ours.score(ids, adapter=False), abs=1e-3)


def test_a_fresh_adapter_is_drawn_from_the_seed_and_does_nothing_yet(random_base):
    torch.manual_seed(1)
    one = learner(random_base, warm=False)
    torch.manual_seed(2)
    other = learner(random_base, warm=False)
    assert torch.equal(adapter(one), adapter(other))
    assert one.score((1, 2, 3)) == pytest.approx(one.score((1, 2, 3), adapter=False), abs=1e-6)
    assert {p.dtype for p in one.policy.parameters.values()} == {torch.float32}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resume_is_exact_to_the_bit(random_base, dropout):
    def make():
        return learner(
            random_base, lora=spec(dropout=dropout), objective_=objective(kl=KL.k3, kl_coef=0.1), settings_=settings()
        )

    def train(made, steps):
        for step in steps:
            made.backward(group(seed=2 * step))
            made.backward(group(seed=2 * step + 1))
            stats = made.step(1e-3 * (step + 1))
        return {k: v for k, v in stats.items() if not k.startswith("time/")}

    whole = make()
    whole_stats = train(whole, range(4))
    half = make()
    train(half, range(2))
    resumed = make()
    resumed.load_state_dict(half.state_dict())
    assert train(resumed, range(2, 4)) == whole_stats
    assert torch.equal(adapter(resumed), adapter(whole))
    assert resumed.version == 4


def test_state_with_groups_pending_is_refused(random_base):
    ours = learner(random_base)
    ours.backward(group())
    with pytest.raises(RuntimeError, match="between steps"):
        ours.state_dict()
    ours.discard()
    ours.state_dict()


def test_reference_log_probs_may_be_computed_ahead(random_base):
    ours = learner(random_base, objective_=objective(kl=KL.k3, kl_coef=0.5))
    each = group((5, 0, 9), (1.0, -0.2, -0.8))
    ahead = ours.reference_logprobs(each.prompt_ids, each.completions, each.temperature)
    assert [len(row) for row in ahead] == [5, 0, 9]
    ours.backward(each, reference=ahead)
    given = gradients(ours)
    ours.discard()
    ours.backward(each)
    assert torch.equal(gradients(ours), given)
    stats = ours.step(0.0)
    assert stats["loss/kl"] > 0
    assert stats["loss/total"] == pytest.approx(stats["loss/policy"] + 0.5 * stats["loss/kl"])


def on_policy(ours, each):
    """The group with the log-probs that this very learner gives at its temperature."""
    found = ours.policy.evaluate(
        each.prompt_ids,
        [row.token_ids for row in each.completions],
        temperature=each.temperature,
        truncation=None,
    )
    rows = zip(each.completions, found, strict=True)
    return replace(each, completions=tuple(replace(row, logprobs=tuple(s.logprobs.tolist())) for row, s in rows))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_mismatch_is_zero_when_sampler_and_learner_agree(random_base, dropout):
    ours = learner(random_base, lora=spec(dropout=dropout))
    ours.backward(on_policy(ours, group()))
    stats = ours.step(1e-3)
    assert stats["mismatch/max_abs_logp"] < 1e-5  # in eval mode, also where the forward has dropout
    assert stats["mismatch/ess"] == pytest.approx(1.0, abs=1e-5)
    assert stats["mismatch/kl_k3"] == pytest.approx(0.0, abs=1e-9)


def test_mismatch_metrics_by_hand(random_base):
    ours = learner(random_base, objective_=objective(correction=Correction.token_truncate, correction_max=1.2))
    each = on_policy(ours, group((2, 1), (1.0, -1.0)))
    first, second = each.completions
    shifted = (
        replace(first, logprobs=(first.logprobs[0] - 0.5, first.logprobs[1])),
        replace(second, logprobs=(second.logprobs[0] + 0.25,)),
    )
    ours.backward(replace(each, completions=shifted))
    stats = ours.step(1e-3)
    rho = [math.exp(0.5), 1.0, math.exp(-0.25)]
    assert stats["mismatch/max_abs_logp"] == pytest.approx(0.5, abs=1e-5)
    assert stats["mismatch/mean_abs_logp"] == pytest.approx(0.25, abs=1e-5)
    assert stats["mismatch/kl_k3"] == pytest.approx(sum(r - 1 - math.log(r) for r in rho) / 3, abs=1e-5)
    assert stats["mismatch/ess"] == pytest.approx(sum(rho) ** 2 / (3 * sum(r * r for r in rho)), abs=1e-5)
    assert stats["mismatch/corrected"] == pytest.approx(1 / 3)


def test_a_truncated_sampler_is_compared_over_its_support(random_base):
    """Log-probs renormalised over the top 10 agree with the learner's over the same support, not over all tokens."""
    ours = learner(random_base)
    each = group((1, 1, 1), (1.0, -1.0, 0.5), temperature=1.0)
    with torch.no_grad():
        logits = ours.policy.model(input_ids=torch.tensor([each.prompt_ids])).logits[0, -1]
    top = torch.topk(logits, 10)
    renormalised = torch.log_softmax(top.values, 0)
    rows = tuple(completion([int(top.indices[i])], logprobs=[float(renormalised[i])]) for i in (0, 4, 9))
    outside = completion([int(logits.argmin())], logprobs=[-1.0])
    ours.backward(replace(each, completions=rows, top_k=10))
    assert ours.step(0.0)["mismatch/max_abs_logp"] < 1e-5
    ours.backward(replace(each, completions=rows))
    assert ours.step(0.0)["mismatch/max_abs_logp"] > 0.5
    ours.backward(replace(each, completions=(rows[0], rows[1], outside), top_k=10))
    stats = ours.step(0.0)
    assert stats["mismatch/out_of_support"] == pytest.approx(1 / 3)
    assert stats["mismatch/max_abs_logp"] < 1e-5


def test_old_log_probs_of_the_sampler_give_ratios_and_clip_shares(random_base):
    ours = learner(random_base, objective_=objective(old_logprobs=OldLogprobs.sampler))
    each = on_policy(ours, group((2, 2), (1.0, -1.0)))
    # ratios exp(0.5): the row with A > 0 is clipped high, the other one is not clipped from above
    rows = tuple(replace(row, logprobs=tuple(lp - 0.5 for lp in row.logprobs)) for row in each.completions)
    ours.backward(replace(each, completions=rows))
    stats = ours.step(0.0)
    assert stats["policy/clipped_high"] == pytest.approx(0.5)
    assert stats["policy/clipped_low"] == 0.0
    assert stats["loss/policy"] == pytest.approx((-1.2 + math.exp(0.5)) / 2, abs=1e-5)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_refused_and_dumped(random_base, tmp_path, value):
    ours = learner(random_base, objective_=objective(correction=Correction.token_truncate), dump_dir=tmp_path / "dump")
    before = adapter(ours)
    bad = group((2, 3), (1.0, -1.0))
    if math.isnan(value):
        bad = replace(bad, completions=(completion((1, 2), logprob=math.nan), bad.completions[1]))
    else:
        ours.policy._head.data[0, 0], kept = value, float(ours.policy._head[0, 0])
    ours.backward(bad)
    stats = ours.step(1e-3)
    assert (stats["update/refused"], stats["update/made"], ours.version) == (1.0, 0.0, 0)
    assert torch.equal(adapter(ours), before)
    [dump] = (tmp_path / "dump").iterdir()
    assert json.loads(dump.read_text())["groups"][0]["advantages"] == [1.0, -1.0]
    ours.backward(bad)
    with pytest.raises(NonFiniteSteps, match=r"2 steps in a row .*/nonfinite_v0_\d+\.json; lower schedule"):
        ours.step(1e-3)
    if math.isinf(value):
        ours.policy._head.data[0, 0] = kept
    ours.backward(group())
    assert ours.step(1e-3)["update/made"] == 1.0
    assert ours.state_dict()["refused_in_a_row"] == 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_ids": (1,) * 250}, "259 tokens, the model's context holds 256"),
        ({"prompt_ids": ()}, "empty prompt"),
        ({"advantages": (1.0,)}, "4 completions but 1 advantages"),
        ({"advantages": (math.inf, 0.0, 0.0, 0.0)}, "infinite advantage"),
        ({"temperature": 0.0}, "temperature above 0"),
        ({"completions": (completion((1, 2), logprobs=(-1.0,)),) * 4}, "2 tokens but 1 log-probs"),
    ],
)
def test_malformed_groups_are_refused_in_one_line(random_base, changes, message):
    ours = learner(random_base)
    with pytest.raises(UserError, match=message) as caught:
        ours.backward(replace(group(), **changes))
    assert "\n" not in str(caught.value)
    assert ours.step(1e-3)["update/made"] == 0.0


def test_malformed_folders_are_refused(random_base, tmp_path):
    with pytest.raises(UserError, match=r"no config\.json"):
        learner(tmp_path)
    with pytest.raises(UserError, match="model.dtype must be one of"):
        learner(random_base, dtype="int8")
    with pytest.raises(UserError, match="lora.target_modules: the model has no linear layer nonsense"):
        learner(random_base, lora=spec(target_modules=["nonsense"]))
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="model.device=cpu"):
            learner(random_base, device="cuda")


def test_a_score_beyond_the_context_is_refused(random_base):
    with pytest.raises(UserError, match="300 tokens to score"):
        learner(random_base).score((1,) * 300)


def test_another_shape_of_adapter_is_refused(random_base):
    with pytest.raises(UserError, match=r"\(8, 128\) there and \(4, 128\) here"):
        learner(random_base).load_state_dict(learner(random_base, lora=spec(rank=8)).state_dict())


def test_a_worker_thread_computes_the_same_and_leaves_the_random_state_alone(random_base):
    ours = learner(random_base, lora=spec(dropout=0.3), objective_=objective(kl=KL.k3, kl_coef=0.1))
    ours.backward(group())
    expected = gradients(ours)
    ours.discard()
    state = torch.get_rng_state()
    with torch.no_grad():  # the caller's own mode
        thread = threading.Thread(target=ours.backward, args=(group(),))
        thread.start()
        thread.join()
    assert torch.equal(gradients(ours), expected)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("lm_head_fp32", [False, True])
def test_half_precision_bases_train_fp32_adapters(random_base, dtype, lm_head_fp32):
    exact, half = learner(random_base), learner(random_base, dtype=dtype, settings_=settings(lm_head_fp32=lm_head_fp32))
    for made in (exact, half):
        made.backward(group())
    ours, theirs = gradients(half) / half._optimizer.scale.value, gradients(exact)
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.99
    assert half.step(1e-3)["update/made"] == 1.0
    assert {p.dtype for p in half.policy.parameters.values()} == {torch.float32}


def test_fp16_overflow_lowers_the_loss_scale_without_ending_the_run(random_base):
    ours = learner(random_base, dtype="float16")
    ours._optimizer.scale.value = 2.0**20
    refused = 0
    for _ in range(16):
        ours.backward(group())
        refused += ours.step(1e-4)["update/refused"]
    assert refused > 2
    assert ours.version == 16 - refused > 0
    assert ours._optimizer.scale.value < 2.0**20
