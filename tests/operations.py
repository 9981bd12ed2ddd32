"""Situations that operators of long runs meet, by kind: what is done, and what is to come of it.

The rows of a kind go through the same code up to the message, so all are played in one process, and one row of each
(IN_OWN_PROCESS) to the installed command as well. In arguments, RUN, MODEL and FOLDER are the row's own folders.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    kind: str
    name: str
    arguments: tuple[str, ...]
    says: str  # a part of the line
    code: int = 2
    script: str = "train"
    first: tuple[str, ...] = ()  # a training that is played before
    prepare: Callable[[Path], None] = lambda run: None  # damage to a copy of a finished run, or of a model folder
    environment: dict[str, str] = field(default_factory=dict)
    max_file_bytes: int | None = None  # a disk that takes no larger file
    owner: bool = True  # whether the user is the one whose folders these are
    changes: bool = False  # whether files of the folder may change


def write(name, content):
    return lambda run: (run / name).write_text(content)


def cut(name, share):
    def prepare(run):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(len(content) * share)])

    return prepare


def cut_at_a_line(name, share):
    def prepare(run):
        lines = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join(lines[: int(len(lines) * share)]))

    return prepare


def insert(name, line):
    def prepare(run):
        lines = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join([*lines[:2], line + "\n", *lines[2:]]))

    return prepare


def every_checkpoint(damage):
    def prepare(run):
        for folder in (run / "checkpoints").glob("step_*"):
            damage(folder)

    return prepare


def later_schema(run):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))


def edit(name, **changes):
    def prepare(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in {**content, **changes}.items() if v is not None}))

    return prepare


def template(text):
    def prepare(folder):
        edit("tokenizer_config.json", chat_template=text)(folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        if text is not None:
            (folder / "chat_template.jinja").write_text(text)

    return prepare
