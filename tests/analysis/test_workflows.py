import pytest

pd = pytest.importorskip("pandas")
from grpo_aflow.analysis import workflows  # noqa: E402
from grpo_aflow.config.composing import compose  # noqa: E402
from grpo_aflow.workflow.graph import OperatorGraph  # noqa: E402

SOURCE = """class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        return (await self.custom(input=problem, instruction="Solve."))["response"]
"""


def test_a_graph_in_words():
    none = frozenset()
    chain = OperatorGraph(
        operators=("custom", "review", "revise"), feeds=(none, frozenset({0}), frozenset({0, 1})), answer=frozenset({2})
    )
    assert workflows.words(chain) == "custom, review(custom), revise(custom, review)"
    twice = OperatorGraph(operators=("custom", "custom"), feeds=(none, none), answer=frozenset({0, 1}))
    assert workflows.words(twice) == "custom#1, custom#2 -> custom#1, custom#2"
    assert workflows.words(OperatorGraph(operators=(), feeds=(), answer=none)).strip() == "-> no operator"


def test_graphs_of_rollouts_by_hand():
    rows = [
        {"step": 1, "domain": "math", "source": SOURCE, "reward": 1.0, "cost_usd": 0.2},
        {"step": 1, "domain": "math", "source": None, "reward": 0.0, "cost_usd": 0.0},
        {"step": 2, "domain": "math", "source": SOURCE, "reward": 0.5, "cost_usd": 0.4},
    ]
    graphs = workflows.with_graphs(pd.DataFrame(rows), compose().workflow)
    assert graphs["graph"].tolist() == ["custom", "not valid", "custom"]
    assert graphs["length"].tolist() == [7, 0, 7]
    table = workflows.frequencies(graphs).set_index("graph")
    assert table.loc["custom", ["first", "final", "change"]].tolist() == [0.5, 1.0, 0.5]
    assert table.loc["not valid", ["first", "final", "change"]].tolist() == [0.5, 0.0, -0.5]
    best = workflows.worth(graphs).iloc[0]
    assert (best["graph"], best["drawn"], best["reward"]) == ("custom", 2, 0.75)
    assert best["usd"] == pytest.approx(0.3)


def test_a_domain_that_the_first_steps_have_not_has_no_change():
    rows = [(1, "math", "a"), (2, "math", "b"), (2, "code", "c")]
    table = workflows.frequencies(pd.DataFrame(rows, columns=["step", "domain", "graph"])).set_index("graph")
    assert table.loc["a", ["first", "final", "change"]].tolist() == [1.0, 0.0, -1.0]
    assert table.loc["c", "final"] == 1.0
    assert table.loc["c", ["first", "change"]].isna().all()
