"""Baselines: valid workflows, names, matched cost by hand, and all of them through `grpo-aflow-eval`."""

import json
import random
import shutil
from dataclasses import replace

import pytest
from commands import finished
from rollouts import group, rollout
from run_cases import only_run

from grpo_aflow.config.composing import compose
from grpo_aflow.evaluation import baseline_workflows as workflows
from grpo_aflow.evaluation import baselines
from grpo_aflow.evaluation.baselines import baseline, in_order, matched_votes, planned
from grpo_aflow.evaluation.command import cost_line, run_evaluation
from grpo_aflow.evaluation.compare_command import main as compare_main
from grpo_aflow.evaluation.evaluate import Result
from grpo_aflow.evaluation.figures import exact_scores, pareto, per_task
from grpo_aflow.evaluation.statistics import estimate
from grpo_aflow.run.files import read_jsonl
from grpo_aflow.types import DOMAINS, BudgetReached, Task, UserError
from grpo_aflow.workflow import check_text
from grpo_aflow.workflow.rules import default_rules

SETS = {
    "io": workflows.IO,
    "cot": workflows.self_consistency(1),
    "cot_sc@3": workflows.self_consistency(3),
    "self_refine": workflows.SELF_REFINE,
    "aflow_style": workflows.AFLOW_STYLE,
}


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("name", SETS)
def test_the_texts_are_valid_as_they_stand(name, domain):
    checked = check_text(SETS[name][domain], domain=domain, rules=default_rules(), repair=False)
    assert checked.workflow is not None, checked.findings


def test_the_calls_of_self_consistency():
    def calls(votes, domain):
        text = workflows.self_consistency(votes)[domain]
        return check_text(text, domain=domain, rules=default_rules()).workflow.max_llm_calls

    assert [calls(1, "math"), calls(5, "math"), calls(5, "qa")] == [1, 5, 5]
    assert [calls(1, "code"), calls(5, "code")] == [1, 6]  # programs are chosen by a call


def test_random_workflows_are_valid_and_many():
    for domain in DOMAINS:
        texts = {workflows.random_workflow(domain, random.Random(seed)) for seed in range(200)}
        assert len(texts) > 20
        for text in texts:
            assert check_text(text, domain=domain, rules=default_rules(), repair=False).workflow is not None, text


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cott", "cott is unknown; known: io, cot, cot_sc@matched"),
        ("cot_sc@0", "give 1 to 64 votes"),
        ("file:nowhere.py", "nowhere.py is not there"),
        ("no_such_pkg.Mine", "no_such_pkg.Mine cannot be imported"),
        ("random.Random", "has no needs, system"),
        ("fractions.Fraction.from_float", "cannot be imported"),
        ("operator.itemgetter", r"operator.itemgetter cannot be imported \(TypeError: "),
    ],
)
def test_a_bad_name_is_one_line(name, message):
    with pytest.raises(UserError, match=message):
        baseline(name)


def test_what_is_needed_comes_first():
    assert in_order(["cot_sc@matched", "io", "cot"]) == ["cot", "cot_sc@matched", "io"]


def test_what_is_needed_may_need_others_and_must_exist(monkeypatch):
    def in_order_of(*needs):
        own = baselines.Workflows(sources={}, needs=needs)
        monkeypatch.setattr(baselines, "NAMES", {**baselines.NAMES, "own": own})
        return in_order(["own"])

    assert in_order_of("cot_sc@matched") == ["cot", "cot_sc@matched", "own"]
    with pytest.raises(UserError, match="nothing is unknown"):
        in_order_of("nothing")
    with pytest.raises(UserError, match="own needs itself, by own"):
        in_order_of("own")


class Nothing:
    needs = ()

    def system(self, evaluation):
        return None


class Raising(Nothing):
    def system(self, evaluation):
        return evaluation.measured["cot"]


