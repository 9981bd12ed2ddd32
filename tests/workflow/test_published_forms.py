"""What published graphs and models' replies have around their calls: imports, examples, fences, models, deadlines."""

from __future__ import annotations

import pytest
from scripted_executor import FIRST_LINE, RULES, answer_of, codes, run, valid, workflow_text

from grpo_aflow.workflow import Checked, check_text
from grpo_aflow.workflow.checking.extract import extract_source

SAID = "custom says \\boxed{4}"
BODY = "r = await self.custom(problem, 'a')\nreturn r['response']"
CLASS = workflow_text(BODY)


def checked(text: str) -> Checked:
    return check_text(text, domain=None, rules=RULES)


# --- __init__ -----------------------------------------------------------------------------------------------------

INIT = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        {lines}
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        return (await self.custom(problem, ''))['response'], self.llm.get_usage_summary()['total_cost']
"""
MODEL = "self.llm = create_llm_instance(llm_config)"


@pytest.mark.parametrize(
    "lines",
    [
        f"from scripts.async_llm import create_llm_instance\n        {MODEL}",
        f"import workflows.template.operator as operator\n        {MODEL}",
        f"import logging\n        {MODEL}",
        "self.llm = AsyncLLM(llm_config)",
        "self.llm = AsyncLLM(config=llm_config)",
        "self.llm = AsyncLLM(**llm_config)",
        "self.llm = llms.make(llm_config)",
        "self.config = llm_config\n        self.llm = AsyncLLM(self.config)",
        "llm = AsyncLLM(llm_config)\n        self.llm = llm",
        "self.name, self.llm = name, create_llm_instance(llm_config)",
        f"{MODEL}\n        self.review, self.format = operator.Review(self.llm), operator.Format(self.llm)",
    ],
)
async def test_what_init_may_do(lines: str) -> None:
    workflow = valid(INIT.format(lines=lines))
    assert (workflow.llm_names, (await run(workflow)).answer) == (frozenset({"llm"}), SAID)


def test_an_import_in_init_binds_operator_modules_there_too() -> None:
    text = INIT.format(lines=f"import my_lab.operators as ops\n        {MODEL}").replace(
        "operator.Custom", "ops.Custom"
    )
    assert valid(text).operators == ("custom",)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("self.llm = operator.Custom(llm_config)", "E208"),
        ("self.llm = operator.AsyncLLM(llm_config)", "E207"),
        ("self.llm = str(llm_config)", "E208"),
        ("self.llm = make().llm(llm_config)", "E208"),
        ("self.llm = AsyncLLM(name)", "E207"),
        ("self.llm = AsyncLLM(llm_config, 1)", "E207"),
        ("self.llm = AsyncLLM(config)", "E207"),
        ("self.llm = AsyncLLM(self.llm_config)", "E207"),
        ("self.llm = create_lm_instance(llm_config)", "E208"),
    ],
)
def test_what_does_not_make_the_model(line: str, code: str) -> None:
    assert (code, 3) in codes(INIT.format(lines=line)) or (code, 4) in codes(INIT.format(lines=line))


def test_the_model_that_is_made_in_another_way_is_noted() -> None:
    notes = checked(INIT.format(lines="self.llm = AsyncLLM(llm_config)")).notes
    assert notes == ("line 3: what AsyncLLM(llm_config) gives is taken for the language model",)


# --- below the class ----------------------------------------------------------------------------------------------

BELOW = {
    "an unused helper": "def extract(text):\n    return text.strip()",
    "an unused class": "class Judge:\n    pass",
    "an example": "async def main():\n    print(await Workflow('x', {}, 'MATH')('1+1'))\n\nasyncio.run(main())",
    "an example in lines": "w = Workflow('a', {}, 'MATH')\nr = asyncio.run(w('1+1'))\nprint(r)",
    "names of the class's own": "problem = input()\nr = eval(problem)\nself = r",
    "a branch": "if True:\n    import os\n    os.system('x')",
    "a loop": "for p in ['a', 'b']:\n    print(asyncio.run(main(p)))",
    "a main guard": "if __name__ == '__main__':\n    asyncio.run(main())",
}


@pytest.mark.parametrize("name", BELOW)
async def test_what_the_class_does_not_use_may_stand_below_it(name: str) -> None:
    workflow = valid(f"{CLASS}\n\n# Example usage\n{BELOW[name]}\n")
    assert (await run(workflow)).answer == SAID
    assert workflow.constants == ()


def test_what_has_no_effect_below_the_class_is_noted() -> None:
    line = CLASS.count("\n") + 2
    assert checked(f"{CLASS}\n{BELOW['an unused helper']}\nasyncio.run(extract('x'))\n").notes == (
        f"line {line}: what begins here, below the class, has no effect",
        f"line {line + 2}: what begins here, below the class, has no effect",
    )
    assert checked(f"{CLASS}\nHINT = 'x'\nif __name__ == '__main__':\n    print(HINT)\n").notes == ()


USED = CLASS.replace("'a'", "{used}")


@pytest.mark.parametrize(
    ("used", "below"),
    [
        ("HINT", "HINT = 'go'"),
        ("HINT", "PART = 'g'\nHINT = PART + 'o'"),
        ("prompt_custom.HINT", "HINT = 'g' + 'o'"),
        ("HINTS['a']", "HINTS = {'a': 'go'}"),
    ],
)
async def test_constants_below_the_class_count(used: str, below: str) -> None:
    text = USED.replace("{used}", used).replace("return r['response']", f"return {used}")
    assert (await run(valid(f"{text}\n{below}\nUNUSED = len(open('x'))\n"))).answer == "go"


@pytest.mark.parametrize(
    ("used", "below", "code"),
    [
        ("extract('x')", "def extract(text):\n    return text", "E502"),
        ("HINTS[0]", "HINTS = ['a']\nHINTS.append(make())", "E502"),
        ("HINTS[0]", "HINTS = ['a']\nHINTS[0] = make()", "E502"),
        ("HINTS[0]", "HINTS = ['a']\nfor HINTS in make():\n    pass", "E502"),
        ("HINT", "HINT = make()", "E503"),
        ("'a'", "Workflow.__call__ = make", "E502"),
        ("'a'", "class Workflow:\n    pass", "E102"),
    ],
)
def test_what_the_class_uses_must_be_in_the_language(used: str, below: str, code: str) -> None:
    assert code in [found for found, _ in codes(f"{USED.replace('{used}', used)}\n{below}\n")]


def test_above_the_class_nothing_is_loosened() -> None:
    assert ("E502", 1) in codes(f"def extract(text):\n    return text\n\n{CLASS}")


# --- fences -------------------------------------------------------------------------------------------------------

PROMPT = '# prompt.py\nSOLVE_PROMPT = """Solve {it}."""\nCHECK_PROMPT = "check"\n'
GRAPH = CLASS.replace("'a'", "prompt_custom.SOLVE_PROMPT")


@pytest.mark.parametrize(
    "text",
    [
        f"`prompt.py`:\n```python\n{PROMPT}```\n`graph.py`:\n```python\n{GRAPH}```\nDone.",
        f"```python\n{GRAPH}```\nand\n```python\n{PROMPT}```",
        f"```python\n{GRAPH}```\nand\n```\nimport typing\n{PROMPT}",
        "\n".join("    " + line for line in f"```python\n{PROMPT}```\nand\n```python\n{GRAPH}```".split("\n")),
        f"```python\n{PROMPT}```\n```python\n{GRAPH.replace('prompt_custom.', '')}```",
    ],
)
def test_constants_in_a_fence_of_their_own_belong_to_the_class(text: str) -> None:
    source = extract_source(text)
    assert source.startswith("class Workflow"), "the class keeps its place"
    assert "Solve {it}." in source
    assert checked(text).valid


@pytest.mark.parametrize(
    "other",
    [
        "OTHER_PROMPT = 'not used'",
        "SOLVE_PROMPT = (",
        "SOLVE_PROMPT = 'x'\ndef f():\n    return 1",
        "solve_prompt = 'x'",
        "SOLVE_PROMPT == 'x'",
    ],
)
def test_other_fences_stay_out(other: str) -> None:
    text = f"```python\n{GRAPH}```\nand\n```python\n{other}\n```"
    assert extract_source(text) == GRAPH


def test_a_class_with_its_own_constants_takes_none_from_other_fences() -> None:
    whole = f"SOLVE_PROMPT: str = 'mine'\n{GRAPH}"
    assert extract_source(f"```python\n{PROMPT}```\nor\n```python\n{whole}```") == whole


# --- calls --------------------------------------------------------------------------------------------------------

CALL = "self.custom(problem, 'a')"


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        (f"r = await asyncio.wait_for({CALL}, timeout=60)\nreturn r['response']", 1),
        (f"r = await asyncio.wait_for({CALL}, 30 * 2)\nreturn r['response']", 1),
        (f"t = asyncio.create_task({CALL})\nr = await asyncio.wait_for(t, 3)\nreturn r['response']", 1),
        (f"r = await asyncio.wait_for(asyncio.create_task({CALL}), 3)\nreturn r['response']", 1),
        (f"r = await asyncio.wait_for(asyncio.gather({CALL}, {CALL}), 3)\nreturn r[1]['response']", 2),
        (f"r = await asyncio.gather(*[asyncio.wait_for({CALL}, 3) for i in 'ab'])\nreturn r[1]['response']", 2),
        (
            f"try:\n    r = await asyncio.wait_for({CALL}, 3)\nexcept asyncio.TimeoutError:\n    return 'late'\n"
            "return r['response']",
            1,
        ),
    ],
)
async def test_a_call_with_a_time_limit_is_the_call(body: str, calls: int) -> None:
    assert await answer_of(body) == SAID
    assert valid(workflow_text(body)).max_operator_calls == calls
    assert "the time limit of asyncio.wait_for has no effect" in str(checked(workflow_text(body)).notes)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("r = await asyncio.wait_for(len(problem), 3)\nreturn 'a'", "leave `await` out"),
        (f"r = await asyncio.wait_for(await {CALL}, 3)\nreturn 'a'", "leave `await` out"),
        ("r = await asyncio.wait_for()\nreturn 'a'", "asyncio.wait_for"),
        ("await asyncio.sleep(1)\nreturn 'a'", "does not have asyncio.sleep; leave it out"),
        (f"r = await asyncio.shield({CALL})\nreturn 'a'", "does not have asyncio.shield; leave it out"),
    ],
)
def test_what_cannot_be_awaited_is_said_once(body: str, found: str) -> None:
    (finding,) = checked(workflow_text(body)).findings
    assert (finding.code, finding.line) == ("E209", FIRST_LINE)
    assert found in finding.message


def test_a_time_limit_without_await_is_repaired() -> None:
    assert checked(workflow_text(f"r = asyncio.wait_for({CALL}, 3)\nreturn r['response']")).repairs == (
        "missing_await",
    )


def test_keywords_of_other_platforms_are_noted() -> None:
    body = "r = await self.test(problem, 'x', 'f', benchmark=self.dataset)\nreturn r['solution']"
    text = workflow_text(body).replace("        self.llm =", "        self.dataset = dataset\n        self.llm =")
    assert "benchmark= of test is understood and has no effect" in checked(text).notes[0]


# --- logging ------------------------------------------------------------------------------------------------------

LOGGED = CLASS.replace("return r", "{logger}.info(f\"got {r['response']}\", extra={'n': 1})\n        return r")


@pytest.mark.parametrize(
    ("above", "logger", "init"),
    [
        ("import logging\n", "logging", ""),
        ("import logging\nlogger = logging.getLogger(__name__)\n", "logger", ""),
        ("import logging as log\nlog.basicConfig(level=log.INFO)\nmine: object = log.getLogger('x')\n", "mine", ""),
        ("from scripts.logs import logger\n", "logger", ""),
        ("import logging\n", "self.logger", "self.logger = logging.getLogger('x')"),
        ("from scripts.logs import logger\n", "self.log", "self.log = logger\n        logger.info(name)"),
        ("", "logging", "import logging"),
    ],
)
async def test_a_log_is_written_to_nobody(above: str, logger: str, init: str) -> None:
    text = above + LOGGED.replace("{logger}", logger).replace(
        "        self.llm =", f"        {init}\n        self.llm ="
    )
    assert (await run(valid(text))).answer == SAID


async def test_what_is_logged_is_checked_and_evaluated() -> None:
    above = "from scripts.logs import logger\n"
    body = "logger.warning((await self.custom(problem, 'a'))['response'], 1 / 0)\nreturn 'a'"
    workflow = valid(above + workflow_text(body))
    assert workflow.max_operator_calls == 1
    assert (await run(workflow)).reason == "failed:ZeroDivisionError"
    for value, code in (("nothing", "E201"), ("self.custom(problem, 'a')", "E203"), ("open('x')", "E503")):
        assert [found for found, _ in codes(above + workflow_text(f"logger.info({value})\nreturn 'a'"))] == [code]


@pytest.mark.parametrize("use", ["logger.handlers", "logger.addHandler(1)", "logger", "str(logger)", "log.info('x')"])
def test_a_logger_is_no_value(use: str) -> None:
    assert codes("from scripts.logs import logger\n" + workflow_text(f"x = {use}\nreturn 'a'"))
