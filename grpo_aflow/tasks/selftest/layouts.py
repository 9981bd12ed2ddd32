"""How models lay out a final answer: the same right answer in every layout must grade exact, a wrong one in none.

The families were collected from public reports on other graders and from the answers of real models. The full
self-test and the tests put every gold through all of them, and a wrong value in its place (the mirror).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

Layout = Callable[[str], str]

_WIDE: Mapping[int, int] = str.maketrans("0123456789", "０１２３４５６７８９")
_WORK = "Let us work through it.\n\nFirst, 3 + 4 = 7, and then 7 * 6 = 42, in 2 steps.\n\n"


def _after_work(end: str) -> Layout:
    return lambda gold: _WORK + end.replace("GOLD", gold)


def _as_it_is(text: str) -> Layout:
    return lambda gold: text.replace("GOLD", gold)


# GOLD stands in mathematics, between dollar signs or in a box, so that LaTeX is at home there.
LATEX_LAYOUTS: Mapping[str, Layout] = {
    "bold label, display, box": _after_work("**Final Answer:**\n\n\\[\n\\boxed{GOLD}\n\\]"),
    "bold label, box on one line": _after_work("**Final Answer:** \\( \\boxed{GOLD} \\)"),
    "bold label in dollars": _after_work("**Final Answer:** \n$$\\boxed{GOLD}$$"),
    "bold label, hard break": _after_work("**Answer:**\\\n\\boxed{GOLD}"),
    "bold label, formula": _after_work("**Answer:**\n\n$GOLD$"),
    "bold without colon": _after_work("**Final Answer**\n\n$\\boxed{GOLD}$"),
    "bold label and value": _after_work("**Answer: $GOLD$**"),
    "heading": _after_work("### Final Answer\n\n$$\nGOLD\n$$"),
    "heading, box": _after_work("## Answer:\n\\boxed{GOLD}"),
    "italic": _after_work("*Answer:*\n\\boxed{GOLD}"),
    "underscores": _after_work("__Answer:__\n\\boxed{GOLD}"),
    "quoted": _after_work("> **Answer:** $GOLD$"),
    "list item": _after_work("- Final answer: $GOLD$"),
    "tick": _after_work("✅ **Final Answer:** $\\boxed{GOLD}$"),
    "LaTeX label": _after_work("$\\text{Final Answer: } \\boxed{GOLD}$"),
    "box at the end": _after_work("Therefore the result is $\\boxed{GOLD}$."),
    "box in display": _after_work("Thus\n\\[ x = \\boxed{GOLD}. \\]"),
    "box, then a remark": _after_work("So we get \\boxed{GOLD}. I used \\boxed{} as I was asked to, in 3 steps."),
    "box with name": lambda gold: f"{_WORK}\\[ \\boxed{{{'' if '=' in gold else 'x = '}{gold}}} \\]",
    "fbox": _after_work("$\\fbox{GOLD}$"),
    "styled box": _after_work("$\\boxed{\\mathbf{GOLD}}$"),
    "dollars in the box": _after_work("\\boxed{$GOLD$}"),
    "box twice": _after_work("It is \\boxed{GOLD}.\n\n**Final Answer**\n\\boxed{GOLD}"),
    "corrected box": _after_work("This gives \\boxed{98765}. That is wrong; correcting, it is \\boxed{GOLD}."),
    "working after the label": lambda gold: f"Answer: {_WORK}So the result is $\\boxed{{{gold}}}$.",
    "the final answer is, hope": _after_work("The final answer is $\\boxed{GOLD}$. I hope it is correct."),
    "Minerva": _after_work("Final Answer: The final answer is $GOLD$. I hope it is correct."),
    "the answer is": _after_work("So the answer is $GOLD$."),
    "the answer is, on the next line": _after_work("Therefore the answer is\n\\[ GOLD. \\]"),
    "the answer is as follows": _after_work("The final answer is as follows:\n\n$GOLD$"),
    "the answer is, checked": _after_work("The answer is $GOLD$. This answer is correct, as 2 checks say."),
    "because": _after_work("The answer is $GOLD$, because 4 of them had 5."),
    "tag": _after_work("<answer>GOLD</answer>"),
    "tag with box": _after_work("<answer>\\boxed{GOLD}</answer>"),
    "tag with dollars": _after_work("<answer>\n$GOLD$\n</answer>"),
    "thinking before": lambda gold: f"<think>Is it \\boxed{{98765}}? No.</think>\n\nIt is $\\boxed{{{gold}}}$.",
    "thinking without begin": _as_it_is("Maybe.\nAnswer: 98765\n</think>\n\nThe answer is $\\boxed{GOLD}$."),
    "channels": _as_it_is("<|channel|>analysis<|message|>\\boxed{9}<|end|><|channel|>final<|message|>\\boxed{GOLD}"),
    "end of turn": _after_work("\\boxed{GOLD}<|im_end|>"),
    "code fence": _after_work("Final Answer:\n```\nGOLD\n```"),
    "hashes": _after_work("#### GOLD"),
    "hashes in dollars": _after_work("#### $GOLD$"),
    "formula alone": _as_it_is("$GOLD$"),
    "box alone": _as_it_is("\\boxed{GOLD}"),
    "bare": _as_it_is("GOLD"),
    "last formula": _after_work("Hence the value is $GOLD$."),
    "capitals": _after_work("ANSWER: $GOLD$"),
    "equals": _after_work("Final answer = $GOLD$"),
    "in a table": _after_work("| quantity | value |\n|---|---|\n| x | 3 |\n\n**Answer:** $GOLD$"),
}  # fmt: skip

# GOLD stands in a sentence, as numbers do in word problems.
NUMBER_LAYOUTS: Mapping[str, Layout] = {
    "plain label": _after_work("Answer: GOLD"),
    "plain label, next line": _after_work("Answer:\nGOLD"),
    "label and unit": _after_work("**Final Answer:** GOLD apples (2 red and 3 green)"),
    "bold value": _after_work("**Answer:** **GOLD**"),
    "bold value, next line": _after_work("**Final Answer:**\n\n**GOLD**"),
    "sentence after the label": lambda gold: f"Answer: He has {gold} apples left, from 98765.",
    "working after the label": lambda gold: f"Answer: Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes it.\n#### {gold}",
    "hashes and unit": _after_work("#### GOLD dollars"),
    "hashes in a sentence": _after_work("#### The answer is GOLD"),
    "steps as headings": lambda gold: (
        f"#### Step 1\n16-3-4=9\n#### Step 2\nNow it follows.\nSo she makes {gold} dollars."
    ),
    "the answer is, unit": _after_work("The answer is GOLD dollars, since there are 7."),
    "the answer is, bold": _after_work("So the final answer is **GOLD**."),
    "the answer is, next line": _after_work("The answer is:\n\n**GOLD**"),
    "equation": _after_work("The answer is 40 + 2 - 41 = GOLD."),
    "currency": _after_work("Final Answer: $GOLD"),
    "escaped currency": _after_work("\\boxed{\\$GOLD}"),
    "with cents": lambda gold: f"{_WORK}The answer is ${gold}." if "." in gold else f"{_WORK}The answer is ${gold}.00.",
    "thousands": lambda gold: f"{_WORK}The answer is {_thousands(gold, ',')}.",
    "thin spaces": lambda gold: f"{_WORK}\\boxed{{{_thousands(gold, chr(0x202F))}}}",
    "minus sign": lambda gold: f"{_WORK}The answer is {gold.replace('-', chr(0x2212))}.",
    "wide digits": lambda gold: f"{_WORK}The answer is {gold.translate(_WIDE)}.",
    "JSON": lambda gold: f'{{"reasoning": "3 + 4 = 7", "answer": {gold}}}',
    "last sentence": _after_work("Thus, the number of residents who own all four is GOLD."),
    "bold last sentence": _after_work("So she makes **GOLD** dollars every day."),
    "unit in text": _after_work("\\boxed{GOLD \\text{ dollars}}"),
    "bare and unit": _as_it_is("GOLD apples"),
}

_SEARCH = (
    "Thought 1: I need to find it.\nAction 1: Search[it]\n\nIt was built in 1998, as the second paragraph says.\n\n"
)

# GOLD is a phrase, as the answers to questions are.
PHRASE_LAYOUTS: Mapping[str, Layout] = {
    "bare": _as_it_is("GOLD"),
    "bold": _as_it_is("**GOLD**"),
    "tag": lambda gold: f"{_SEARCH}<answer>{gold}</answer>",
    "tag, next line": lambda gold: f"{_SEARCH}<answer>\n**{gold}**\n</answer>",
    "tag with a sentence": lambda gold: f"{_SEARCH}<answer>The answer is {gold}</answer>",
    "final tag": lambda gold: f"{_SEARCH}<final_answer>{gold}</final_answer>",
    "label": lambda gold: f"{_SEARCH}Answer: {gold}",
    "bold label": lambda gold: f"{_SEARCH}**Answer:** {gold}",
    "bold label, next line": lambda gold: f"{_SEARCH}**Final Answer:**\n\n{gold}",
    "heading": lambda gold: f"{_SEARCH}### Final Answer\n{gold}",
    "box": lambda gold: f"{_SEARCH}\\boxed{{\\text{{{gold}}}}}",
    "JSON": lambda gold: json.dumps({"thought": "It is said.", "answer": gold}),
    "fenced JSON": lambda gold: f"```json\n{json.dumps({'answer': gold}, indent=1)}\n```",
    "Python": lambda gold: str({"thought": "It is said.", "answer": gold}),
    "ReAct": lambda gold: f"{_SEARCH}Thought 2: I know it.\nAction 2: Finish[{gold}]",
    "the answer is": lambda gold: f"{_SEARCH}So the answer is {gold}.",
    "thinking before": lambda gold: f"<think>\nMaybe <answer>Nobody</answer>?\n</think>\n\n{gold}",
    "thinking without begin": lambda gold: f"Maybe.\nAnswer: Nobody\n</think>\n\n{gold}",
    "channels": lambda gold: f"<|channel|>analysis<|message|>Nobody?<|end|><|channel|>final<|message|>{gold}<|return|>",
    "end of turn": _as_it_is("GOLD<|im_end|>"),
}


def _thousands(number: str, separator: str) -> str:
    sign, digits = ("-", number[1:]) if number.startswith("-") else ("", number)
    whole, dot, rest = digits.partition(".")
    return f"{sign}{int(whole):,}".replace(",", separator) + dot + rest
