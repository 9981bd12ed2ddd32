"""The exact normaliser: micro-batch size, packing, order and split of the groups change neither loss nor gradient."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from learner_cases import assert_same_step, group, learner, normalised, objective, spec
from learner_cases import settings as learner_settings

from grpo_aflow.learner.objectives import KL, Aggregation, Correction, ZeroVariance
from grpo_aflow.learner.settings import Packing

pytestmark = pytest.mark.slow

GROUPS = (
    group(),
    group((3, 12, 12, 2), (0.2, 0.9, -1.3, 0.2), num_prompt=30, seed=1, temperature=1.0),
    group((8, 4), (-1.0, 1.0), num_prompt=1, seed=2),
)
RICH = {"kl": KL.k3_corrected, "kl_coef": 0.1, "entropy_coef": 0.05, "correction": Correction.sequence_truncate}

# 1e-6 in fp32; sums over a row's tokens, not means, are as many times larger and rounder.
TOLERANCE = dict.fromkeys(Aggregation, 1e-6) | {Aggregation.sequence_sum: 7e-6}


@pytest.fixture(scope="module")
def reference_steps(random_base):
    """The plain padded step, one row at a time, for each aggregation."""
    steps = {}
    for aggregation in Aggregation:
        plain = learner(
            random_base,
            objective_=objective(aggregation=aggregation, **RICH),
            settings_=learner_settings(packing=Packing.padded, micro_batch=1),
        )
        steps[aggregation] = normalised(plain, GROUPS)
    return steps


@pytest.mark.parametrize("aggregation", list(Aggregation))
@pytest.mark.parametrize(
    "changes",
    [
        {"packing": Packing.padded},
        {"packing": Packing.padded, "gradient_checkpointing": True},
        {},
        {"micro_batch": 1},
        {"micro_batch": 3},
        {"gradient_checkpointing": True, "micro_batch": 2},
        {"logits_chunk": 1000},
    ],
    ids=str,
)
def test_layout_and_micro_batch_change_nothing(random_base, reference_steps, aggregation, changes):
    ours = learner(
        random_base, objective_=objective(aggregation=aggregation, **RICH), settings_=learner_settings(**changes)
    )
    assert_same_step(normalised(ours, GROUPS), reference_steps[aggregation], TOLERANCE[aggregation])


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_order_of_groups_and_members_changes_nothing(random_base, reference_steps, aggregation):
    ours = learner(random_base, objective_=objective(aggregation=aggregation, **RICH))
    mixed = []
    for each in reversed(GROUPS):
        order = list(range(len(each.completions)))[::-1]
        mixed.append(
            type(each)(
                prompt_ids=each.prompt_ids,
                completions=tuple(each.completions[i] for i in order),
                advantages=tuple(each.advantages[i] for i in order),
                temperature=each.temperature,
            )
        )
    assert_same_step(normalised(ours, mixed), reference_steps[aggregation], TOLERANCE[aggregation])


@pytest.fixture(scope="module")
def pair(random_base):
    return (
        learner(random_base, settings_=learner_settings(packing=Packing.padded)),
        learner(random_base, settings_=learner_settings(micro_batch=3)),
    )


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=2, max_size=6),
    num_prompt=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_shared_prefix_equals_padded_on_any_shapes(pair, lengths, num_prompt, seed):
    advantages = [(-1.0) ** i * (1 + i / 7) for i in range(len(lengths))]
    each = group(lengths, advantages, num_prompt=num_prompt, seed=seed)
    if any(lengths):
        assert_same_step(normalised(pair[0], [each]), normalised(pair[1], [each]))


def test_zero_variance_and_masked_groups_cost_no_forward_and_change_nothing(random_base, monkeypatch):
    ours = learner(random_base, objective_=objective(**RICH))
    alone = normalised(ours, GROUPS[:1])
    calls = []
    layout = ours.policy.layout
    monkeypatch.setattr(ours.policy, "layout", lambda ids: (calls.append(ids), layout(ids))[1])
    for advantages in ((0.0, 0.0), (math.nan, math.nan), (math.nan, 0.0)):
        ours.backward(group((4, 5), advantages, seed=9))
    assert calls == []
    assert_same_step(normalised(ours, GROUPS[:1]), alone, tolerance=0)


@pytest.mark.parametrize("regulariser", [{"kl": KL.k3, "kl_coef": 0.1}, {"entropy_coef": 0.1}])
def test_a_group_without_a_signal_is_regularised_on_request(random_base, regulariser):
    """Its KL and entropy count as they do beside an advantage that is next to nothing, and so do its rows."""
    skipping = learner(random_base, objective_=objective(**regulariser))
    regularising = learner(random_base, objective_=objective(**regulariser, zero_variance=ZeroVariance.regularise))
    for each in (skipping, regularising):  # away from the reference, where KL has a gradient
        each.backward(GROUPS[0])
        each.step(1e-2)
    without, next_to_nothing = group((4, 5), (0.0, 0.0), seed=9), group((4, 5), (1e-30, 0.0), seed=9)
    asked = normalised(regularising, [GROUPS[0], without])
    assert_same_step(asked, normalised(skipping, [GROUPS[0], next_to_nothing]))
    with pytest.raises(AssertionError):
        assert_same_step(asked, normalised(skipping, [GROUPS[0], without]))
    masked = group((4, 5), (math.nan, math.nan), seed=9)
    assert_same_step(normalised(regularising, [GROUPS[0], masked]), normalised(skipping, [GROUPS[0]]))


def test_a_masked_row_is_neither_in_the_loss_nor_in_the_normaliser(random_base):
    ours = learner(random_base, objective_=objective(**RICH))
    whole = group((5, 6, 9), (1.0, math.nan, -1.0))
    kept = type(whole)(
        prompt_ids=whole.prompt_ids,
        completions=(whole.completions[0], whole.completions[2]),
        advantages=(1.0, -1.0),
        temperature=whole.temperature,
    )
    assert_same_step(normalised(ours, [whole]), normalised(ours, [kept]))


def test_a_truncated_completion_is_masked_on_request(random_base):
    from dataclasses import replace

    ours = learner(random_base, objective_=objective(mask_truncated=True))
    whole = group((5, 6, 9), (1.0, 0.5, -1.0))
    cut = replace(whole.completions[1], finish_reason="length")
    with_cut = replace(whole, completions=(whole.completions[0], cut, whole.completions[2]))
    masked = replace(whole, advantages=(1.0, math.nan, -1.0))
    assert_same_step(normalised(ours, [with_cut]), normalised(ours, [masked]))


def test_a_row_without_tokens_counts_as_a_sequence(random_base):
    ours = learner(random_base)
    loss, gradient = normalised(ours, [group((5, 9), (1.0, -1.0))])
    # B is 3 instead of 2; the rows' tokens are the same draws.
    longer = normalised(ours, [group((5, 9, 0), (1.0, -1.0, 0.5))])
    assert_same_step(longer, (loss * 2 / 3, gradient * 2 / 3))


def test_gradient_at_ratio_one_is_minus_advantage_times_the_score(random_base):
    """d loss = -(1/N) sum_i A_i sum_t d logp_t, with log-probs from transformers' own logits."""
    ours = learner(random_base, objective_=objective(aggregation=Aggregation.token_mean))
    each = group()
    _, gradient = normalised(ours, [each])
    total, num = 0.0, 0
    for row, advantage in zip(each.completions, each.advantages, strict=True):
        ids = torch.tensor([[*each.prompt_ids, *row.token_ids]])
        logits = ours.policy.model(input_ids=ids).logits[0, len(each.prompt_ids) - 1 : -1] / each.temperature
        chosen = torch.log_softmax(logits, dim=1).gather(1, torch.tensor(row.token_ids)[:, None])
        total = total - advantage * chosen.sum()
        num += len(row.token_ids)
    (total / num).backward()
    expected = torch.cat([parameter.grad.flatten() for parameter in ours.policy.parameters.values()])
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-5)