class NeedsText(Nothing):
    needs = "cot"


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (Nothing, r"test_baselines.Nothing.system gives None: it must give a grpo_aflow.*System"),
        (Raising, r"test_baselines.Raising.system fails: KeyError: 'cot' \(.*test_baselines.py, line \d+\)"),
        (NeedsText, "test_baselines.NeedsText: needs must be a tuple of names; got 'cot'"),
    ],
)
def test_what_is_wrong_with_an_own_baseline_is_one_line(own, message):
    name = f"{__name__}.{own.__name__}"
    evaluation = baselines.OpenEvaluation(config=None, services=None, served=None, measured={})
    with pytest.raises(UserError, match=message):
        [baseline(one).system(evaluation) for one in in_order([name])]


def test_a_baseline_without_its_model_is_refused_before_anything_is_paid():
    config = compose("policy=random_valid", "baselines=[io,policy_alone]", config_name="evaluate")
    with pytest.raises(UserError, match="policy_alone asks the policy's model"):
        planned(config)
    assert planned(compose("policy=base", "baselines=[io,policy_alone]", config_name="evaluate"))


def result(tokens, *, dataset="gsm8k"):
    task = Task(id=f"{dataset}/0", dataset=dataset, domain="math", problem="?", answers=("2",))
    done = rollout(task=task)
    call = replace(done.execution.trace[0], prompt_tokens=tokens, completion_tokens=0)
    done = replace(done, execution=replace(done.execution, trace=(call,)))
    groups = (group(done, task=task),)
    scores = exact_scores(groups)
    return Result(groups=groups, scores=scores, accuracy=estimate(scores), aflow=None)


def test_matched_votes_by_hand():
    assert matched_votes(result(100), result(30)) == {"gsm8k": 3}  # 3.33 chains of thought
    assert matched_votes(result(10), result(30)) == {"gsm8k": 1}  # never fewer than one
    assert matched_votes(result(10**6), result(1)) == {"gsm8k": 64}
    assert matched_votes(result(100), result(0)) == {"gsm8k": 1}


def test_costs_per_task_by_hand():
    done = rollout(cost=0.5)  # one call, 3 + 2 tokens, 0.1 s
    found = per_task([group(done, done)])
    assert found == {"operator_calls": 1.0, "calls": 1.0, "tokens": 5.0, "usd": 0.5, "seconds": pytest.approx(0.1)}


def test_the_cost_at_the_end_is_of_all_that_was_measured():
    one = result(100)
    assert cost_line({"policy": one}) == "executor: 1 calls, 100 tokens, 0.0000 USD"
    both = cost_line({"policy": one, "io": result(30)})
    assert both == "executor: 2 calls, 130 tokens, 0.0000 USD for the policy and its baselines together"


def test_the_pareto_front_by_hand():
    points = {"cheap": (0.5, 10.0), "good": (0.8, 50.0), "beaten": (0.5, 20.0), "dear": (0.7, 60.0)}
    assert pareto(points) == {"cheap", "good"}
    assert pareto({"a": (0.5, 1.0), "b": (0.5, 1.0)}) == {"a", "b"}


OVERRIDES = (
    "sampler=hf",
    "sandbox.num_servers=1",
    "eval=smoke",
    "eval.datasets=[gsm8k,squad2]",
)


@pytest.fixture(scope="module")
def evaluated(model_cache, tmp_path_factory):
    root = tmp_path_factory.mktemp("baselines")
    named = "[cot_sc@2,cot_sc@matched,policy_alone,random_valid]"
    run_evaluation(compose(*OVERRIDES, f"baselines={named}", f"paths.runs={root}", config_name="evaluate"))
    return only_run(root)


