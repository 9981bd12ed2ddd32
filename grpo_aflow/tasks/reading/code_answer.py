"""What is read as the program of a code answer: candidates with a rank, in the one table at the end of this file.

    answer  ──(thinking and end-of-text tokens off)──►  READING_ORDER, first rule that finds a program  ──►  CodeReading

A candidate must parse and define the entry point (with a body) before it can win; within a rule the later one wins.
The graders run what is read here, and the vote compares it. `code_blocks` finds where code stands, `code_joining` adds
the helpers that the program needs.
"""

from __future__ import annotations

import ast
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from grpo_aflow.syntax import parse_expression
from grpo_aflow.tasks.reading.code_blocks import (
    CODE_START,
    Fence,
    bare_blocks,
    fences,
    longest_program,
    parse_program,
    spellings,
)
from grpo_aflow.tasks.reading.code_joining import join
from grpo_aflow.tasks.reading.source_code import defines, is_stub, own_nodes, parse_source
from grpo_aflow.thinking import split_thinking

_END = re.compile(
    r"<\|(?:endoftext|im_end|im_start|end_of_text|eot_id|eom_id|end|EOT|file_separator)\|>|<｜end▁of▁sentence｜>"
    r"|(?:</s>|<eos>|<end_of_turn>|\[DONE\]|\[END\])[ \t]*$",
    re.M,
)
_BEGIN = re.compile(
    r"\A\s*(?:<\|(?:im_start|start_header_id)\|>\s*assistant(?:<\|end_header_id\|>)?|<s>|<bos>|\[BEGIN\])"
)
_THOUGHT = re.compile(r"^[ \t]*<(think|thinking|thought|reasoning)>.*?(?:</\1>|\Z)", re.M | re.S | re.I)
_TAG = re.compile(r"<(/?)(answer|final_answer|code|solution|python|response|output|completion)>", re.I)
_BRACKET = re.compile(r"\[(/?)(PYTHON|CODE|SOLUTION|ANSWER)\]")
MAX_ANSWER: Final = 100_000  # characters; of a longer answer the last ones
_MAX_BODY = 16_000
_MAX_TAGS = 8
_MAX_INLINE = 50
_KEYS = ("code", "solution", "answer", "python", "program", "completion", "response")
_PROMPT = re.compile(r"^[ \t]*(?:>>>|\.\.\.)(?: |$)(.*)$", re.M)


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a task says of the program that answers it."""

    entry_point: str = ""  # "" = not known: whatever defines a function or class
    signature: str = ""  # the beginning of the function, up to its body, for answers that are a body alone
    names: frozenset[str] = frozenset()  # what the tests use besides


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeReading:
    """The program that was read, and the rule of `READING_ORDER` that read it ("text": none did)."""

    code: str
    rule: str


def read_code(answer: str, question: Question) -> CodeReading:
    """The program of an answer. Never raises; time is bounded by the limits of `code_blocks`."""
    text = spoken(answer)
    for rule in READING_ORDER:
        code = rule.read(text, question)
        if code is not None:
            return CodeReading(code=code, rule=rule.name)
    blocks = [fence.code for fence in fences(text) if fence.may_be_python and fence.code.strip()]
    named = [code for code in blocks if question.entry_point and re.search(rf"\b{question.entry_point}\b", code)]
    return CodeReading(code=[text, *blocks, *named][-1], rule="text")


def question_of(problem: str, entry_point: str, names: frozenset[str] = frozenset()) -> Question:
    """The question that a problem's text asks; its signature is the last `def` of the entry point in it."""
    return Question(entry_point=entry_point, signature=_signature(problem, entry_point), names=names)


def spoken(answer: str) -> str:
    """The answer without what the model thought before it, and without what follows its end-of-text token."""
    text = answer.replace("\r\n", "\n").replace("\r", "\n")
    text = _THOUGHT.sub("", split_thinking(text)[0])
    text = _BEGIN.sub("", text)
    before = _END.split(text, maxsplit=1)[0]
    return (before if before.strip() else _END.sub("\n", text))[-MAX_ANSWER:]


# --- the rules --------------------------------------------------------------------------------------------------------


def _program(text: str, question: Question) -> str | None:
    """The text itself."""
    return _best([text], question)


def _tag(text: str, question: Question) -> str | None:
    """What stands in the last tag that holds a program."""
    for content in _tagged(text):
        for read in (_program, _fence, _bare):
            if (code := read(content, question)) is not None:
                return code
    return None


def _fence(text: str, question: Question) -> str | None:
    """The last fenced block that defines the entry point, with helpers of the others."""
    return _best(_contents([fence for fence in fences(text) if fence.may_be_python]), question)


