"""What an error of an endpoint means: one table from status and wording to what the client does. Pure.

`endpoint` asks `classify` about every answer that is an error, whether it came with an HTTP status or inside a 200. The
rows are read from the top, the first that fits decides. A row about the prompt comes before a row about the status,
because servers disagree on the status (a prompt that is too long is a 400, 413, 422 or 500) and agree on the words.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What the client does with an error."""

    REFUSED = "refused"  # it is about this prompt: a value for the workflow, never asked again
    RATE = "rate"  # we are too fast: wait, then ask again
    RETRY = "retry"  # a fault of the endpoint: ask again, and mask the rollout when it stays
    MASKED = "masked"  # it cannot be told whose fault it is: mask the rollout, do not ask again
    KEY = "key"  # stop: the endpoint does not take the key
    CREDIT = "credit"  # stop: the account cannot pay
    MODEL = "model"  # stop: there is no such model or no such address
    SETTINGS = "settings"  # stop: the request as configured is not understood

    @property
    def stops(self) -> bool:
        """Every later call would fail as well, so the run ends; it is saved and can be resumed."""
        return self in (Outcome.KEY, Outcome.CREDIT, Outcome.MODEL, Outcome.SETTINGS)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerError:
    """An error as a server reported it."""

    code: int  # HTTP status, or the one inside the body of a 200
    text: str  # its own words, in one line
    reason: str = ""  # its machine-readable words: code, type, status

    @property
    def words(self) -> str:
        return f"{self.reason}\n{self.text}".lower()


