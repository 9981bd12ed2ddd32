"""Objectives: what a configuration refuses, what every option holds, and the formulas at points worked by hand."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import yaml
from learner_cases import OBJECTIVE, objective

from grpo_aflow.learner import objectives
from grpo_aflow.learner.objectives import (
    KL,
    Aggregation,
    Cispo,
    Correction,
    Dppo,
    OldLogprobs,
    Sapo,
    SequenceClip,
    Totals,
)
from grpo_aflow.learner.update.losses import correction_weight, kl_penalty, off_policy_mask, token_losses
from grpo_aflow.learner.update.surrogates import TokenBatch

CONF = Path(__file__).parents[2] / "conf"


def option(group, name):
    """An option with the options that it builds on, as Hydra merges them."""
    node = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    merged = {}
    for part in node.pop("defaults", ["_self_"]):
        merged |= node if part == "_self_" else option(group, part)
    return merged


OPTIONS = sorted(path.stem for path in (CONF / "objective").glob("*.yaml"))


def build(node):
    node = dict(node)
    kind = getattr(objectives, node.pop("_target_").rpartition(".")[2])
    enums = {"aggregation": Aggregation, "kl": KL, "correction": Correction, "old_logprobs": OldLogprobs}
    return kind(**{key: enums[key](value) if key in enums else value for key, value in node.items()})


def test_every_objective_of_the_issue_is_an_option():
    assert OPTIONS == ["bnpo", "cispo", "dapo", "dppo", "dr_grpo", "grpo", "gspo", "luspo", "sapo"]


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_holds_every_field_and_no_other(name):
    node = option("objective", name)
    made = build(node)
    assert set(node) - {"_target_"} == {field.name for field in dataclasses.fields(made)}
    made.check_sampling(top_p=0.95, top_k=50, max_staleness=3)  # the shipped defaults correct for both


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kl": KL.k3}, "kl=k3 and kl_coef=0.0 contradict"),
        ({"kl_coef": 0.1}, "kl=none and kl_coef=0.1 contradict"),
        ({"kl_coef": -1.0}, "at least 0; got -1.0"),
        ({"clip_low": 1.5}, "clip_low must be from 0 to 1.0; got 1.5"),
        ({"clip_high": math.inf}, "clip_high must be at least 0 and finite"),
        ({"dual_clip": 1.1}, "dual_clip must be above 1 \\+ clip_high = 1.2"),
        ({"correction_min": 3.0}, "below correction_max; got 3.0 and 2.0"),
        ({"zero_variance": "regularise"}, "zero_variance=regularise has nothing to apply"),
        ({"max_length": 0}, "max_length must be at least 1"),
        ({"old_logprobs": OldLogprobs.sampler, "correction": Correction.token_mask}, "same mismatch twice"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        objective(**changes)


def test_ratios_against_a_truncated_sampler_are_refused():
    sampler = objective(old_logprobs=OldLogprobs.sampler)
    sampler.check_sampling(top_p=1.0, top_k=0, max_staleness=3)
    for truncation in ({"top_p": 0.95, "top_k": 0}, {"top_p": 1.0, "top_k": 50}):
        with pytest.raises(ValueError, match="set objective.old_logprobs=learner"):
            sampler.check_sampling(**truncation, max_staleness=0)


def test_uncorrected_staleness_is_refused():
    objective().check_sampling(top_p=0.5, top_k=5, max_staleness=0)
    with pytest.raises(ValueError, match="objective.correction=token_truncate"):
        objective().check_sampling(top_p=1.0, top_k=0, max_staleness=1)


def test_denominators():
    totals = Totals(num_tokens=30, num_sequences=4, num_groups=2) + Totals(num_tokens=10, num_sequences=2, num_groups=1)
    found = {a: a.denominator(totals, max_length=8) for a in Aggregation}
    assert found == {
        Aggregation.token_mean: 40,
        Aggregation.group_token_mean: 3,
        Aggregation.sequence_mean: 6,
        Aggregation.sequence_sum: 6,
        Aggregation.constant_length: 48,
    }
    assert Aggregation.sequence_mean.weight(5, 20) == 0.2
    assert Aggregation.group_token_mean.weight(5, 20) == 0.05
    assert Aggregation.token_mean.weight(5, 20) == 1.0


def batch(logp, old=None, *, mismatch=None, advantages=(1.0,), reference=None):
    logp = torch.tensor(logp, dtype=torch.float64)
    given = [old if old is not None else logp, mismatch if mismatch is not None else torch.zeros_like(logp)]
    old, mismatch = (torch.as_tensor(x, dtype=torch.float64) for x in given)
    return TokenBatch(
        logprobs=logp.clone().requires_grad_(),
        old=old,
        log_mismatch=mismatch,
        reference=None if reference is None else torch.tensor(reference, dtype=torch.float64),
        entropy=torch.full_like(logp, 2.0),
        mask=torch.ones_like(logp),
        advantages=torch.tensor(advantages, dtype=torch.float64),
    )


REST = {k: v for k, v in OBJECTIVE.items() if k not in ("clip_low", "clip_high", "dual_clip")}
ALL = [
    objective(),
    SequenceClip(**OBJECTIVE),
    Cispo(**REST, clip_low=1.0, clip_high=4.0),
    Sapo(**REST, tau_positive=1.0, tau_negative=1.05),
    Dppo(**REST, clip_low=0.2, clip_high=0.2, ratio_max=20.0),
]


@pytest.mark.parametrize("each", ALL, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_gradient_at_ratio_one_is_minus_the_advantage(each, advantage):
    tokens = batch([[-1.0, -0.2, -3.0]], advantages=(advantage,))
    token_losses(each, tokens).total.sum().backward()
    torch.testing.assert_close(tokens.logprobs.grad, torch.full((1, 3), -advantage, dtype=torch.float64))


def test_clipping_stops_the_gradient_on_the_side_that_went_far_enough():
    # ratios 0.5, 1, 2 under A = 1: only 2 is clipped; under A = -1: only 0.5
    logp = [[math.log(0.5) - 1, -1.0, math.log(2) - 1]]
    for advantage, expected in ((1.0, [-0.5, -1.0, 0.0]), (-1.0, [0.0, 1.0, 2.0])):
        tokens = batch(logp, [[-1.0] * 3], advantages=(advantage,))
        losses = token_losses(objective(), tokens)
        losses.total.sum().backward()
        assert tokens.logprobs.grad[0].tolist() == pytest.approx(expected)
        assert losses.surrogate.clipped_high[0].tolist() == [False, False, advantage > 0]
        assert losses.surrogate.clipped_low[0].tolist() == [advantage < 0, False, False]


def test_dual_clip_bounds_the_loss_of_a_far_ratio():
    tokens = batch([[math.log(5) - 1]], [[-1.0]], advantages=(-1.0,))
    losses = token_losses(objective(dual_clip=3.0), tokens)
    losses.total.sum().backward()
    assert losses.total.item() == pytest.approx(3.0)
    assert tokens.logprobs.grad.item() == 0.0


def test_dppo_masks_by_the_change_of_probability():
    # p from .5 to .75 (masked for A > 0), from .001 to .004 (ratio 4, kept)
    logp, old = [[math.log(0.75), math.log(0.004)]], [[math.log(0.5), math.log(0.001)]]
    losses = token_losses(ALL[-1], batch(logp, old))
    assert losses.surrogate.clipped_high[0].tolist() == [True, False]
    assert losses.total[0].tolist() == pytest.approx([0.0, -4 * math.log(0.004)])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (Correction.none, [[1, 1, 1], [1, 1, 1]]),
        (Correction.token_truncate, [[2, 0.5, 1], [2, 0.1, 1]]),
        (Correction.token_mask, [[2, 0.5, 1], [0, 0, 1]]),
        (Correction.sequence_truncate, [[1] * 3, [0.2] * 3]),
        (Correction.sequence_mask, [[1] * 3, [0.2] * 3]),
        (Correction.geometric_truncate, [[1] * 3, [0.2 ** (1 / 3)] * 3]),
        (Correction.geometric_mask, [[1] * 3, [0.2 ** (1 / 3)] * 3]),
    ],
)
def test_corrections_by_hand(kind, expected):
    # rho: 2, 1/2, 1 in the first row; 4, 1/20, 1 in the second; bounds [0.1, 2]
    mismatch = [[math.log(2), math.log(0.5), 0.0], [math.log(4), math.log(0.05), 0.0]]
    tokens = batch([[-1.0] * 3] * 2, mismatch=mismatch, advantages=(1.0, 1.0))
    weight = correction_weight(tokens, kind, 0.1, 2.0)
    torch.testing.assert_close(weight, torch.tensor(expected, dtype=torch.float64))
    assert not weight.requires_grad


def test_a_token_outside_the_samplers_support_weighs_nothing():
    tokens = batch([[-1.0, -1.0]], mismatch=[[-math.inf, 0.0]])
    for kind in (Correction.token_truncate, Correction.token_mask):
        assert correction_weight(tokens, kind, 0.0, 2.0)[0].tolist() == [0.0, 1.0]
    assert correction_weight(tokens, Correction.sequence_truncate, 0.0, 2.0)[0].tolist() == [0.0, 0.0]


def test_off_policy_masks_beyond_the_threshold_and_below_zero_alone():
    tokens = batch([[-1.0, -1.0]] * 3, mismatch=[[-0.5, -0.5]] * 3, advantages=(-1.0, 0.0, 0.5))
    assert off_policy_mask(tokens, 0.5)[:, 0].tolist() == [1.0, 1.0, 1.0]  # the threshold itself is not beyond
    found = off_policy_mask(tokens, 0.25)
    assert found[:, 0].tolist() == [0.0, 1.0, 1.0]
    assert found.dtype == torch.float64


def test_masked_tokens_say_nothing_about_a_rows_drift():
    tokens = batch([[-1.0, -1.0]], mismatch=[[-0.1, -math.inf]], advantages=(-1.0,))
    tokens = dataclasses.replace(tokens, mask=torch.tensor([[1.0, 0.0]], dtype=torch.float64))
    assert off_policy_mask(tokens, 0.2).item() == 1.0
    assert off_policy_mask(tokens, 0.05).item() == 0.0


def test_off_policy_rows_are_masked_only_where_they_are_pushed_down():
    tokens = batch([[-1.0, -1.0]] * 3, mismatch=[[-0.5, -0.1]] * 2 + [[0.5, 0.1]], advantages=(-1.0, 1.0, -1.0))
    assert off_policy_mask(tokens, 0.2)[:, 0].tolist() == [0.0, 1.0, 1.0]
    assert off_policy_mask(tokens, 0.4)[:, 0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("kind", "value", "slope"),
    [
        (KL.none, 0.0, 0.0),
        (KL.k1, 0.5, 1.0),
        (KL.k2, 0.125, 0.5),
        (KL.k3, math.exp(-0.5) - 0.5, 1 - math.exp(-0.5)),
        (KL.k3_plus, math.exp(-0.5) - 0.5, 0.5),
        (KL.k3_corrected, math.exp(-0.5) - 0.5, (math.exp(-0.5) - 0.5) + (1 - math.exp(-0.5))),
    ],
)
def test_kl_by_hand(kind, value, slope):
    tokens = batch([[-1.0]], reference=[[-1.5]])
    found = kl_penalty(tokens, kind)
    assert found.item() == pytest.approx(value)
    if kind is not KL.none:
        found.sum().backward()
        assert tokens.logprobs.grad.item() == pytest.approx(slope)


def test_the_entropy_bonus_lowers_the_loss():
    plain, bonus = objective(), objective(entropy_coef=0.5)
    difference = token_losses(bonus, batch([[-1.0]])).total - token_losses(plain, batch([[-1.0]])).total
    assert difference.item() == pytest.approx(-1.0)  # 0.5 x entropy 2.0
