"""`grpo-aflow-solve` on a question of a person's own."""

import sys
from dataclasses import replace

import pytest
from rich.console import Console
from rollouts import rollout

from grpo_aflow import cli
from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.solve import show, solve

WORKFLOW = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        return (await self.custom(input=problem, instruction="Solve it."))["response"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("known", [True, False])
def test_who_asks_the_simulated_executor_something_else_is_told_so(known, tmp_path, capsys):
    path = tmp_path / "workflow.py"
    path.write_text(WORKFLOW)
    config = compose(
        "policy=fixed", f"policy.path={path}", "sandbox.num_servers=1", "sandbox.packages=[]", config_name="evaluate"
    )
    question = next(task.problem for task in config.eval.load() if task.domain == "math")
    solve(config, question if known else "What is 2+2?")
    said = capsys.readouterr().out
    assert "none ()" not in said
    assert ("executor=openai" in said) is not known


@pytest.mark.parametrize(
    ("arguments", "questions", "left"),
    [
        (["policy=fixed", "What is 2+2?"], ["What is 2+2?"], ["policy=fixed"]),
        (["policy=fixed", "x=3 and y=4: x+y?"], ["x=3 and y=4: x+y?"], ["policy=fixed"]),
        (["eval.datasets=[gsm8k, math]", "Why?"], ["Why?"], ["eval.datasets=[gsm8k, math]"]),
        (["--config-dir", "mine", "Why?"], ["Why?"], ["--config-dir", "mine"]),
        (["--cfg", "job", "policy=fixed"], [], ["--cfg", "job", "policy=fixed"]),
        (["What", "is", "it?"], ["What", "is", "it?"], []),
    ],
)
def test_a_question_is_told_from_options_and_overrides(arguments, questions, left, monkeypatch):
    asked = []
    monkeypatch.setattr(sys, "argv", ["grpo-aflow-solve", *arguments])
    monkeypatch.setattr(cli, "_compose_and_run", lambda name, task: asked.extend(task.args[0]))
    cli.solve()
    assert asked == questions
    assert sys.argv[1:] == left


def test_what_a_model_wrote_is_shown_as_it_is(capsys):
    done = rollout()
    call = replace(done.execution.trace[0], arguments={"input": "[red]a[/b]"}, result={"response": "[bold]x[/nope]"})
    execution = replace(done.execution, trace=(call,), answer="4\x1b[2J")
    show(Console(width=100), replace(done, execution=execution))
    shown = capsys.readouterr().out
    assert "input: [red]a[/b]" in shown
    assert "response: [bold]x[/nope]" in shown
    assert "answer: 4�[2J" in shown


def test_its_help_is_its_own(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["grpo-aflow-solve", "--help"])
    cli.solve()
    assert capsys.readouterr().out.startswith("grpo-aflow-solve [overrides of grpo-aflow-eval]")


def test_several_questions_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["grpo-aflow-solve", "policy=random_valid", "What", "is", "it?"])
    with pytest.raises(SystemExit, match="2"):
        cli.solve()
    assert "one question at a time, in quotes; these are 3: 'What', 'is', 'it?'" in capsys.readouterr().err