# A limit of money or of a month. A limit of use alone is none: some call their rates a "usage limit" or a "quota".
_NO_CREDIT = re.compile(
    r"insufficient[_ ](user_)?(quota|balance|credit|fund)|billing_(hard_limit|not_active|disabled)|requires billing"
    r"|credit balance is too low|arrearage|not[_ ]enough[_ ](balance|quota)|quota is not enough|balance_not_enough"
    r"|(requires more|out of|not enough|no|any) credits?\b|\bkey limit exceeded|account_deactivated|payment[_ ]required"
    r"|account .{0,40}(deactivated|suspended|overdue|in arrears|locked|inactive|not in good standing)"
    r"|balance .{0,20}insufficient|余额不足|欠费|额度不足|额度已用尽|bill ?(is )?overdue|not ?(been )?purchased"
    r"|(plan|package|subscription) .{0,10}expired"
    r"|(used up|exhausted) (your|its|the) .{0,10}free .{0,8}(allocation|quota)"
    r"|(?<!thinking )budget(_| has been )exceeded|exceeded ?(token)?budget|(over|crossed|exceeded) budget\b"
    r"|free ?tier.{0,60}(exhausted|used up)|credits? .{0,20}(depleted|exhausted|used up)|used all .{0,20}credits"
    r"|(spend|spending|credit)[_ ](limit|caps?\b)|(weekly|monthly|specified) .{0,20}usage (limit|cap)"
    r"|(weekly|monthly) limit|limit for this billing cycle|set ?(inference ?)?limit ?exceeded|set inference limit"
    r"|limited to \d+ .{0,20}/ month|billing_error|blocked_api_access|exceeded_current_quota_error"
)
_TOO_LONG = re.compile(
    r"context[_ ]?(length|window|size|limit)|(maximum|max) (allowed )?(context|model|sequence|input|prompt) length"
    r"|\b(prompt|input|inputs|request|messages?|payload|sequence)\b.{0,60}(too (long|large)|longer than|exceeds?\b)"
    r"|too many (input |prompt )?tokens|prompt_too_long|string_above_max_length|exceed_context_size"
    r"|tokens?\b.{0,40}exceeds?\b.{0,60}(limit|maximum|allowed|context|length|window)"
    r"|exceed(s|ed|ing)? .{0,60}(context|max_model_len|maximum number of tokens|token limit|maximum length)"
    r"|range of input length|must have less than \d+ tokens|tokens? \+ `?max_(new_)?tokens`? must be"
    r"|max_(new_|completion_)?tokens must be at least 1|max_tokens.{0,80}-\d+|decrease input length"
    r"|\b(prompt|input)\w*.{0,20} must be less than|reduce (the|your) (length|message|prompt|input)"
    r"|input token count is \d+ but|prompt is \d+ tokens long|supported sequence length|\bn_keep\b.{0,20}n_ctx"
    r"|exceeds? max (message|input|context|prompt)"
    r"|(输入|上下文|长度|prompt).{0,12}(过长|太长|超长|超过|超出)|超过.{0,8}最大.{0,4}长度"
)
_MODERATED = re.compile(
    r"content[_ ]?(filter|policy|management|moderation|exists risk)|\bmoderation\b|\bflagged\b|data_?inspection_?failed"
    r"|inappropriate content|responsibleai|safety (system|policy|filter|reasons)"
    r"|sensitive[ _]?(content|words?|information)|invisible character"
    r"|prohibited[_ ]content|usage (policy|policies|guidelines)|violat.{0,60}(policy|policies|guideline)|guardrail"
    r"|new_sensitive|censor|unsafe content|content .{0,30}(unsafe|not safe|not allowed|blocked)"
    r"|(prompt|response|input|output) (was |is )?blocked|敏感|违规|内容安全"
)
_NEVER_FITS = re.compile(r"request too large|tokens .{0,20}must be reduced")
_ASKED = re.compile(r"limit:? ([\d,]+)(?: used:? [\d,]+)? requested:? ([\d,]+)")
_GARBLED = re.compile(r"(could not|failed to|cannot|unable to) parse .{0,40}(json|body)|unexpected end of (hex|json)")
_THROTTLED = re.compile(r"throttlingexception|too many (requests|tokens), please wait|out of call volume quota")
_OUT_OF_TOKENS = re.compile(r"could not finish the message because max_tokens")
_GONE = re.compile(r"model (has |is |was )?(crashed|unloaded)")
_ABOUT_RATE = re.compile(r"rate.?limit|per[ _-](minute|day|second|hour)|too many requests|throttl|overloaded")
_KEY = re.compile(r"api[ _-]?key|subscription key|credential|authenti|unauthori[sz]ed|(access|security|invalid) token")
_BAD_KEY = re.compile(
    r"(invalid|incorrect|expired|revoked|disabled).{0,20}api[ _-]?key|api_key_invalid"
    r"|api[ _-]?key.{0,30}(not valid|invalid|expired|revoked|disabled)|organization has been (disabled|restricted)"
)
_NO_MODEL = re.compile(
    r"model.{0,80}(not (found|exist)|does ?n.t exist|not_found|unknown|not supported|no longer|isn.t supported)"
    r"|(invalid|unknown|no such|non-serverless) model|not a valid model|invalid_model|模型不存在"
)

