"""Files that survive a kill and a full disk: replaced whole, appended by whole lines, and read back.

A reader sees the old or the new text of a file, never a part of it; of a file of lines only the last can be torn, and
that one is left out when it is read again. What is read back is checked against a type, by pydantic, before it is used.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Container, Hashable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import msgspec

from grpo_aflow.run.faults import cannot_write
from grpo_aflow.types import UserError

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")
DELETE_LINE = "delete that line (what it held is done again) and resume"


def open_lines(path: Path) -> int:
    """A descriptor of `path` for `append`; a last line that a kill cut short is removed, or the next would join it."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    size = end = os.fstat(file).st_size
    while end and os.pread(file, 1, end - 1) != b"\n":
        end -= 1
    if end < size:
        os.ftruncate(file, end)
    return file


_ENCODER = msgspec.json.Encoder()  # a line holds thousands of numbers: the standard library takes nine times as long


def append(file: int, path: Path, line: bytes) -> None:
    """Write one line, newline included, to the descriptor `file` of `path`, which is open for appending.

    A disk that fills up takes a part of it: that part is cut off again, or the next line would be joined to it.
    Raises InfrastructureError.
    """
    size, written = os.fstat(file).st_size, 0
    try:
        while written < len(line):
            written += os.write(file, line[written:])
    except OSError as error:
        os.ftruncate(file, size)
        raise cannot_write(path, error) from error


def replace(path: Path, text: str) -> None:
    """Replace a file whole: a reader sees the old or the new text, never a part. Raises InfrastructureError."""
    with _replaced(path) as file:
        file.write(text.encode("utf-8"))


def drop_lines(path: Path, numbers: Container[int]) -> None:
    """Replace a file of lines by itself without these (counted from 0), nor a last one that was cut short.

    Raises InfrastructureError.
    """
    with path.open("rb") as old, _replaced(path) as file:
        file.writelines(line for number, line in enumerate(old) if number not in numbers and line.endswith(b"\n"))


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    """A new file that takes the place of `path` once it is whole."""
    new = path.with_name(path.name + ".new")
    try:
        with new.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):  # a disk that takes nothing does not remove anything, either
            new.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder that is filled in the block and gets its name at the end; one that fails leaves nothing behind."""
    new = folder.with_name(f".{folder.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(parents=True)
    try:
        yield new
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; a torn last line (a kill in the middle of a write) is left out.

    Raises UserError, naming file and line, for any other line that cannot be read.
    """
    for line, _ in numbered_lines(path):
        yield line


def numbered_lines(path: Path, remedy: str = DELETE_LINE) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line of a file of JSON objects, with the words for where it stands."""
    for raw, where in _whole_lines(path):
        try:
            yield _object(raw), where
        except ValueError as error:
            raise unreadable(where, error, remedy) from error


def typed_lines(path: Path, kind: type[T]) -> Iterator[tuple[T, bytes, str]]:
    """Each line of a file of JSON objects as a `kind`, its bytes, and the words for where it stands.

    Only the fields of the dataclass `kind` are built, so that a gigabyte of long lines is read in seconds and little
    memory. A torn last line is left out. Raises UserError for any other line that cannot be read.
    """
    decode = msgspec.json.Decoder(kind).decode
    for raw, where in _whole_lines(path):
        try:
            found = decode(raw)
        except msgspec.MsgspecError:  # the slower way says what is wrong, and reads halves of surrogate pairs
            try:
                found = as_type(kind, _object(raw))
            except ValueError as error:
                raise unreadable(where, error) from error
        yield found, raw, where


def _whole_lines(path: Path) -> Iterator[tuple[bytes, str]]:
    """Each line that ends, with the words for where it stands; none of a file that is not there."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                return
            yield raw, f"{path}, line {number},"


def read_object(path: Path, shape: type, remedy: str) -> dict[str, Any]:
    """A file's JSON object, which has the fields of the dataclass `shape` (and maybe more). Raises UserError."""
    try:
        found = _object(path.read_bytes())
        as_type(shape, found)
    except (OSError, ValueError) as error:
        raise unreadable(str(path), error, remedy) from error
    return found


def as_type(kind: type[T], data: Any) -> T:
    """Plain data as an object of the dataclass `kind`; ValueError says in one line what is wrong with it."""
    from pydantic import ValidationError

    try:
        return cast("T", _adapter(cast("Hashable", kind)).validate_python(data))
    except ValidationError as error:
        raise ValueError(_told(error)) from error


def unreadable(where: str, error: Exception, remedy: str = DELETE_LINE) -> UserError:
    """What to say of a file, or a line, that cannot be read."""
    return UserError(f"{where} cannot be read ({error}): {remedy}")


def _object(raw: bytes) -> dict[str, Any]:
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("it holds no object")
    return found


@cache
def _adapter(kind: Hashable) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(cast("type[Any]", kind))


def _told(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"it has no {name}"
    if first["type"] == "value_error":  # said by the type itself
        return str(first["ctx"]["error"])
    return f"{name}: {first['msg']}"


def json_line(line: Mapping[str, Any]) -> bytes:
    """A line of JSON, newline included; NaN and infinities as null."""
    try:
        return _ENCODER.encode(line) + b"\n"
    except (TypeError, UnicodeEncodeError):  # a key that is no text; half of a surrogate pair, which is escaped
        return json.dumps(finite(line)).encode() + b"\n"


def finite(value: Any) -> Any:
    """The same data with NaN and infinities as null, which is what JSON can say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value
