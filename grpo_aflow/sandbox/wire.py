"""What crosses between processes: length-prefixed JSON frames, and plain values tagged with their exact type.

The reader of a frame never trusts its writer. Only None, bool, int, float, complex, str, bytes, list, tuple, set,
frozenset and dict, and these classes, arrive as themselves (Counter, defaultdict and OrderedDict arrive as dict, numpy
scalars as Python numbers). Everything else, subclasses of these types included, stays where it is and arrives as an
opaque token, so no object of a candidate can answer a comparison that the test makes.
"""

from __future__ import annotations

import collections
import json
import socket
import struct
import sys
from collections.abc import Callable
from typing import Any

MAX_DEPTH = 64
_HEADER = struct.Struct("!I")
_SAFE_INT = 2**53
_MAPPINGS = (dict, collections.Counter, collections.defaultdict, collections.OrderedDict)
_SEQUENCES: dict[type, str] = {list: "list", tuple: "tuple", set: "set", frozenset: "frozenset"}
_BUILDERS: dict[str, Callable[[list[Any]], Any]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset}
_CLASSES: dict[str, type] = {
    kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict)
}


class WireError(Exception):
    """The other side closed the connection, or sent something that is not a frame."""


def send_frame(channel: socket.socket, message: dict[str, Any]) -> None:
    """Write one frame; blocks until the other side has taken it."""
    body = json.dumps(message, separators=(",", ":")).encode()
    channel.sendall(_HEADER.pack(len(body)) + body)


def receive_frame(channel: socket.socket, *, max_bytes: int) -> dict[str, Any]:
    """Read one frame. Raises WireError when it is too long, broken or never comes (TimeoutError: the socket's own)."""
    (size,) = _HEADER.unpack(_receive(channel, _HEADER.size))
    if size > max_bytes:
        raise WireError(f"a frame of {size} bytes is over the limit of {max_bytes}")
    try:
        message = json.loads(_receive(channel, size))
    except (ValueError, RecursionError) as error:
        raise WireError("the frame is not JSON") from error
    if not isinstance(message, dict):
        raise WireError("the frame is not an object")
    return message


def _receive(channel: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        try:
            part = channel.recv(min(size - len(parts), 1 << 20))
        except ConnectionError as error:
            raise WireError("the connection broke") from error
        if not part:
            raise WireError("the other side ended")
        parts += part
    return bytes(parts)


def encode(value: Any, keep: Callable[[Any], dict[str, Any]], depth: int = 0) -> Any:
    """A JSON form of `value`; `keep` describes what may not cross. Raises WireError when it is nested too deeply."""
    if depth > MAX_DEPTH:
        raise WireError("the value is nested too deeply")
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_SAFE_INT < value < _SAFE_INT else {"int": hex(value)}
    if kind is float:
        return {"float": value.hex()}
    if kind is complex:
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if kind is bytes:
        return {"bytes": value.hex()}
    if kind in _SEQUENCES:
        return {_SEQUENCES[kind]: [encode(item, keep, depth + 1) for item in value]}
    if kind in _MAPPINGS:
        return {"dict": [[encode(k, keep, depth + 1), encode(v, keep, depth + 1)] for k, v in value.items()]}
    if kind is type and any(value is known for known in _CLASSES.values()):
        return {"class": value.__name__}
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic) and type(value.item()) is not kind:
        return encode(value.item(), keep, depth + 1)
    return {"opaque": keep(value)}


def decode(form: Any, find: Callable[[dict[str, Any]], Any], depth: int = 0) -> Any:
    """The value of a JSON form; `find` makes something of an opaque one. Raises WireError on a form `encode` never
    makes."""
    if depth > MAX_DEPTH:
        raise WireError("the value is nested too deeply")
    if form is None or isinstance(form, (bool, str, int)):
        return form
    if not isinstance(form, dict) or len(form) != 1:
        raise WireError("not a tagged value")
    ((tag, body),) = form.items()
    try:
        if tag in _BUILDERS:
            return _BUILDERS[tag]([decode(item, find, depth + 1) for item in body])
        if tag == "dict":
            return {decode(k, find, depth + 1): decode(v, find, depth + 1) for k, v in body}
        return _decode_scalar(tag, body, find)
    except (TypeError, ValueError, AttributeError, OverflowError, LookupError) as error:
        raise WireError(f"not a value of type {tag[:20]}") from error


def _decode_scalar(tag: str, body: Any, find: Callable[[dict[str, Any]], Any]) -> Any:
    if tag == "float":
        return float.fromhex(body)
    if tag == "int":
        return int(body, 16)
    if tag == "complex":
        return complex(float.fromhex(body[0]), float.fromhex(body[1]))
    if tag == "bytes":
        return bytes.fromhex(body)
    if tag == "class" and body in _CLASSES:
        return _CLASSES[body]
    if tag == "opaque":
        return find(body)
    raise WireError("not a tagged value")
