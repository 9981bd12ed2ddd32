import errno
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from grpo_aflow.run.faults import as_os_error, known
from grpo_aflow.run.files import append, as_type, drop_lines, json_line, open_lines, read_object, replace, typed_lines
from grpo_aflow.types import InfrastructureError, UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    step: int
    scores: dict[str, list[float]]


@pytest.mark.parametrize("before", [b"", b"a\n", b"a\ntorn", b"torn", b"a\n\0\0\0"])
def test_lines_are_added_behind_the_last_whole_one(tmp_path, before):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(before)
    file = open_lines(path)
    append(file, path, b"b\n")
    os.close(file)
    assert path.read_bytes() == before[: before.rfind(b"\n") + 1] + b"b\n"


def test_an_object_is_read_with_all_that_stands_in_it(tmp_path):
    (tmp_path / "a.json").write_text('{"step": 1, "scores": {"t": [0, 1.0]}, "more": null}')
    assert read_object(tmp_path / "a.json", Shape, "x") == {"step": 1, "scores": {"t": [0, 1.0]}, "more": None}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Expecting value"),
        ("[]", "it holds no object"),
        ('{"step": 1}', "it has no scores"),
        ('{"step": "x", "scores": {}}', "step: Input should be a valid integer"),
        ('{"step": 1, "scores": {"t": [null]}}', "scores.t.0: Input should be a valid number"),
        ("\x80", "decode"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(tmp_path, text, reason):
    (tmp_path / "a.json").write_text(text, encoding="latin-1")
    with pytest.raises(UserError) as refused:
        read_object(tmp_path / "a.json", Shape, "delete it")
    told = str(refused.value)
    assert told.startswith(f"{tmp_path / 'a.json'} cannot be read (")
    assert reason in told
    assert told.endswith("): delete it")
    assert "\n" not in told


def test_a_type_is_built_of_plain_data():
    assert as_type(Shape, {"step": 2, "scores": {}, "other": 1}) == Shape(step=2, scores={})


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    step: int


def test_lines_are_read_as_a_type_and_a_torn_one_is_left_out(tmp_path):
    """A half of a surrogate pair is what a byte-level model may write; the fast decoder does not take it."""
    lines = [b'{"step": 1, "long": [1, 2, {"step": 9}]}\n', b'{"text": "\\ud800", "step": 2.0}\n', b'{"step": 3, "torn']
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"".join(lines))
    assert list(typed_lines(path, Step)) == [
        (Step(step=1), lines[0], f"{path}, line 1,"),
        (Step(step=2), lines[1], f"{path}, line 2,"),
    ]
    assert list(typed_lines(tmp_path / "none", Step)) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [("[1]", "it holds no object"), ("{}", "it has no step"), ('{"step": "x"}', "step: Input"), ("{", "Expecting")],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path, line, reason):
    path = tmp_path / "lines.jsonl"
    path.write_text(f'{{"step": 1}}\n{line}\n')
    with pytest.raises(UserError) as refused:
        list(typed_lines(path, Step))
    assert str(refused.value).startswith(f"{path}, line 2, cannot be read ({reason}")


@pytest.mark.parametrize(
    ("dropped", "kept"), [({0}, b"b\nc\n"), ({1, 2}, b"a\n"), ({9}, b"a\nb\nc\n"), ({0, 1, 2}, b"")]
)
def test_lines_are_dropped_with_a_torn_one(tmp_path, dropped, kept):
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"a\nb\nc\ntorn")
    drop_lines(path, dropped)
    assert path.read_bytes() == kept
    assert [file.name for file in tmp_path.iterdir()] == ["lines.jsonl"]


def test_a_full_disk_is_known_in_the_words_of_a_library_in_rust():
    error = Exception("I/O error: No space left on device (os error 28)")
    refused = as_os_error(error)
    assert refused is not None
    assert refused.errno == 28
    assert "make room on its disk" in str(known(error))
    assert as_os_error(ValueError("no such thing")) is known(ValueError("no such thing")) is None


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ((1, 2.5, -1e-7, 1e22), [1, 2.5, -1e-7, 1e22]),
        ([float("nan"), float("inf")], [None, None]),
        (2**70, 2**70),
        ("é\n\u2028", "é\n\u2028"),
        ("half of a pair: \ud800", "half of a pair: \ud800"),
        ({None: float("nan"), 1: "x"}, {"None": None, "1": "x"}),
    ],
)
def test_whatever_a_rollout_holds_becomes_one_line_that_reads_as_it_was(value, read):
    line = json_line({"a": value})
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"a": read}


def test_a_disk_that_turned_read_only_takes_nothing_and_removes_nothing(tmp_path, monkeypatch):
    def refuse(path, missing_ok=False):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(InfrastructureError, match=r"cannot write .*manifest\.json"):
        replace(tmp_path / "gone/manifest.json", "new")


def test_a_folder_that_cannot_be_copied_is_known_by_its_first_file(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model/weights").symlink_to("nowhere")
    with pytest.raises(shutil.Error) as copied:
        shutil.copytree(tmp_path / "model", tmp_path / "copy")
    assert str(known(copied.value)) == (
        f"cannot use {tmp_path / 'copy/weights'}: No such file or directory; it was moved or deleted; put it back"
    )
