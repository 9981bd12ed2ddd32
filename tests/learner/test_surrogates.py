"""Which tokens a surrogate counts as cut: strictly beyond its bounds, and on the side of the advantage alone."""

import math

import pytest
import torch

from grpo_aflow.learner.update.surrogates import TokenBatch, clipped, clipped_weight, divergence_masked, soft_gate


def batch(ratios, advantage):
    """One row of tokens with these ratios; the old log-probability of each is 0."""
    logprobs = torch.tensor([[math.log(ratio) for ratio in ratios]], dtype=torch.float64)
    nothing = torch.zeros_like(logprobs)
    return TokenBatch(
        logprobs=logprobs,
        old=nothing,
        log_mismatch=nothing,
        reference=None,
        entropy=nothing,
        mask=torch.ones_like(logprobs),
        advantages=torch.tensor([advantage], dtype=torch.float64),
    )


RATIOS = [0.25, 0.5, 1.0, 2.0, 2.5]  # below, at, within, at and above the bounds 1 - 0.5 and 1 + 1
BELOW, ABOVE, NONE = [True, *[False] * 4], [*[False] * 4, True], [False] * 5


@pytest.mark.parametrize(
    ("advantage", "low", "high"), [(1.0, NONE, ABOVE), (0.5, NONE, ABOVE), (0.0, NONE, NONE), (-1.0, BELOW, NONE)]
)
def test_clipped(advantage, low, high):
    tokens = batch(RATIOS, advantage)
    found = clipped(tokens, torch.tensor([RATIOS], dtype=torch.float64), 0.5, 1.0, None)
    assert (found.clipped_low[0].tolist(), found.clipped_high[0].tolist()) == (low, high)


def test_a_clipped_weight_is_cut_whatever_the_advantage():
    found = clipped_weight(batch(RATIOS, 1.0), 0.5, 1.0)
    assert (found.clipped_low[0].tolist(), found.clipped_high[0].tolist()) == (BELOW, ABOVE)
    weights = [0.5, 0.5, 1.0, 2.0, 2.0]
    expected = [-weight * math.log(ratio) for weight, ratio in zip(weights, RATIOS, strict=True)]
    assert found.loss[0].tolist() == pytest.approx(expected)


def test_a_soft_gate_cuts_nothing():
    found = soft_gate(batch(RATIOS, 1.0), 1.0, 2.0)
    for cut in (found.clipped_low, found.clipped_high):
        assert (cut.dtype, cut[0].tolist()) == (torch.bool, NONE)


@pytest.mark.parametrize(("advantage", "low", "high"), [(1.0, 0, 1), (0.5, 0, 1), (0.0, 0, 0), (-1.0, 1, 0)])
def test_divergence_is_cut_strictly_beyond_its_bounds(advantage, low, high):
    # probabilities of 1 before: changes of -0.75, -0.5, 0, 1 and 1.5; bounds -0.5 and 1
    found = divergence_masked(batch(RATIOS, advantage), 0.5, 1.0, 20.0)
    assert found.clipped_low[0].tolist() == (BELOW if low else NONE)
    assert found.clipped_high[0].tolist() == (ABOVE if high else NONE)
