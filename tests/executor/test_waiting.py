"""Which of the waits that an endpoint's headers name is the one to wait for."""

from __future__ import annotations

import pytest

from grpo_aflow.executor.waiting import stated_wait_s

NOW = "Mon, 30 Nov 2026 17:40:30 GMT"


def windows(**of: tuple[str | None, str | None, str]) -> dict[str, str]:
    """Headers in OpenAI's form of (limit, remaining, reset) by window; None = not sent."""
    headers = {}
    for window, values in of.items():
        for name, value in zip(("limit", "remaining", "reset"), values, strict=True):
            if value is not None:
                headers[f"x-ratelimit-{name}-{window.replace('_', '-')}"] = value
    return headers


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        # the request needs more than is left of the window that is the fullest, whatever else resets later
        (windows(requests=("10000", "9999", "8.64s"), tokens=("30000", "312", "2.1s")), 2.1),
        (windows(requests=("10", "1", "50s"), tokens=("30000", "15000", "2.1s")), 50.0),
        # how full they are is not said of all: the shortest is tried first
        (windows(tokens_minute=(None, "117", "11.4"), requests_day=(None, "14211", "33011.4")), 11.4),
        (windows(requests=("14400", "14370", "2m59.56s"), tokens=(None, "17997", "7.66s")), 7.66),
        (windows(requests=(None, None, "9s"), tokens=(None, None, "3s")), 3.0),
        # of those that are used up all have to pass
        (windows(tokens_minute=("60000", "0", "11.4"), requests_day=("14400", "0", "33011.4")), 33011.4),
        (windows(tokens_minute=("60000", "0", "11.4"), requests_day=("14400", "14211", "33011.4")), 11.4),
        (windows(requests=("10", "-1", "9s"), tokens=("10", "1", "3s")), 9.0),
        # a window that has begun anew holds nothing back
        (windows(requests=(None, None, "0s"), tokens=(None, None, "3s")), 3.0),
        (windows(requests=("0", "1", "9s")), 9.0),
        (windows(), 0.0),
        ({"ratelimit": '"default";r=0;t=12', "ratelimit-policy": '"default";q=100;w=60'}, 12.0),
        (
            {"ratelimit": '"burst";r=50;t=12, "day";r=9;t=3600', "ratelimit-policy": '"burst";q=100, "day";q=1000'},
            3600.0,
        ),
        ({"ratelimit": '"burst";r=0;t=12, "day";r=9;t=3600'}, 12.0),
        ({"ratelimit": "limit=100, remaining=0, reset=12"}, 12.0),
        ({"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "12"}, 12.0),
        ({"ratelimitbysize-reset": "35", "x-ratelimitbysize-remaining-minute": "0"}, 35.0),
        (
            {
                "date": NOW,
                "anthropic-ratelimit-requests-remaining": "49",
                "anthropic-ratelimit-requests-reset": "2026-11-30T17:45:00Z",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-30T17:41:00Z",
            },
            30.0,
        ),
        # what it says outright goes before what can be concluded
        (windows(tokens=("60000", "0", "11.4")) | {"retry-after": "2"}, 2.0),
    ],
)
def test_the_window_that_is_waited_for(headers: dict[str, str], wait_s: float) -> None:
    assert stated_wait_s(headers, "{}", limited=True) == pytest.approx(wait_s)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        (windows(requests=("10000", "9999", "6ms"), tokens=("30000", "29000", "2s")), 0.0),
        (windows(requests=("10000", "9999", "6ms"), tokens=("30000", "0", "2s")), 2.0),
        (windows(requests=("10000", "9999", "6ms")) | {"retry-after": "3"}, 3.0),
    ],
)
def test_a_fault_waits_for_no_window_that_has_room(headers: dict[str, str], wait_s: float) -> None:
    """A server that tells the state of its windows with every answer may do so with a 500 as well."""
    assert stated_wait_s(headers, "{}", limited=False) == wait_s


@pytest.mark.parametrize(
    ("words", "wait_s"),
    [
        ("Out of call volume quota. Quota will be replenished in 5.03:23:11.", 5 * 86400 + 3 * 3600 + 23 * 60 + 11),
        ("Out of call volume quota. Quota will be replenished in 00:01:30.", 90),
        ("Quota will be replenished soon.", 0),
    ],
)
def test_a_quota_that_is_replenished(words: str, wait_s: float) -> None:
    """Azure API Management writes d.hh:mm:ss."""
    assert stated_wait_s({}, words, limited=True) == wait_s
