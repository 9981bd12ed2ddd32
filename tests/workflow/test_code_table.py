"""Every code has an example that the validator refuses with it, and the page in docs/ says so."""

from pathlib import Path

import pytest

from grpo_aflow.workflow.code_table import EXAMPLES, markdown, message
from grpo_aflow.workflow.command import main
from grpo_aflow.workflow.language import CODES

PAGE = Path(__file__).parents[2] / "docs/workflow_codes.md"


def test_every_code_has_an_example():
    assert list(EXAMPLES) == list(CODES)


@pytest.mark.parametrize("code", CODES)
def test_the_example_is_refused_with_its_code(code):
    assert message(code)


def test_the_page_is_that_of_the_code():
    assert PAGE.read_text(encoding="utf-8") == markdown(), "write it anew: python -m grpo_aflow.workflow.code_table"


def test_the_command_lists_the_codes(capsys):
    assert main(["--codes"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "E101  syntax error"