def _bare(text: str, question: Question) -> str | None:
    """The last program between lines of prose that defines the entry point, with helpers of the others.

    Lines of fences only divide here: an opening one without its end, and blocks in the name of another language, count.
    """
    for spelling in spellings(text):
        if question.entry_point in spelling and (code := _best(bare_blocks(spelling), question)) is not None:
            return code
    return None


def _inline(text: str, question: Question) -> str | None:
    """Inline code within a sentence."""
    pieces = text.split("`")[1:-1] if "`" in text else []
    return _best([piece for piece in pieces if question.entry_point in piece][-_MAX_INLINE:], question)


def _wrapped(text: str, question: Question) -> str | None:
    """A program as a JSON value, as a quoted string, or with its line ends written as \\n."""
    for inner in _unwrapped(text):
        for read in (_program, _fence, _bare):
            if (code := read(inner, question)) is not None:
                return code
    return None


def _session(text: str, question: Question) -> str | None:
    """An interactive session: the lines behind >>> and its continuation."""
    if ">>>" not in text:
        return None
    return _bare("\n".join(match[1] for match in _PROMPT.finditer(text)), question)


def _body(text: str, question: Question) -> str | None:
    """A function's body alone, which the problem's signature (or one before it in the answer) completes."""
    tried = [(question.signature, code) for code in _pieces(text)]
    head = _header(text, question.entry_point)
    if head is not None:
        tried.append((text[head[0] : head[1]], text[head[1] :]))
    for signature, piece in tried:
        if signature and (code := _completed(signature, piece, question)) is not None:
            return code
    return None


def _stub(text: str, question: Question) -> str | None:
    """A signature without a body: only where there is nothing else."""
    blocks = [text, *bare_blocks(text), *_contents(fences(text))]
    return _best(blocks, question, stubs=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeRule:
    """One way to read an answer: its name, its reader, and an example (for `add`) that no earlier rule reads."""

    name: str
    read: Callable[[str, Question], str | None]
    example: str


_ADD = "def add(a, b):\n    return a + b"

READING_ORDER: Final[Sequence[CodeRule]] = (
    CodeRule(name="program", read=_program, example=_ADD),
    CodeRule(name="tag", read=_tag, example=f"```python\nadd = max\n```\nSo:\n<answer>\n{_ADD}\n</answer>"),
    CodeRule(name="fence", read=_fence, example=f"Here it is:\n```python\n{_ADD}\n```\nIt adds."),
    CodeRule(name="bare", read=_bare, example=f"Sure! The function:\n\n{_ADD}\n\nIt adds two numbers."),
    CodeRule(name="inline", read=_inline, example="It is `def add(a, b): return a + b`, as asked."),
    CodeRule(name="wrapped", read=_wrapped, example=json.dumps({"thought": "simple", "code": _ADD})),
    CodeRule(name="session", read=_session, example=">>> def add(a, b):\n...     return a + b\n>>> add(1, 2)\n3"),
    CodeRule(name="body", read=_body, example="    return a + b\n"),
    CodeRule(name="stub", read=_stub, example="def add(a, b):\n    ..."),
)


# --- what they share --------------------------------------------------------------------------------------------------


def _best(blocks: Sequence[str], question: Question, *, stubs: bool = False) -> str | None:
    """The last block that defines the entry point (as more than a stub), joined with what it needs of the others."""
    parsed = [program for block in blocks if (program := parse_program(block)) is not None]
    for at in range(len(parsed) - 1, -1, -1):
        statements = parsed[at][1].body
        if defines(statements, question.entry_point) and (stubs or not is_stub(statements, question.entry_point)):
            return join(parsed, at, question.entry_point, question.names)
    return None


def _contents(blocks: Sequence[Fence]) -> list[str]:
    """The programs of fenced blocks; of one that holds prose as well, the programs between its prose."""
    contents: list[str] = []
    for block in blocks:
        whole = block.code if parse_program(block.code) is not None else None
        contents += [whole] if whole is not None else bare_blocks(block.code)
    return contents


def _tagged(text: str) -> Iterator[str]:
    """The contents of tags, closed or not, the last ones first."""
    for pattern in (_TAG, _BRACKET):
        marks = list(pattern.finditer(text))
        opened = [(mark, following) for mark, following in zip(marks, [*marks[1:], None], strict=False) if not mark[1]]
        for mark, following in opened[: -_MAX_TAGS - 1 : -1]:
            closed = next(
                (m for m in marks if m[1] and m[2].lower() == mark[2].lower() and m.start() > mark.start()), None
            )
            end = closed or following
            yield text[mark.end() : end.start() if end else len(text)].strip("\n")


def _unwrapped(text: str) -> Iterator[str]:
    """The texts inside a text: values of a JSON object, a quoted string, escaped line ends."""
    stripped = text.strip()
    for piece in [stripped, *(fence.code.strip() for fence in fences(text) if fence.language in ("json", ""))]:
        start, end = piece.find("{"), piece.rfind("}")
        for candidate in dict.fromkeys([piece, piece[start : end + 1]]):
            if candidate[:1] in ("{", '"', "'", "["):
                yield from _values(candidate)
    if "\\n" in stripped:
        lines = [line for line in stripped.split("\n") if "\\n" in line]
        for line in [stripped, *lines] if "\n" in stripped else [stripped]:
            quoted = len(line) > 1 and line[0] == line[-1] and line[0] in "\"'"
            yield (
                (line[1:-1] if quoted else line)
                .replace("\\n", "\n")
                .replace("\\t", "\t")
                .replace('\\"', '"')
                .replace("\\'", "'")
            )


def _values(text: str) -> list[str]:
    """The texts that a JSON document or a Python literal holds, those under the usual keys first."""
    try:
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(parse_expression(text)) if len(text) < 64_000 else None
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            value = None
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, dict):
        keys = [*_KEYS, *(key for key in value if key not in _KEYS)]
        return [value[key] for key in keys if isinstance(value.get(key), str)]
    return [value] if isinstance(value, str) else []


