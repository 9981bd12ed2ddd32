"""Frames and tagged values: what goes in comes out, and rubbish is refused as such."""

from __future__ import annotations

import collections
import json
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.sandbox.wire import WireError, decode, encode, receive_frame, send_frame

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
            st.sampled_from(["list", "dict", "int", "float", "set", "bytes", "complex", "opaque", "class"]),
            inner,
            max_size=1,
        )
    ),
    max_leaves=8,
)


def refuse(value: Any) -> Any:
    raise AssertionError(f"nothing here is opaque: {value!r}")


@given(VALUES)
def test_values_survive_the_journey(value: Any) -> None:
    arrived = decode(json.loads(json.dumps(encode(value, refuse))), refuse)
    assert arrived == value
    assert repr(arrived) == repr(value) or isinstance(value, (set, dict, list, frozenset))


@given(JSON)
def test_rubbish_is_refused_or_plain(form: Any) -> None:
    try:
        decode(form, lambda body: None)
    except WireError:
        return
    json.dumps(form)


@pytest.mark.parametrize(
    "value",
    [
        type("S", (str,), {})("x"),
        type("I", (int,), {})(1),
        type("L", (list,), {})(),
        type("D", (dict,), {})(),
        object(),
        (x for x in ()),
        range(3),
        type("int", (), {}),
    ],
)
def test_everything_else_stays_where_it_is(value: Any) -> None:
    assert encode(value, lambda found: {"index": 7}) == {"opaque": {"index": 7}}


def test_kinds_of_dict_become_dict() -> None:
    for value in (collections.Counter("a"), collections.defaultdict(int, a=1), collections.OrderedDict(a=1)):
        arrived = decode(encode(value, refuse), refuse)
        assert (type(arrived), arrived) == (dict, {"a": 1})


def test_depth_is_bounded() -> None:
    cyclic: list[Any] = []
    cyclic.append(cyclic)
    with pytest.raises(WireError):
        encode(cyclic, refuse)
    form: Any = 1
    for _ in range(100):
        form = {"list": [form]}
    with pytest.raises(WireError):
        decode(form, refuse)


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
