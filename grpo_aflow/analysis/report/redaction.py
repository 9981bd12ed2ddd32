"""Keys and passwords are taken out of every text before it enters the page: a report is passed on.

Three nets: the values of environment variables that hold secrets, by their names; values of config keys that are named
like secrets; and texts that look like the keys of well-known services, or stand where passwords stand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MARK = "[removed]"
MIN_LENGTH = 8  # of a value: a shorter one would be found in innocent words
NAMES = re.compile(
    r"(?i)(?:api_?-?key|(?:^|[_.-])key$|(?<!(?:bos|eos|pad|unk|end)[_-])token$|secret|passw(?:or)?d|credential|authorization)"
)
LOOKS = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{16,}"  # OpenAI and those who follow it
    r"|\bhf_[A-Za-z0-9]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,}|\bgithub_pat_\w{20,}"
    r"|\bAKIA[A-Z0-9]{16}\b"
    r"|\bAIza[A-Za-z0-9_-]{30,}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{5,}"  # JSON web tokens
    r"|(?<=[Bb]earer )[\w.~+/=-]{8,}"
    r"|(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"  # user and password of an address
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
)
IN_QUERY = re.compile(r"(?i)([?&](?:api_?-?key|key|token|access_token|secret|password)=)[^&\s\"']+")

Redact = Callable[[str], str]


def redactor(environment: Mapping[str, str], configs: Iterable[Mapping[str, Any]] = ()) -> Redact:
    """A function that takes secrets out of a text. configs: flat ones, whose `*_env` name further variables."""
    found = {value for name, value in environment.items() if NAMES.search(name)}
    for config in configs:
        for key, value in config.items():
            last = key.rpartition(".")[2]
            if last.endswith("_env") and isinstance(value, str):
                found.add(environment.get(value, ""))
            elif NAMES.search(last) and isinstance(value, str):
                found.add(value)
    values = sorted((value for value in found if len(value) >= MIN_LENGTH), key=len, reverse=True)
    known = re.compile("|".join(map(re.escape, values))) if values else None

    def redact(text: str) -> str:
        text = known.sub(MARK, text) if known else text
        return IN_QUERY.sub(rf"\g<1>{MARK}", LOOKS.sub(MARK, text))

    return redact
