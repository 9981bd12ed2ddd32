"""Ledger and cache: what anything cost, and what a kill leaves behind."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.executor.cache import AnswerCache, request_key, sample_index
from grpo_aflow.executor.ledger import Ledger, Spend, read_costs
from grpo_aflow.executor.transport import Request
from grpo_aflow.types import CallContext, ChatReply, ChatStatus, Message, UserError


def who(**changed: object) -> CallContext:
    values = {
        "step": 2,
        "task_id": "t1",
        "dataset": "gsm8k",
        "member": 0,
        "operator": "custom",
        "ordinal": (0,),
        "domain": "math",
    }
    return CallContext(**(values | changed))  # type: ignore[arg-type]


def reply(usd: float) -> ChatReply:
    return ChatReply(status=ChatStatus.OK, text="x", prompt_tokens=10, completion_tokens=5, cost_usd=usd, latency_s=0.5)


def write(path: Path) -> Ledger:
    ledger = Ledger(path)
    ledger.ok(ledger.intent(b"a", who(), at_most_usd=1.0), reply(0.25))
    ledger.failed(ledger.intent(b"b", who(member=1), at_most_usd=1.0), "http_429", 0.1)
    ledger.ok(ledger.intent(b"b", who(member=1), at_most_usd=1.0), reply(0.5))
    ledger.unknown(ledger.intent(b"c", who(task_id="t2", dataset="squad2", step=3), at_most_usd=0.75), "timeout", 0.75)
    ledger.cached(b"a", who(operator="review", ordinal=(1,)))
    return ledger


def test_costs_by_anything(tmp_path: Path) -> None:
    write(tmp_path / "ledger.jsonl").close()
    costs = read_costs(tmp_path / "ledger.jsonl")
    paid = Spend(usd=0.75, prompt_tokens=20, completion_tokens=10, attempts=3, ok=2, cached=1)
    lost = Spend(at_most_usd=0.75, attempts=1)
    assert costs.total == paid + lost
    assert costs.by("step") == {2: paid, 3: lost}
    assert costs.by("dataset") == {"gsm8k": paid, "squad2": lost}
    assert costs.by("operator")["review"] == Spend(cached=1)
    assert costs.by("rollout")[2, "t1", 1] == Spend(usd=0.5, prompt_tokens=10, completion_tokens=5, attempts=2, ok=1)
    with pytest.raises(ValueError, match="operator"):
        costs.by("colour")


def test_a_kill_leaves_no_torn_line_and_closes_open_attempts_as_unknown(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = write(path)
    ledger.intent(b"d", who(), at_most_usd=0.1)
    ledger.close()
    with path.open("ab") as file:
        file.write(b'{"event":"intent","attempt":99,"ste')
    assert read_costs(path).total.at_most_usd == pytest.approx(0.85)
    Ledger(path).close()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[-1]["outcome"] == "unknown"
    assert lines[-1]["reason"] == "interrupted"
    assert read_costs(path).total.at_most_usd == pytest.approx(0.85)
    ledger = Ledger(path)
    assert ledger.intent(b"e", who(), at_most_usd=0.1) == 6
    ledger.close()


def test_an_answer_that_was_kept_closes_its_attempt_though_a_kill_took_its_line(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = write(path)
    ledger.intent(b"kept", who(), at_most_usd=0.1)
    ledger.intent(b"lost", who(), at_most_usd=0.2)
    ledger.close()
    Ledger(path, kept={b"kept": reply(0.03)}.get).close()
    assert read_costs(path).total == Spend(
        usd=0.78, at_most_usd=0.95, prompt_tokens=30, completion_tokens=15, attempts=6, ok=3, cached=1
    )


def test_an_edited_ledger_is_named(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text("not json\n")
    with pytest.raises(UserError, match="line 1"):
        read_costs(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (('"at_most_usd":1.0', '"at_most_usd":"x"'), "at_most_usd: Input should be a valid number"),
        (('"member":0,', ""), "it has no member"),
        (('"key":"61"', '"key":"?"'), "key: Input should be hexadecimal digits"),
        (('"event":"intent"', '"event":"x"'), "its event is none of intent, outcome, cached"),
    ],
)
def test_a_damaged_line_is_named_and_may_be_deleted(tmp_path: Path, change: tuple[str, str], reason: str) -> None:
    path = tmp_path / "ledger.jsonl"
    write(path).close()
    first, *rest = path.read_text().splitlines(keepends=True)
    assert change[0] in first
    path.write_text("".join([first.replace(*change), *rest]))
    with pytest.raises(UserError, match=rf"ledger.jsonl, line 1, cannot be read \({reason}.*\): .*delete that line"):
        Ledger(path)
    path.write_text("".join(rest))
    Ledger(path).close()
    assert read_costs(path).total == Spend(
        usd=0.5, at_most_usd=0.75, prompt_tokens=10, completion_tokens=5, attempts=3, ok=1, cached=1
    )


@given(st.text(max_size=60), st.sampled_from(["ok", "refused", "empty"]))
def test_the_cache_returns_what_was_put(text: str, status: str) -> None:
    cache = AnswerCache(Path(":memory:"))
    answer = ChatReply(
        status=ChatStatus(status), text=text, prompt_tokens=3, completion_tokens=4, cost_usd=0.1, error="e"
    )
    cache.put(b"k", answer)
    cache.put(b"k", ChatReply(status=ChatStatus.OK, text="later", prompt_tokens=0, completion_tokens=0, cost_usd=0))
    kept = cache.get(b"k")
    assert kept == replace(answer, text=text.encode("utf-8", "replace").decode(), cached=True)
    assert cache.get(b"other") is None


def test_the_cache_is_in_wal_mode_and_survives_closing(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache.sqlite")
    cache.put(b"k", ChatReply(status=ChatStatus.OK, text="a", prompt_tokens=1, completion_tokens=1, cost_usd=0.1))
    assert sqlite3.connect(tmp_path / "cache.sqlite").execute("PRAGMA journal_mode").fetchone() == ("wal",)
    cache.close()
    assert len(AnswerCache(tmp_path / "cache.sqlite", read_only=True)) == 1


def test_what_was_asked_lies_beside_the_answer(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "cache.sqlite")
    asked: list[Message] = [{"role": "user", "content": "1 + 1? \ud800"}]
    cache.put(b"k", reply(0.1), asked)
    cache.put(b"without", reply(0.1))
    assert cache.messages(b"k") == asked
    assert cache.messages(b"without") == ()
    cache.close()
    with sqlite3.connect(tmp_path / "cache.sqlite") as database:
        database.execute("DROP TABLE requests")  # as files were before
    old = AnswerCache(tmp_path / "cache.sqlite", read_only=True)
    assert not old.has_messages
    assert old.messages(b"k") == ()
    assert old.get(b"k") is not None


def test_a_file_that_is_no_cache_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(UserError, match="move the file away"):
        AnswerCache(tmp_path / "cache.sqlite")
    with pytest.raises(UserError, match="cache_folder"):
        AnswerCache(tmp_path / "missing" / "cache.sqlite", read_only=True)


def test_the_sample_index_tells_calls_apart() -> None:
    changed = [{}, {"step": 3}, {"task_id": "t2"}, {"member": 1}, {"ordinal": (1,)}, {"ordinal": (0, 1)}]
    indices = {sample_index(7, who(**c), 0.7) for c in changed} | {sample_index(8, who(), 0.7)}
    assert len(indices) == 7
    assert all(0 < index < 2**53 for index in indices)
    assert sample_index(7, who(operator="review"), 0.7) == sample_index(7, who(), 0.7)
    assert sample_index(7, who(), 0.0) == 0


def test_the_key_covers_provider_request_and_index() -> None:
    request = Request(model="m", messages=[{"role": "user", "content": "a\ud800"}], temperature=0.7, max_tokens=8)
    changed = [{"model": "n"}, {"temperature": 0.8}, {"max_tokens": 9}, {"messages": []}, {"extra": {"top_k": 1}}]
    keys = {
        request_key("p", request, 1),
        request_key("q", request, 1),
        request_key("p", request, 2),
        *(request_key("p", replace(request, **other), 1) for other in changed),  # type: ignore[arg-type]
    }
    assert len(keys) == 8
    assert request_key("p", replace(request, seed=1), 1) in keys  # the seed is the index, or not sent at all


def test_keys_of_recorded_runs_stay_what_they_are() -> None:
    request = Request(
        model="m",
        messages=[{"role": "system", "content": "You é"}, {"role": "user", "content": "2 + 2?"}],
        temperature=0.7,
        max_tokens=64,
        extra={"reasoning_effort": "low"},
    )
    assert request_key("http://h/v1", request, 5).hex() == "5263b6b6a7fa071cfe981a2b86760a52aef46642"
