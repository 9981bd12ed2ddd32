"""The layouts in which models write programs: one right program, many ways to put it on the page.

    LAYOUTS[name](program, entry point)  ->  the text of an answer, or None where the layout does not fit the program

Used by the full self-test and by the tests: an answer's layout must never decide its verdict, so every gold must be
exact in every layout, and a wrong program in none.
"""

from __future__ import annotations

import ast
import html
import json
import textwrap
from collections.abc import Callable, Mapping
from typing import Final

from grpo_aflow.tasks.reading.source_code import first_line, last_line, needed_names, parse_source

CodeLayout = Callable[[str, str], str | None]

_ABOUT = "The function goes over its input once. It's simple: no helper is needed, and the result is returned."
_WRONG = "def {name}(*args, **kwargs):\n    return 'an earlier attempt'"


def wrong_program(entry_point: str) -> str:
    """A program that defines the entry point and is wrong: the mirror of every gold."""
    return f"def {entry_point}(*args, **kwargs):\n    result = 'no such value'\n    return result\n"


def _fenced(
    opening: str, closing: str = "```", before: str = "Here is the solution:\n\n", after: str = f"\n\n{_ABOUT}"
) -> CodeLayout:
    return lambda code, _: f"{before}{opening}\n{code.rstrip()}\n{closing}{after}"


def _around(before: str, after: str) -> CodeLayout:
    return lambda code, name: f"{before.format(name=name)}{code.rstrip()}{after.format(name=name)}"


def _indented_fence(margin: str, before: str) -> CodeLayout:
    return lambda code, _: before + textwrap.indent(f"```python\n{code.rstrip()}\n```\n", margin, lambda line: True)


def _quoted(code: str, _: str) -> str:
    return "> Solution:\n>\n" + textwrap.indent(f"```python\n{code.rstrip()}\n```\n", "> ", lambda line: True)


def _indented_block(code: str, _: str) -> str | None:
    """Markdown's indented code block; a text that spans lines would change with it."""
    return f"The code:\n\n{textwrap.indent(code.rstrip(), '    ')}\n\n{_ABOUT}"


def _helpers_apart(code: str, name: str) -> str | None:
    """Imports and helpers in fences of their own, then the function, then how to call it."""
    tree = parse_source(code)
    if tree is None:
        return None
    lines = code.split("\n")
    parts = [("\n".join(lines[first_line(node) - 1 : last_line(node)]), node) for node in tree.body]
    main = [text for text, node in parts if getattr(node, "name", "") == name]
    rest = [text for text, node in parts if getattr(node, "name", "") != name]
    if len(main) != 1 or any(parse_source(text) is None for text, _ in parts):
        return None
    fences = [f"First we need this:\n\n```python\n{text}\n```\n\n" for text in rest]
    return (
        "".join(fences)
        + f"Then the function:\n\n```python\n{main[0]}\n```\n\nUse it:\n\n```python\nprint({name}())\n```"
    )


def _body(code: str, name: str) -> str | None:
    """The lines of the function's body, as they stand; None for a function that leans on more than its signature."""
    tree = parse_source(code)
    if tree is None or any(isinstance(node, ast.ClassDef) for node in tree.body):  # tests construct such classes
        return None
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    function = next((node for node in functions if node.name == name), None)
    if function is None or function.decorator_list or _free_names(function):
        return None
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body or body[0].lineno == function.lineno or not any(isinstance(n, ast.Return) for n in ast.walk(function)):
        return None
    return "\n".join(code.split("\n")[first_line(body[0]) - 1 : last_line(body[-1])])


def _free_names(function: ast.FunctionDef) -> set[str]:
    bare = ast.parse(ast.unparse(function)).body[0]
    assert isinstance(bare, ast.FunctionDef)
    bare.returns = None
    for argument in (*bare.args.posonlyargs, *bare.args.args, *bare.args.kwonlyargs):
        argument.annotation = None
    return needed_names(ast.unparse(bare))


def _of_body(layout: Callable[[str], str]) -> CodeLayout:
    def laid_out(code: str, name: str) -> str | None:
        body = _body(code, name)
        return None if body is None else layout(body)

    return laid_out


def _session(code: str, name: str) -> str:
    lines = code.strip().split("\n")
    return "\n".join([f">>> {lines[0]}", *(f"... {line}" for line in lines[1:]), f">>> {name}", "<function>"])


def _one_line(code: str, _: str) -> str | None:
    """Line ends written as \\n; a program with backslashes of its own is ambiguous then."""
    return None if "\\" in code else code.strip().replace("\n", "\\n")


def _smart_quotes(code: str, _: str) -> str | None:
    if not ('"' in code or "'" in code):
        return None
    return code.replace('"', "\u201d").replace("'", "\u2019")


def _odd_spaces(code: str, _: str) -> str:
    """Indentation out of non-breaking spaces."""
    lines = [line.replace(" ", "\u00a0", len(line) - len(line.lstrip(" "))) for line in code.split("\n")]
    return "```python\n" + "\n".join(lines) + "\n```"


def _escaped_underscores(code: str, name: str) -> str | None:
    return code.replace("_", "\\_") if "_" in name and "\\" not in code else None


def _usage(code: str, name: str) -> str:
    return (
        f"```python\n{code.rstrip()}\n\n# Example usage\nvalue = input('Enter a value: ')\n"
        f"result = {name}(value)\nprint('Result:', result)\nassert result == 42, result\n```"
    )


