"""What an optimizer step reports of its mismatch correction."""

import math

import pytest
import torch
from learner_cases import objective

from grpo_aflow.learner.objectives import Correction, Totals
from grpo_aflow.learner.update.losses import token_losses
from grpo_aflow.learner.update.step_stats import StepSums
from grpo_aflow.learner.update.surrogates import TokenBatch


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (Correction.none, 0),
        (Correction.token_truncate, 2),
        (Correction.token_mask, 2),
        (Correction.sequence_truncate, 3),
        (Correction.sequence_mask, 3),
        (Correction.geometric_truncate, 0),
        (Correction.geometric_mask, 0),
    ],
)
def test_corrected_are_the_tokens_whose_weight_was_cut_at_its_own_level(kind, number):
    # rho: 2, 1/2, 1 in the first row; 4, 1/20, 1 in the second, 0.2 as a sequence, 0.58 a token; bounds [0.3, 2]
    mismatch = torch.tensor([[2.0, 0.5, 1.0], [4.0, 0.05, 1.0]], dtype=torch.float64).log()
    logprobs = torch.full((2, 3), -1.0, dtype=torch.float64)
    batch = TokenBatch(
        logprobs=logprobs,
        old=logprobs,
        log_mismatch=mismatch,
        reference=None,
        entropy=torch.zeros_like(logprobs),
        mask=torch.ones_like(logprobs),
        advantages=torch.ones(2, dtype=torch.float64),
    )
    chosen, sums = objective(correction=kind, correction_min=0.3), StepSums()
    sums.add(batch, token_losses(chosen, batch), torch.ones(2, dtype=torch.float64))
    totals = Totals(num_tokens=6, num_sequences=2, num_groups=1)
    assert math.isclose(sums.metrics(chosen, totals)["mismatch/corrected"], number / 6)
