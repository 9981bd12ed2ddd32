"""Rows of dataset files, with the place each one came from, so that a refusal can name file, row and fix.

The first step of loading: a file (jsonl, jsonl.gz, json, parquet) becomes `DataRow`s; a dataset's module turns each
into a `types.Task`.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow.types import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class DataRow:
    """One record of a dataset and where it stands, for example "data/gsm8k/test.jsonl, row 17"."""

    place: str
    values: Mapping[str, object]
    schema: str = ""  # the columns that were expected, for the text of a refusal

    def has(self, column: str) -> bool:
        return self.values.get(column) is not None

    def text(self, column: str, *, may_be_empty: bool = False) -> str:
        """The text in `column`; integers are accepted as text (ids). Raises UserError when missing or empty."""
        value = self._value(column)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise self.refusal(f"column {column!r} must hold text, not {type(value).__name__}")
        if not value.strip() and not may_be_empty:
            raise self.refusal(f"column {column!r} is empty")
        return self._checked(column, value)

    def texts(self, column: str) -> tuple[str, ...]:
        """The list of texts in `column`, which may be empty."""
        value = self._value(column)
        if not isinstance(value, list | tuple):
            raise self.refusal(f'column {column!r} must hold a list of texts such as ["..."], not {_kind(value)}')
        for number, item in enumerate(value, start=1):
            if not isinstance(item, str):
                raise self.refusal(
                    f"column {column!r} must hold a list of texts; entry {number} is {_kind(item)}: put it in quotes"
                )
        return tuple(self._checked(column, item) for item in value)

    def records(self, column: str, *, schema: str) -> list[DataRow]:
        """The list of objects in `column`, which may be empty, each as a row with these columns."""
        value = self._value(column)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self.refusal(f"column {column!r} must hold a list of objects, not {_kind(value)}")
        return [
            DataRow(place=f"{self.place}, {column} {number}", values=item, schema=schema)
            for number, item in enumerate(value, start=1)
        ]

    def _checked(self, column: str, text: str) -> str:
        """Text that every later step can take: no NUL, and nothing that UTF-8 cannot say."""
        if "\0" in text:
            raise self.refusal(f"column {column!r} holds a NUL character")
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.refusal(f"column {column!r} holds half of a surrogate pair")
        return text

    def _value(self, column: str) -> object:
        if column not in self.values or self.values[column] is None:
            raise self.refusal(f"column {column!r} is missing")
        return self.values[column]

    def refusal(self, what: str) -> UserError:
        """The error for this row: file, row, what is wrong, and the fix."""
        expected = f"; expected the columns {self.schema}" if self.schema else ""
        return UserError(f"{self.place}: {what}{expected}; fix the row or point `source` at a whole copy")


def _kind(value: object) -> str:
    """What a JSON value is called, for the text of a refusal."""
    names = {
        str: "one text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a {type(value).__name__}")


def read_rows(path: Path, schema: str = "") -> Iterator[DataRow]:
    """Yields the rows of one file by its suffix: .jsonl, .jsonl.gz, .json (a list, or {"data": [...]}), .parquet."""
    try:
        if path.suffix == ".parquet":
            records = _parquet_records(path)
        elif path.suffix == ".json":
            records = _json_records(path)
        elif path.name.endswith((".jsonl", ".jsonl.gz")):
            records = _jsonl_records(path)
        else:
            raise UserError(f"{path}: unknown kind of file; use .jsonl, .jsonl.gz, .json or .parquet")
        for number, record in records:
            if not isinstance(record, dict):
                raise UserError(f"{path}, row {number}: not an object; each row must be one JSON object")
            yield DataRow(place=f"{path}, row {number}", values=record, schema=schema)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no UTF-8 ({error}); save it in that encoding") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}); download or copy the file again") from error


def _jsonl_records(path: Path) -> Iterator[tuple[int, object]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{path}, row {number}: not valid JSON ({error}); the file may be cut off, copy it again"
                ) from error


def _json_records(path: Path) -> Iterator[tuple[int, object]]:
    text = path.read_text(encoding="utf-8-sig")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); the file may be cut off, copy it again") from error
    records = document.get("data") if isinstance(document, dict) else document
    if not isinstance(records, list):
        raise UserError(f'{path}: holds no rows; a .json file must be a list or {{"data": [...]}}')
    yield from enumerate(records, start=1)


def _parquet_records(path: Path) -> Iterator[tuple[int, object]]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except pyarrow.ArrowException as error:
        first_line = str(error).splitlines()[0]
        raise UserError(f"{path}: not a whole parquet file ({first_line}); download it again") from error
    yield from enumerate(table.to_pylist(), start=1)