def _signature(problem: str, entry_point: str) -> str:
    """The beginning of the function in a problem, with its docstring when it has one; "" for none."""
    head = _header(problem, entry_point)
    if head is None:
        return ""
    whole = problem[head[0] :].rstrip()
    return whole if parse_source(whole) or parse_source(f"{whole}\n    pass") else problem[head[0] : head[1]].rstrip()


def _header(text: str, entry_point: str) -> tuple[int, int] | None:
    """Where the last `def entry_point(...):` begins and ends."""
    if not entry_point:
        return None
    name = re.escape(entry_point)
    found = list(re.finditer(rf"^(?:async[ \t]+)?def[ \t]+{name}[ \t]*\([^\n]*", text, re.M))
    if not found:
        return None
    start, end = found[-1].span()
    for _ in range(20):  # a signature over several lines
        if parse_source(f"{text[start:end]}\n    pass") is not None:
            return start, end
        end = text.find("\n", end + 1)
        if end < 0:
            break
    return None


def _pieces(text: str) -> list[str]:
    """What may be a body: the last fences that may be Python, then the whole text."""
    blocks = [fence.code for fence in fences(text) if fence.may_be_python and fence.code.strip()]
    return [piece for piece in [*blocks[:-4:-1], text] if len(piece) <= _MAX_BODY]


def _completed(signature: str, piece: str, question: Question) -> str | None:
    """Signature and body as one program, whatever has become of the body's indentation; None where it is no body."""
    head = signature.split("\n")
    best = (0, "")
    for body in _indentations(piece.strip("\n").rstrip()):
        length, code = longest_program([*head, *body.split("\n")], keep=len(head))
        program = parse_program(code) if length > best[0] else None
        if program is not None and _is_answer(program[1], question.entry_point):
            best = (length, program[0])
    program = parse_program(best[1])
    return None if program is None else join([program], 0, question.entry_point, question.names)


def _indentations(piece: str) -> Iterator[str]:
    """A body as it stands, with its first line's indentation restored, and indented as a whole; then without prose."""
    lines = piece.split("\n")
    inner = next((at for at, line in enumerate(lines) if at and line[:1].isspace() and line.strip()), 0)
    if any(CODE_START.match(line) for line in lines[:inner]):
        inner = 0  # the body of another function
    for text in dict.fromkeys([piece, "\n".join(lines[inner:]), *spellings(piece)]):
        margins = [re.match(r"[ \t]*", line)[0] for line in text.split("\n")[1:] if line.strip()]  # type: ignore[index]
        yield text
        yield min(margins, key=len, default="    ") + text.lstrip()
        yield textwrap.indent(textwrap.dedent(text), "    ")


def _is_answer(tree: ast.Module, entry_point: str) -> bool:
    """Whether the entry point itself returns or yields something: words of prose parse as expressions, too."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    named = [node for node in functions if node.name == entry_point]
    outcomes = (ast.Return, ast.Yield, ast.YieldFrom, ast.Raise)
    return bool(named) and any(isinstance(node, outcomes) for part in named[-1].body for node in own_nodes(part))