@pytest.mark.slow
def test_every_baseline_through_the_command(evaluated):
    found = json.loads((evaluated / "results.json").read_text())
    names = ["policy", "cot_sc@2", "cot", "cot_sc@matched", "policy_alone", "random_valid"]
    assert list(found["systems"]) == names
    for name, system in found["systems"].items():
        assert system["all"]["num_rollouts"] == 4, name
        file = evaluated / ("rollouts.jsonl" if name == "policy" else f"baselines/{name}.jsonl")
        kept = [line for line in read_jsonl(file) if line["kind"] == "rollout"]
        assert len(kept) == 4, name
        exact = [float(bool(line["grade"] and line["grade"]["exact"])) for line in kept]
        assert system["all"]["accuracy"] == pytest.approx(sum(exact) / 4), name
    assert found["systems"]["policy_alone"]["all"]["per_task"]["calls"] == 0
    assert found["systems"]["cot"]["all"]["per_task"]["calls"] == 1
    assert found["systems"]["cot_sc@matched"]["note"].startswith("votes: gsm8k ")
    assert any(system["pareto"] for system in found["systems"].values())
    compared = {(one["baseline"], one["dataset"]) for one in found["comparisons"]}
    assert len(compared) == 5 * 3
    assert found["systems"]["policy"]["datasets"]["squad2"]["constant_floor"] in (0.0, 0.5, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["terminal", "markdown", "latex"])
def test_the_table_in_every_form(evaluated, form, capsys):
    compare_main([str(evaluated), "--format", form])
    shown = capsys.readouterr().out
    for name in ("policy", "cot_sc@2", "random_valid"):
        assert (name.replace("_", r"\_") if form == "latex" else name) in shown
    assert {"terminal": "system", "markdown": "| system | dataset |", "latex": r"\begin{tabular}{ll"}[form] in shown


@pytest.mark.slow
def test_two_evaluations_side_by_side(evaluated, tmp_path, capsys):
    shutil.copytree(evaluated, tmp_path / "again")
    compare_main([str(evaluated), str(tmp_path / "again"), "--policies"])
    shown = capsys.readouterr().out
    assert f"{evaluated.name}: policy" in shown
    assert "again: policy" in shown
    other = json.loads((evaluated / "results.json").read_text())
    other["tasks"]["mbpp"] = "another"
    (tmp_path / "results.json").write_text(json.dumps(other))
    with pytest.raises(UserError, match=r"is about other tasks than .* \(mbpp\)"):
        compare_main([str(evaluated), str(tmp_path)])
    (tmp_path / "results.json").write_text(json.dumps({**other, "schema": 99}))
    with pytest.raises(UserError, match="later version"):
        compare_main([str(tmp_path)])
    (tmp_path / "results.json").write_text('{"schema": 1')
    with pytest.raises(UserError, match="cannot be read"):
        compare_main([str(tmp_path)])
    with pytest.raises(UserError, match="has no results.json"):
        compare_main([str(tmp_path / "nothing")])


@pytest.mark.slow
def test_a_baseline_that_cannot_be_paid_is_not_begun(evaluated, tmp_path):
    spent = json.loads((evaluated / "results.json").read_text())["systems"]["policy"]["all"]["per_task"]["usd"] * 4
    config = compose(
        *OVERRIDES,
        "baselines=[cot_sc@60]",
        f"executor.max_usd={3 * spent:.8f}",
        "executor.max_tokens=64",
        f"paths.runs={tmp_path}",
        config_name="evaluate",
    )
    with pytest.raises(BudgetReached, match=r"baseline cot_sc@60 was not begun: it may cost .* resume with"):
        run_evaluation(config)
    [run] = [file.parent for file in tmp_path.rglob("config.yaml")]
    (run / "baselines").mkdir()
    (run / "baselines/cot_sc@60.jsonl").touch()  # as a kill within it leaves it: it was begun, so only the cap ends it
    done = finished("eval", [f"resume={run}"], tmp_path)
    assert done.returncode == BudgetReached.code
    assert "reached" in done.stderr
    assert "was not begun" not in done.stderr


def test_the_table_of_a_training_run_says_how_its_policy_is_measured(tmp_path):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(UserError, match="has not ended: resume it"):
        compare_main([str(tmp_path)])
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match=f"training run: .* grpo-aflow-eval policy=checkpoint policy.path={tmp_path}"):
        compare_main([str(tmp_path)])
