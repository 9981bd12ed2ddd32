"""`grpo-aflow-solve` on a question of a person's own."""

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation.solve import solve

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