def _main_guard(code: str, name: str) -> str:
    return (
        f"```python\n{code.rstrip()}\n\n\nif __name__ == '__main__':\n    n = int(input())\n    print({name}(n))\n```"
    )


_EARLIER = f"First try:\n\n```python\n{_WRONG}\n```\n\nThat is wrong. Better:\n\n```python\n"

LAYOUTS: Final[Mapping[str, CodeLayout]] = {
    "plain": _around("", "\n"),
    "fence_python": _fenced("```python"),
    "fence_unnamed": _fenced("```"),
    "fence_py": _fenced("```py"),
    "fence_py3": _fenced("```py3", before=""),
    "fence_python_3": _fenced("```Python 3"),
    "fence_title": _fenced('```python title="solution.py"'),
    "fence_attributes": _fenced("```{.python .numberLines}"),
    "fence_tildes": _fenced("~~~python", "~~~"),
    "fence_long": _fenced("`````python", "`````"),
    "fence_wrong_language": _fenced("```plaintext"),
    "fence_in_list": _indented_fence("   ", "1. Read the input.\n2. The code:\n\n"),
    "fence_in_bullet": _indented_fence("    ", "* The code is\n\n"),
    "fence_far_right": _indented_fence("        ", "The code:\n\n"),
    "fence_quoted": _quoted,
    "fence_unclosed": _fenced("```python", "", after=""),
    "fence_unclosed_prose": _fenced("```python", "", after=f"\n{_ABOUT}"),
    "fence_example_first": _around("Example:\n```\n>>> {name}(1)\n2\n```\nSolution:\n```python\n", "\n```"),
    "fence_closing_only": _around("", f"\n```\n\n{_ABOUT}"),
    "fence_after_prose": _around("Sure, here is the code: ```python\n", "\n```\nThat is all."),
    "fence_closed_in_line": _around("```python\n", "```\nThat is all."),
    "fence_empty_first": _around("```python\n```\n\n", "\n"),
    "fence_in_docstring": _around('```python\n"""Usage:\n\n```\n{name}(1)\n```\n"""\n', "\n```\n"),
    "fence_with_output": _fenced("```python", after="\n\nOutput:\n\n```text\nTrue\n```\n"),
    "fence_with_shell": _fenced("```python", before="Install:\n\n```bash\npip install numpy\n```\n\n"),
    "fence_usage_after": _around("```python\n", "\n```\n\nExample usage:\n\n```python\nprint({name}(1, 2))\n```"),
    "fence_signature_first": _around(
        "The signature is\n\n```python\ndef {name}(*args):\n    ...\n```\n\n```python\n", "\n```"
    ),
    "fence_wrong_first": _around(_EARLIER, "\n```"),
    "fence_usage_inside": _usage,
    "fence_main_guard": _main_guard,
    "helpers_apart": _helpers_apart,
    "bare_prose_before": _around("Sure! Here's the function that you asked for:\n\n", "\n"),
    "bare_prose_after": _around("", f"\n\n{_ABOUT}\n"),
    "bare_prose_around": _around(f"{_ABOUT}\n", f"\n{_ABOUT}\n- Time: O(n)\n- Space: O(1)\n"),
    "bare_indented": _indented_block,
    "bare_heading": _around("### Solution\n\n", "\n\n### Explanation\n\n1. First\n2. Then"),
    "answer_tag": _around("<thought>Simple.</thought>\n<answer>\n", "\n</answer>"),
    "answer_tag_fence": _around("<answer>```python\n", "\n```</answer>"),
    "code_tag_unclosed": _around("My code:\n<code>\n", "\n"),
    "bracket_tags": _around("[PYTHON]\n", "\n[/PYTHON]\n[TESTS]\nassert {name}(1) == 2\n[/TESTS]"),
    "begin_done": _around("[BEGIN]\n", "\n[DONE]"),
    "think": _around(f"<think>\nMaybe\n```python\n{_WRONG}\n```\n</think>\n\n```python\n", "\n```"),
    "think_end_only": _around(f"Maybe\n\n{_WRONG}\n\nNo.\n</think>\n\n", "\n"),
    "json": lambda code, _: json.dumps({"thought": "It's simple.", "code": code}),
    "json_fence": lambda code, _: f"```json\n{json.dumps({'code': code}, indent=2)}\n```",
    "json_of_fence": lambda code, _: json.dumps({"response": f"```python\n{code}\n```"}),
    "one_line": _one_line,
    "end_of_text": _around("", "\n<|endoftext|>Human: What is Python?"),
    "end_of_message": _around("```python\n", "\n```<|im_end|>"),
    "end_of_sequence": _around("", "</s>"),
    "crlf": lambda code, _: f"Here:\r\n```python\r\n{code}```\r\n".replace("\r\n", "\n").replace("\n", "\r\n"),
    "odd_spaces": _odd_spaces,
    "byte_order_mark": _around("\ufeff", "\u200b\n"),
    "smart_quotes": _smart_quotes,
    "escaped_underscores": _escaped_underscores,
    "html_entities": lambda code, _: f"<code>\n{html.escape(code)}\n</code>" if "&" not in code else None,
    "session": _session,
    "body": _of_body(lambda body: f"{body}\n"),
    "body_stripped": _of_body(lambda body: body.strip()),
    "body_fenced": _of_body(lambda body: f"The body:\n\n```python\n{textwrap.dedent(body)}\n```"),
    "body_goes_on": _of_body(
        lambda body: f"{body}\n\n\nif __name__ == '__main__':\n    print(1)\n\ndef test():\n    pass\n"
    ),
}