_SIZE = (413, 414, 431)
_TRANSIENT = (408, 409, 424, 425, 449, 498, 499)
_MAY_BE_BILLED = (408, 499, 504, 524)  # a gateway gave up on a model that may have answered


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the table."""

    outcome: Outcome
    fits: Callable[[ServerError, bool], bool]  # the error, and whether the endpoint has answered anything before
    why: str


def _beginning(error: ServerError) -> str:
    """Of the words; what follows may quote the prompt."""
    return f"{error.reason[:200]}\n{error.text[:200]}".lower()


def _says(pattern: re.Pattern[str]) -> Callable[[ServerError, bool], bool]:
    """The beginning of the words fits."""
    return lambda error, _: bool(pattern.search(_beginning(error)))


def _above_the_rate(error: ServerError, _: bool) -> bool:
    """It asks for more than a whole window allows, so waiting does not help."""
    words = _beginning(error)
    asked = _ASKED.search(words)
    return bool(_NEVER_FITS.search(words)) or (asked is not None and _number(asked[2]) > _number(asked[1]))


def _number(digits: str) -> int:
    return int("0" + digits.replace(",", ""))


def _about_prompt(pattern: re.Pattern[str]) -> Callable[[ServerError, bool], bool]:
    """The words fit, and neither status nor words speak of the rate ("tokens per minute: limit exceeded")."""

    def fits(error: ServerError, _: bool) -> bool:
        rate = error.code == 429 or (error.code not in _SIZE and _ABOUT_RATE.search(error.words))
        return not rate and error.code not in (401, 402, 404, 408) and bool(pattern.search(error.words))

    return fits


def _before_any_answer(*codes: int) -> Callable[[ServerError, bool], bool]:
    """One of these statuses before the endpoint has answered anything."""
    return lambda error, answered: not answered and error.code in codes


TABLE: tuple[Row, ...] = (
    Row(outcome=Outcome.CREDIT, fits=lambda e, _: e.code == 402, why="payment required"),
    Row(outcome=Outcome.CREDIT, fits=_says(_NO_CREDIT), why="the words speak of quota or balance, not of a rate"),
    Row(outcome=Outcome.KEY, fits=lambda e, _: e.code in (401, 407), why="the key (of the proxy, at 407) is refused"),
    Row(outcome=Outcome.KEY, fits=_says(_BAD_KEY), why="the words speak of the key, whatever the status"),
    Row(outcome=Outcome.REFUSED, fits=_above_the_rate, why="this request is larger than the rate ever allows"),
    Row(outcome=Outcome.RATE, fits=lambda e, _: e.code == 429, why="too many requests: it passes"),
    Row(outcome=Outcome.RATE, fits=_says(_THROTTLED), why="a rate limit that a gateway hands on with another status"),
    Row(outcome=Outcome.REFUSED, fits=_about_prompt(_TOO_LONG), why="this prompt does not fit into the context"),
    Row(outcome=Outcome.REFUSED, fits=_about_prompt(_MODERATED), why="this prompt was declined by a filter"),
    Row(outcome=Outcome.REFUSED, fits=lambda e, _: e.code in _SIZE, why="this request is too large for the server"),
    Row(
        outcome=Outcome.RETRY,
        fits=lambda e, _: 400 <= e.code < 500 and bool(_GARBLED.search(e.words)),
        why="the request was garbled on its way",
    ),
    Row(outcome=Outcome.MASKED, fits=_says(_OUT_OF_TOKENS), why="its thinking took all of max_tokens: an empty answer"),
    Row(outcome=Outcome.RETRY, fits=_says(_GONE), why="the server has lost the model, and may load it again"),
    Row(outcome=Outcome.KEY, fits=lambda e, _: e.code == 403 and bool(_KEY.search(e.words)), why="it names the key"),
    Row(outcome=Outcome.KEY, fits=_before_any_answer(403), why="nothing was ever allowed"),
    Row(outcome=Outcome.RETRY, fits=lambda e, _: e.code in _TRANSIENT or e.code >= 500, why="a fault that may pass"),
    Row(
        outcome=Outcome.MODEL,
        fits=lambda e, answered: not answered and (e.code in (404, 405, 410) or bool(_NO_MODEL.search(e.words))),
        why="nothing was ever served under this name and address",
    ),
    Row(outcome=Outcome.SETTINGS, fits=lambda e, answered: not answered, why="no request was ever understood"),
    Row(outcome=Outcome.RETRY, fits=lambda e, _: e.code < 400, why="a redirection that leads nowhere"),
    Row(outcome=Outcome.MASKED, fits=lambda e, _: True, why="the settings have worked, so it may be anybody's"),
)


def classify(error: ServerError, *, answered: bool) -> Row:
    """The first row of the table that fits.

    Args:
        answered: the endpoint has answered a request of this run before, so key, model and settings are right.
    """
    return next(row for row in TABLE if row.fits(error, answered))


def may_be_billed(error: ServerError) -> bool:
    """Whether a request that ended in this error may have been computed, and so be owed."""
    return error.code in _MAY_BE_BILLED or bool(_OUT_OF_TOKENS.search(_beginning(error)))
