"""Frames and tagged values: what goes in comes out, and rubbish is refused as such."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.sandbox.inside.containers import Codec
from grpo_aflow.sandbox.inside.wire import WireError, receive_frame, send_frame

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
HASHABLE = st.recursive(SCALARS, lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3), max_leaves=5)
VALUES = st.recursive(
    SCALARS | st.complex_numbers(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(HASHABLE, inner, max_size=3) | st.sets(HASHABLE, max_size=3)
    ),
    max_leaves=10,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["#", "tuple", "int", "range", "fraction", "decimal", "view", "numpy", "class", "object"]),
            inner,
            max_size=1,
        )
    ),
    max_leaves=8,
)


class PlainCodec(Codec):
    """One side that has no objects, only values and containers."""

    def refer(self, value: Any, encode: Callable[[Any], Any]) -> Any:
        raise AssertionError(f"nothing here is an object: {value!r}")

    def resolve(self, tag: str, body: Any) -> Any:
        raise WireError("no objects here")


def cross(value: Any, sender: Codec, receiver: Codec) -> Any:
    message = json.loads(json.dumps(sender.encode(lambda encode: {"value": encode(value)})))
    receiver.receive(message.get("containers"))
    return receiver.decode(message["value"])


@given(VALUES)
def test_values_survive_the_journey(value: Any) -> None:
    arrived = cross(value, PlainCodec(1), PlainCodec(2))
    assert arrived == value
    assert repr(arrived) == repr(value) or isinstance(value, (set, dict, list, frozenset))


@given(JSON, JSON)
def test_rubbish_is_refused_or_plain(form: Any, containers: Any) -> None:
    codec = PlainCodec(1)
    try:
        codec.receive(containers)
        codec.decode(form)
    except WireError:
        return


def test_both_sides_see_what_the_other_changed() -> None:
    ours, theirs = PlainCodec(1), PlainCodec(2)
    row: list[Any] = [1]
    table = {"rows": [row, row], "self": None}
    table["self"] = table
    copy = cross(table, ours, theirs)
    assert copy["self"] is copy
    assert copy["rows"][0] is copy["rows"][1]
    copy["rows"][0].append(2)
    assert cross(copy, theirs, ours) is table
    assert row == [1, 2]
    row.clear()
    cross(None, ours, theirs)  # nothing is mentioned: what changed goes along all the same
    assert copy["rows"] == [[], []]


def test_unchanged_containers_do_not_cross_again() -> None:
    ours, theirs = PlainCodec(1), PlainCodec(2)
    values = [{3, 1, 2}, {frozenset({9, 1, 8})}, [frozenset({9, 1})]]
    copy = cross(values, ours, theirs)
    assert "containers" not in theirs.encode(lambda encode: {})
    assert "containers" not in ours.encode(lambda encode: {})
    assert copy == values


def test_a_container_that_nobody_holds_is_forgotten() -> None:
    ours, theirs = PlainCodec(1), PlainCodec(2)
    copy = cross([[1]], ours, theirs)
    ours.drop_unused()
    ours.drop_unused()  # the inner list, once the outer one is gone
    theirs.drop_unused()
    assert len(list(ours.shared())) == 0
    assert len(list(theirs.shared())) == 2
    del copy


def test_a_container_keeps_its_kind() -> None:
    codec = PlainCodec(1)
    codec.receive([[2, "list", [1], None]])
    with pytest.raises(WireError):
        codec.receive([[2, "dict", [], None]])
    with pytest.raises(WireError):
        codec.receive([[4, "module", [], None]])


def test_depth_of_tuples_is_bounded() -> None:
    value: Any = ()
    form: Any = 1
    for _ in range(1000):
        value, form = (value,), {"tuple": [form]}
    with pytest.raises(WireError):
        PlainCodec(1).encode(lambda encode: {"value": encode(value)})
    with pytest.raises(WireError):
        PlainCodec(1).decode(form)


@pytest.mark.parametrize("raw", [b"", b"\0\0", struct.pack("!I", 10) + b"{}", struct.pack("!I", 2) + b"[]", struct.pack("!I", 1) + b"{", struct.pack("!I", 2**31), struct.pack("!I", 1) + b"\xff"])  # fmt: skip  # noqa: E501
def test_a_broken_frame_is_refused(raw: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(raw)
        ours.shutdown(socket.SHUT_WR)
        with pytest.raises(WireError):
            receive_frame(theirs, max_bytes=1000)


def test_a_frame_arrives() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_frame(ours, {"text": "é\ud800"})
        assert receive_frame(theirs, max_bytes=1000) == {"text": "é\ud800"}
