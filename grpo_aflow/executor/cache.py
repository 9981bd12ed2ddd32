"""The executor's cache: every received answer, content-addressed, in one SQLite file in WAL mode.

Beside each answer lies what was asked, for people: the report shows it, no call is ever answered by it.

`client` asks it before each request, and `sending` writes each answer before anyone sees it, so a run that is killed
and started again pays for no answer twice. Commits reach the operating system at once: they survive the end of the
process, while a power cut may cost the last ones.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from grpo_aflow.executor.transport import Request
from grpo_aflow.types import CallContext, ChatReply, ChatStatus, InfrastructureError, Message, UserError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, status TEXT NOT NULL, text TEXT NOT NULL, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, usd REAL NOT NULL, error TEXT NOT NULL,
    thinking TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sources (provider TEXT, model TEXT, PRIMARY KEY (provider, model)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS requests (key BLOB PRIMARY KEY, messages BLOB NOT NULL);
"""
_COLUMNS = "status, text, prompt_tokens, completion_tokens, usd, error, thinking"
_CANONICAL = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def sample_index(seed: int, context: CallContext, temperature: float) -> int:
    """Which of a request's possible answers this call is: a hash of (seed, step, task, member, ordinal).

    At temperature 0 there is only one: 0. A resumed rollout has the same index and finds its answer, a new one never
    does, and ensemble members differ. It is below 2**53 so that it survives any JSON parser.
    """
    if temperature <= 0:
        return 0
    identity = json.dumps([seed, context.step, context.task_id, context.member, list(context.ordinal)])
    digest = hashlib.blake2b(identity.encode(), digest_size=8).digest()
    return 1 + int.from_bytes(digest, "big") % (2**53 - 1)


def request_key(provider: str, request: Request, index: int) -> bytes:
    """The content address of a call: provider, sample index, and the request without its seed, which is the index."""
    content = _CANONICAL.encode([provider, index, replace(request, seed=None).body()])
    return hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=20).digest()


class AnswerCache:
    """Received answers by key. One connection, used from the event loop's thread only."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        if read_only and not path.is_file():
            raise UserError(
                f"nothing to replay: {path} is missing; set executor.cache_folder to a recorded run's folder"
            )
        try:
            self._database = _connect(path, read_only)
            self._database.execute(f"SELECT {_COLUMNS} FROM answers LIMIT 0")  # a file of another version has others
            tables = self._database.execute("SELECT name FROM sqlite_master WHERE name = 'requests'").fetchall()
            self.has_messages = bool(tables)  # False of a file from before they were kept
            self._sources = {(str(p), str(m)) for p, m in self._database.execute("SELECT * FROM sources")}
        except sqlite3.DatabaseError as error:
            raise UserError(
                f"cannot use the cache {path}: {error}; move the file away or name another folder"
            ) from None

    def get(self, key: bytes) -> ChatReply | None:
        """The answer kept under `key`; its cost is what it cost when it was received, its latency 0."""
        row = self._database.execute(f"SELECT {_COLUMNS} FROM answers WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        status, text, prompt_tokens, completion_tokens, usd, error, thinking = row
        return ChatReply(
            status=ChatStatus(status),
            text=text,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            cost_usd=usd,
            cached=True,
            error=error,
            thinking=thinking,
        )

    def put(self, key: bytes, answer: ChatReply, messages: Sequence[Message] = ()) -> None:
        """Keep a received answer and the messages that it answers; the first one of a key stays.

        Raises InfrastructureError when it cannot be written.
        """
        row = (
            key,
            answer.status.value,
            answer.text.encode("utf-8", "replace").decode(),  # a lone surrogate cannot be stored
            answer.prompt_tokens,
            answer.completion_tokens,
            answer.cost_usd,
            answer.error,
            answer.thinking.encode("utf-8", "replace").decode(),
        )
        try:
            self._database.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            if messages:
                packed = zlib.compress(json.dumps(messages).encode(), 1)
                self._database.execute("INSERT OR IGNORE INTO requests VALUES (?, ?)", (key, packed))
        except sqlite3.OperationalError as error:
            raise InfrastructureError(f"cannot write {self.path}: {error}; make room on its disk") from error

    def messages(self, key: bytes) -> Sequence[Message]:
        """What was asked under `key`; empty where it was not kept."""
        if not self.has_messages:
            return ()
        row = self._database.execute("SELECT messages FROM requests WHERE key = ?", (key,)).fetchone()
        return list(json.loads(zlib.decompress(row[0]))) if row else ()

    def sources(self) -> Sequence[tuple[str, str]]:
        """The (provider, model) pairs whose answers are in here."""
        return sorted(self._sources)

    def add_source(self, provider: str, model: str) -> None:
        self._database.execute("INSERT OR IGNORE INTO sources VALUES (?, ?)", (provider, model))
        self._sources.add((provider, model))

    def __len__(self) -> int:
        return int(self._database.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        self._database.close()


def _connect(path: Path, read_only: bool) -> sqlite3.Connection:
    if read_only:
        database = sqlite3.connect(f"file:{path.absolute()}?mode=ro", uri=True, isolation_level=None, timeout=30)
        database.execute("SELECT COUNT(*) FROM answers")
        return database
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, timeout=30)  # every statement is its own transaction
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.executescript(_SCHEMA)
    return database
