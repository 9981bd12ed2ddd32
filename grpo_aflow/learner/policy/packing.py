"""From one prompt and some of its completions to the hidden states that predict the completions' tokens.

Letters: B rows, T tokens of the longest completion, P prompt, H hidden size.

A layout opens one prompt for several micro-batches of rows. `hidden(rows)` gives [B, T, H], position t of which
predicts token t of the row (positions beyond a row's end mean nothing). `close()` runs the prompt's own backward. All
layouts give the same log-probabilities and gradients:

* `PaddedRows`: every row carries the prompt. The reference.
* `SharedPrefix`: the prompt's forward leaves its keys and values; rows attend to them (see `attention`), so that the
  prompt is computed once for all rows. Micro-batches add their gradients to keys and values, and `close()` carries the
  sums through the prompt: no graph is walked twice.

Both work under gradient checkpointing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from grpo_aflow.learner.policy.attention import Prefix
from grpo_aflow.learner.policy.rows import on_device
from grpo_aflow.types import UserError

TokenIds = Sequence[int]


class Layout(Protocol):
    """One prompt, open for micro-batches of its completions."""

    def hidden(self, rows: Sequence[TokenIds]) -> Tensor:
        """Hidden states [B, T, H] that predict the rows' tokens; T >= 1."""
        ...

    def close(self) -> None:
        """Carry what the micro-batches' backwards left through the prompt, where gradients are on."""
        ...


class PaddedRows:
    """Every row is prompt + completion, padded on the right to the micro-batch's longest."""

    def __init__(self, backbone: PreTrainedModel, prompt: TokenIds) -> None:
        self._backbone = backbone
        self._prompt = list(prompt)

    def hidden(self, rows: Sequence[TokenIds]) -> Tensor:
        width = max(map(len, rows))
        # The last token predicts nothing that is trained on. Padding stands behind every token, where causal
        # attention never looks.
        device = self._backbone.device
        ids = on_device([self._prompt + [*row, *[0] * (width - len(row))][:-1] for row in rows], torch.long, device)
        output = self._backbone(input_ids=ids, use_cache=False)
        return output.last_hidden_state[:, len(self._prompt) - 1 :]

    def close(self) -> None:
        pass


class SharedPrefix:
    """The prompt once, then every micro-batch of rows on its keys and values.

    The prompt's last token goes with the rows: its state predicts their first tokens. So the prompt's forward is needed
    for keys and values alone, and ends with those of the last layer.
    """

    def __init__(self, backbone: PreTrainedModel, prompt: TokenIds, *, whole_passes: bool = False) -> None:
        """whole_passes: forward and backward go through all of every layer, as ranks of a sharded base expect of each
        other (see `sharding`)."""
        self._backbone = backbone
        *before, self._last = prompt
        self._num_before = len(before)
        self._end: Tensor | None = None
        self._states: list[Tensor] = []  # keys, then values, [1, heads, P - 1, head size] of each layer
        if before:
            # A checkpointed layer is left by its end alone.
            ends_forward = not (backbone.is_gradient_checkpointing or whole_passes)
            reading = Prefix(backbone.config.num_hidden_layers, ends_forward=ends_forward)
            ids = on_device([before], torch.long, backbone.device)
            with reading.to_the_last_layer():
                output = backbone(input_ids=ids, use_cache=False, record=reading)
                self._end = output.last_hidden_state if whole_passes else None
            self._check(reading.is_whole)
            self._states = [*reading.keys, *reading.values]
        # The rows' graphs end here: their gradients gather in the leaves until `close`.
        self._leaves = [state.detach().requires_grad_(state.requires_grad) for state in self._states]

    def hidden(self, rows: Sequence[TokenIds]) -> Tensor:
        width, device = max(map(len, rows)), self._backbone.device
        ids = on_device([[self._last, *row[:-1], *[0] * (width - len(row))] for row in rows], torch.long, device)
        positions = torch.arange(self._num_before, self._num_before + width, device=device)[None]
        prefix = Prefix.of(self._leaves) if self._leaves else None
        output = self._backbone(input_ids=ids, position_ids=positions, use_cache=False, prefix=prefix)
        self._check(prefix is None or prefix.was_read)
        states: Tensor = output.last_hidden_state
        return states

    def close(self) -> None:
        pairs = [(s, leaf.grad) for s, leaf in zip(self._states, self._leaves, strict=True) if leaf.grad is not None]
        if pairs and self._end is not None:
            pairs.append((self._end, torch.zeros_like(self._end)))
        if pairs:
            torch.autograd.backward([s for s, _ in pairs], [g for _, g in pairs])

    def _check(self, seen_by_all_layers: bool) -> None:
        if not seen_by_all_layers:
            name = type(self._backbone).__name__
            raise UserError(f"{name} does not hand a shared prompt to all its layers: set learner.packing=padded")
