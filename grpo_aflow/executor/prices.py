"""What a call costs: the settings' own prices, else the list prices that the `genai-prices` package keeps up to date.

`price_of` is the one source of prices. `sending` prices every received answer with it (where the endpoint does not say
itself what it cost) and reserves the worst case before each attempt.
"""

from __future__ import annotations

from collections.abc import Sequence

from grpo_aflow.executor.settings import EndpointSettings, PriceMode
from grpo_aflow.types import Message, Price, UserError

BYTES_PER_TOKEN = 3  # on the safe side: English has four and more
TOKENS_PER_MESSAGE = 8


def price_of(settings: EndpointSettings, model: str) -> Price:
    """`known_price`, where there must be one.

    Raises:
        UserError: nobody knows it.
    """
    price = known_price(settings, model)
    if price is None:
        name = model.replace(":", r"\:")  # as Hydra's grammar wants it in a dict
        raise UserError(
            f"no price for the model {model!r}; give one with '+executor.usd_per_million_input={{{name}: <USD>}}' and "
            f"'+executor.usd_per_million_output={{{name}: <USD>}}' (per million tokens), or set executor.price=free "
            "for a server of your own"
        )
    return price


def known_price(settings: EndpointSettings, model: str) -> Price | None:
    """The price of `model`: 0 where the settings say so, theirs where they name it, else the provider's list price.

    None where nobody knows it.
    """
    if settings.price is PriceMode.free:
        return Price(input_usd=0.0, output_usd=0.0)
    per_input = settings.usd_per_million_input.get(model)
    per_output = settings.usd_per_million_output.get(model)
    if per_input is None or per_output is None:
        listed = _list_price(model, settings.base_url)
        if listed is None:
            return None
        per_input = listed[0] if per_input is None else per_input
        per_output = listed[1] if per_output is None else per_output
    return Price(input_usd=per_input / 1e6, output_usd=per_output / 1e6)


def _list_price(model: str, base_url: str | None) -> tuple[float, float] | None:
    """USD per million tokens of input and of output today, at the provider that `base_url` belongs to, else anywhere.

    A price that rises with the length of the prompt is taken at its lowest step.
    """
    from genai_prices import Usage, calc_price

    usage = Usage(input_tokens=1000, output_tokens=1000)
    for provider in (base_url, None) if base_url else (None,):
        try:
            found = calc_price(usage, model_ref=model, provider_api_url=provider)
        except LookupError:
            continue
        return float(found.input_price) * 1000, float(found.output_price) * 1000
    return None


def estimate_tokens(messages: Sequence[Message]) -> int:
    """An upper estimate of a prompt's tokens, for reservations and where the endpoint does not count."""
    return sum(TOKENS_PER_MESSAGE + estimate_text_tokens(m["content"]) for m in messages)


def estimate_text_tokens(text: str) -> int:
    """An upper estimate of a text's tokens."""
    return -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN)
