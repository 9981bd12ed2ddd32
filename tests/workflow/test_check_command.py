"""`grpo-aflow-check`: paths, domains, repair, the JSON summary, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripted_executor import FIRST_LINE, workflow_text

from grpo_aflow.workflow.command import main

GOOD = workflow_text("r = await self.custom(problem, 'x')\nreturn r['response']")
REPAIRABLE = GOOD.replace("await self.custom", "self.custom")
BAD = workflow_text("r = await self.programmer(problem)\nreturn nothing")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "good.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "repairable.py").write_text(REPAIRABLE, encoding="utf-8")
    (tmp_path / "bad.py").write_text(BAD, encoding="utf-8")
    lines = [{"raw": f"```python\n{GOOD}```", "n": 1}, {"source": REPAIRABLE}, {"raw": BAD, "source": GOOD}]
    (tmp_path / "many.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n", encoding="utf-8")
    return tmp_path


def summary(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out)


def test_findings_for_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "good.py"), str(folder / "bad.py"), str(folder / "repairable.py")]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"{folder}/bad.py:{FIRST_LINE + 1}: E201 nothing is not defined",
        f"{folder}/repairable.py: repaired: missing_await",
        "2 of 3 valid, 1 of them repaired",
    ]


def test_summary_of_a_jsonl(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "many.jsonl"), "--json"]) == 1
    result = summary(capsys)
    assert result.pop("ms_per_workflow") > 0  # type: ignore[operator]
    assert result == {
        "total": 3,
        "valid": 2,
        "repaired": 1,
        "invalid": 1,
        "errors": {"E201": 1},
        "repairs": {"missing_await": 1},
    }


def test_without_repair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder / "many.jsonl"), "--json", "--no-repair"]) == 1
    result = summary(capsys)
    assert (result["valid"], result["repaired"], result["errors"]) == (1, 0, {"E201": 1, "E203": 1})


def test_domains(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "code.py"
    path.write_text(
        workflow_text(
            "r = await self.custom(problem, '')\nr = await self.test(problem, '', 'f')\nreturn r['solution']"
        ),
        encoding="utf-8",
    )
    assert main([str(path)]) == 0
    assert main([str(path), "--domain", "code"]) == 0
    assert main([str(path), "--domain", "math"]) == 1
    assert "E601 Test is not allowed for math tasks" in capsys.readouterr().out


def test_a_folder_is_all_that_is_in_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(folder), "--json"]) == 1
    assert summary(capsys)["total"] == 6


def test_all_valid_is_exit_code_zero(folder: Path) -> None:
    assert main([str(folder / "good.py")]) == 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.py", None, "cannot be read"),
        ("broken.jsonl", "{", "broken.jsonl:1 is not JSON"),
        ("other.jsonl", '{"text": "x"}', "other.jsonl:1 has no text field raw or source"),
        ("list.jsonl", "[1]", "list.jsonl:1 has no text field raw or source"),
    ],
)
def test_bad_input_is_exit_code_two(
    tmp_path: Path, name: str, content: str | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert main([str(tmp_path / name)]) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_an_empty_folder_is_bad_input(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 2


def test_unknown_options_are_bad_input() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--domain", "art", "x.py"])
    assert ended.value.code == 2


def test_a_workspace_of_aflow(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    round_1 = tmp_path / "workspace" / "GSM8K" / "workflows" / "round_1"
    template = round_1.parent / "template"
    for folder in (round_1, template):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text("")
    (round_1 / "graph.py").write_text(GOOD.replace("'x'", "prompt_custom.SOLVE"), encoding="utf-8")
    (round_1 / "prompt.py").write_text("SOLVE = 'go'\n", encoding="utf-8")
    (template / "operator.py").write_text("class Custom:\n    pass\n", encoding="utf-8")
    (tmp_path / "run.py").write_text("print('the optimizer')\n", encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 of 1 valid\n"


def test_one_unreadable_file_hides_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.py").write_text(GOOD, encoding="utf-8")
    (tmp_path / "binary.py").write_bytes(b"class Workflow\0\1")
    (tmp_path / "latin.py").write_bytes(GOOD.replace("'x'", "'caf\u00e9'").encode("latin-1"))
    (tmp_path / "broken.jsonl").write_text("{", encoding="utf-8")
    (tmp_path / "huge.py").write_bytes(b"#" * 5_000_000)
    assert main([str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == "2 of 2 valid\n"
    assert [line.split(": ", 1)[1].split("/")[-1].split(" ")[0] for line in captured.err.splitlines()] == [
        "binary.py",
        "broken.jsonl:1",
        "huge.py",
    ]