def test_accumulation_sets_the_micro_batch(random_base):
    assert learner_settings(micro_batch=16, accumulation=4).num_rows(16) == 4
    assert learner_settings(micro_batch=2, accumulation=4).num_rows(16) == 2
    assert learner_settings(micro_batch=16, accumulation=5).num_rows(16) == 4
    assert learner_settings(micro_batch=16, accumulation=50).num_rows(16) == 1
    ours = learner(random_base, settings_=learner_settings(accumulation=4), num_sequences=8)
    assert ours.policy.limits.rows == 2


def test_dropout_is_drawn_from_seed_step_and_group_alone(random_base):
    dropping = spec(dropout=0.3)
    first, again = (learner(random_base, lora=dropping) for _ in range(2))
    whole = normalised(first, GROUPS[:2])
    torch.rand(7)  # somebody else's draw in between
    assert_same_step(normalised(again, GROUPS[:2]), whole, tolerance=0)
    swapped = normalised(again, GROUPS[1::-1])
    assert not torch.allclose(swapped[1], whole[1], atol=1e-4)


def test_dropout_survives_recomputation_under_checkpointing(random_base):
    lora = spec(dropout=0.3)
    plain = learner(random_base, lora=lora, settings_=learner_settings(packing=Packing.padded))
    ckpt = learner(
        random_base, lora=lora, settings_=learner_settings(packing=Packing.padded, gradient_checkpointing=True)
    )
    assert_same_step(normalised(plain, GROUPS), normalised(ckpt, GROUPS))
