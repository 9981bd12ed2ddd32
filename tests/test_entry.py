"""The console scripts' beginning: Ctrl-C while a command is still imported, and that every script leads somewhere."""

import importlib
import tomllib
from pathlib import Path

import pytest

from grpo_aflow import entry

SCRIPTS = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["scripts"]


def test_ctrl_c_while_a_command_is_imported_is_one_line(monkeypatch, capsys):
    def interrupted(module):
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "import_module", interrupted)
    with pytest.raises(SystemExit) as ended:
        entry.train()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_console_script_leads_to_a_command(script):
    module, _, name = SCRIPTS[script].partition(":")
    begun = getattr(importlib.import_module(module), name)
    function, where = (*begun.args, "grpo_aflow.cli")[:2]
    assert callable(getattr(importlib.import_module(where), function))
