"""Frames between processes: length-prefixed JSON objects. The reader of a frame never trusts its writer.

What a frame says of Python values is the business of `values` (numbers, strings and their like, by value) and of
`containers` (which keep their identity).
"""

from __future__ import annotations

import json
import socket
import struct
from typing import Any

Frame = dict[str, Any]  # by no closer type: its writer may run generated code, so each reader checks what it takes
_HEADER = struct.Struct("!I")


class WireError(Exception):
    """The other side closed the connection, or sent something that is not a frame or not a value."""


def pack(message: Frame) -> bytes:
    """The frame of a message. Raises WireError when it holds what JSON cannot say."""
    try:
        body = json.dumps(message, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise WireError(f"not a message: {error}") from error
    return _HEADER.pack(len(body)) + body


def unpack(body: bytes) -> Frame:
    """The message of a frame's body. Raises WireError."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("the frame is not JSON") from error
    if not isinstance(message, dict):
        raise WireError("the frame is not an object")
    return message


def send_frame(channel: socket.socket, message: Frame) -> None:
    """Write one frame; blocks until the other side has taken it."""
    channel.sendall(pack(message))


def receive_frame(channel: socket.socket, *, max_bytes: int) -> Frame:
    """Read one frame. Raises WireError when it is too long, broken or never comes (TimeoutError: the socket's own)."""
    return unpack(receive_body(channel, max_bytes=max_bytes))


def receive_body(channel: socket.socket, *, max_bytes: int) -> bytes:
    """The bytes of one frame, without its header. Raises as `receive_frame` does."""
    (size,) = _HEADER.unpack(_receive(channel, _HEADER.size))
    if size > max_bytes:
        raise WireError(f"a frame of {size} bytes is over the limit of {max_bytes}")
    return _receive(channel, size)


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
