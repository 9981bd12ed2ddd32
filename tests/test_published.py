"""The readers of published answers (experiments/grading/sources), on small files in their forms."""

import importlib
from pathlib import Path

import pytest

GRADING = Path(__file__).parents[1] / "experiments/grading"

AGENTS = """
BEGIN TRIAL 1
Question: Where is it?
Thought 1: It is in Oslo.
Action 1: Search[Oslo]
Observation 1: Oslo is a city.
Action 2: Finish[Oslo]
Observation 2: Answer is CORRECT
Correct answer: Oslo

Context: Two towns.
Question: Who was it?
Thought: It halts.
Action: Search[nobody]

Question: When was it?
Thought: In 1987.
Action: Finish[1987]
Observation: Answer is INCORRECT

Reflections:
- I guessed.
Correct answer: 1988
"""
PAGE = """# Results
## Unit tests
```python
def check(candidate): ...
```
## Runs
### X Run 1
Result: Pass
```python
def f(): return 1
```
### X Run 2
Result: Fail
```python
def f(): return 2
```
"""


@pytest.fixture
def sources(monkeypatch):
    monkeypatch.syspath_prepend(str(GRADING))
    return lambda name: importlib.import_module(f"sources.{name}")


def test_an_agents_log_gives_its_finished_answers(sources, tmp_path):
    folder = tmp_path / "reflexion/hotpotqa_runs/root/CoT/base"
    folder.mkdir(parents=True)
    (folder / "100_questions_5_trials.txt").write_text(AGENTS)
    found = list(sources("phrases").phrases(tmp_path, tmp_path))
    assert [(one.task.answers, one.is_right) for one in found] == [(("Oslo",), True), (("1988",), False)]
    assert found[0].answer.endswith("Action 2: Finish[Oslo]")
    assert {one.source for one in found} == {"Reflexion CoT base"}


def test_a_page_gives_its_runs(sources):
    runs = sources("programs").RUN.findall(PAGE.partition("\n## Runs\n")[2])
    assert [verdict for verdict, _ in runs] == ["Pass", "Fail"]
    assert "return 1" in runs[0][1]
    assert "return 2" not in runs[0][1]


def test_a_row_is_matched_with_its_task_by_text_and_name(sources):
    key_of = sources("aflow").key_of
    assert key_of("Sort a list.\n\ndef comb(nums):") == key_of("Sort a list.\n\ndef comb(nums) :  ")
    assert key_of("Sort a list.\n\ndef comb(nums):") != key_of("Sort a list.\n\ndef pancake(nums):")
    assert key_of("def f(x):\n    return 1") != key_of("def f(x):\n    return 2")


def test_rows_are_counted_once_and_those_without_a_score_not(sources, tmp_path):
    folder = tmp_path / "AFLOW/results/DROP/graphs/round_1"
    folder.mkdir(parents=True)
    rows = ["inputs,prediction,expected_output,score,cost", "q,4,4|four,1.0,0", "q,4,4|four,1.0,0", "q,5,4|four,None,0"]
    (folder / "0.5.csv").write_text("\n".join(rows))
    aflow = sources("aflow")
    (row,) = aflow.rows_of(tmp_path / "AFLOW/results/DROP")
    assert row == ("q", "4", "4|four", 1.0)
    assert aflow.task_of("DROP", *row[0:3:2], {}).answers == ("4", "four")
    assert aflow.task_of("MATH", "q", r"so \boxed{\frac12}", {}).answers == (r"\frac12",)
    assert aflow.task_of("MATH", "q", "no box", {}) is None


def test_the_table_counts_each_kind_of_difference(sources, tmp_path, monkeypatch, capsys):
    made = sources("published")
    published = importlib.import_module("published")
    task = made.text_task("hotpotqa", ("Oslo",))
    verdicts = [("Oslo", True), ("Oslo", False), ("Bergen", True), ("Bergen", False)]
    answers = [made.Published("a model", task, answer, is_right) for answer, is_right in verdicts]
    monkeypatch.setattr(published, "KINDS", {"some": lambda clones, data: iter(answers)})
    differences = tmp_path / "differences.jsonl"
    arguments = ["published.py", "--data", "x", "--only", "some", "--differences", str(differences), "clones"]
    monkeypatch.setattr("sys.argv", arguments)
    published.main()
    assert "| a model | 4 | 2 | 1 | 1 | 0 |" in capsys.readouterr().out
    assert len(differences.read_text().splitlines()) == 2
