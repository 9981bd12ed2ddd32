"""What a call costs: the dated price table of the settings, applied to one model.

`client` prices every received answer with it and reserves the worst case before each attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from grpo_aflow.executor.settings import EndpointSettings, PriceMode
from grpo_aflow.types import UserError

BYTES_PER_TOKEN = 3  # on the safe side: English has four and more
TOKENS_PER_MESSAGE = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Price:
    """USD per token; list prices, so a provider's discount for repeated prompts makes the true bill smaller."""

    input_usd: float
    output_usd: float

    def usd(self, prompt_tokens: int, completion_tokens: int) -> float:
        return prompt_tokens * self.input_usd + completion_tokens * self.output_usd


def price_of(settings: EndpointSettings, model: str) -> Price:
    """The table's price of `model`.

    Raises:
        UserError: the table does not know it.
    """
    if settings.price is PriceMode.free:
        return Price(input_usd=0.0, output_usd=0.0)
    for name in ("usd_per_million_input", "usd_per_million_output"):
        if model not in getattr(settings, name):
            known = ", ".join(sorted(getattr(settings, name))) or "none"
            raise UserError(
                f"no price for the model {model!r} in executor.{name} (known: {known}); add it, "
                "or set executor.price=free for a server of your own"
            )
    return Price(
        input_usd=settings.usd_per_million_input[model] / 1e6, output_usd=settings.usd_per_million_output[model] / 1e6
    )


def estimate_tokens(messages: Sequence[Mapping[str, Any]]) -> int:
    """An upper estimate of a prompt's tokens, for reservations."""
    return sum(TOKENS_PER_MESSAGE + len(m["content"].encode()) // BYTES_PER_TOKEN for m in messages)
