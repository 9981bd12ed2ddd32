"""From a `TrainingGroup` to the rows that take part in the loss, and what each of them counts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from grpo_aflow.learner.objectives import Aggregation, Totals
from grpo_aflow.learner.policy.rows import TokenRow, on_device
from grpo_aflow.types import TrainingGroup, UserError


def contributing_rows(group: TrainingGroup, *, mask_truncated: bool, max_length: int) -> list[TokenRow]:
    """The rows of a group that count: not masked (NaN), not cut off where the objective masks that.

    Raises UserError for a sequence that is longer than the model's context, or whose parts do not fit together.
    """
    _check(group, max_length)
    return [
        TokenRow(member=member, token_ids=completion.token_ids, logprobs=completion.logprobs, advantage=advantage)
        for member, (completion, advantage) in enumerate(zip(group.completions, group.advantages, strict=True))
        if not math.isnan(advantage) and not (mask_truncated and completion.finish_reason == "length")
    ]


def _check(group: TrainingGroup, max_length: int) -> None:
    if not group.prompt_ids:
        raise UserError(
            "a training group has an empty prompt: the first sampled token has nothing to be predicted from"
        )
    if len(group.completions) != len(group.advantages):
        raise UserError(f"{len(group.completions)} completions but {len(group.advantages)} advantages in a group")
    if not group.temperature > 0:
        raise UserError(f"log-probabilities need a sampling temperature above 0; got {group.temperature}")
    for member, (completion, advantage) in enumerate(zip(group.completions, group.advantages, strict=True)):
        length = len(group.prompt_ids) + len(completion.token_ids)
        if length > max_length:
            raise UserError(
                f"completion {member} with its prompt has {length} tokens, the model's context holds {max_length}: "
                "lower sampler.max_tokens or shorten the prompt"
            )
        if len(completion.logprobs) != len(completion.token_ids):
            raise UserError(
                f"completion {member} has {len(completion.token_ids)} tokens but {len(completion.logprobs)} log-probs"
            )
        if math.isinf(advantage):
            raise UserError(f"completion {member} has an infinite advantage")


def totals_of(rows: Sequence[TokenRow]) -> Totals:
    """What these rows of one group add to the step's normaliser; a row without tokens counts as a sequence."""
    return Totals(num_tokens=sum(len(row.token_ids) for row in rows), num_sequences=len(rows), num_groups=1)


def row_weights(rows: Sequence[TokenRow], aggregation: Aggregation, num_group_tokens: int, like: Tensor) -> Tensor:
    """The aggregation's factor of each row's summed loss: [B]."""
    weights = [Aggregation(aggregation).weight(len(row.token_ids), num_group_tokens) for row in rows]
    return on_device(weights, like.dtype, like.device)
