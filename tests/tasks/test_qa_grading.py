"""Question answering: the step before the scorer, tiers, and the rows of the attack battery."""

# ruff: noqa: E501 - a row is a case

import pytest

from grpo_aflow.tasks import GraderReading, grade
from grpo_aflow.tasks.graders.qa_scoring import aflow_f1, hotpotqa_scores, is_no_answer, normalise_answer, squad_scores
from grpo_aflow.tasks.reading.phrases import read_phrase
from grpo_aflow.tasks.selftest.attacks import TEXT_ATTACKS, text_task
from grpo_aflow.tasks.selftest.layouts import PHRASE_LAYOUTS
from grpo_aflow.types import Task


def squad(*golds):
    return Task(id="s/0", dataset="squad2", domain="qa", problem="", answers=golds)


@pytest.mark.parametrize(
    "phrase", ["unanswerable", "No answer.", "N/A", "none", "Not mentioned in the context", "Unknown"]
)
def test_the_closed_list_is_read_as_no_answer(phrase):
    graded = grade(squad(""), phrase)
    assert (graded.exact, graded.score, graded.rule) == (True, 1.0, "no_answer")
    assert not grade(squad("Paris"), phrase).exact


def test_a_gold_that_looks_like_a_phrase_is_still_a_gold():
    assert grade(squad("None"), "None").rule == "exact"
    assert not grade(squad(""), "nothing much").exact


def test_the_list_is_no_part_of_the_scorer():
    assert squad_scores("no answer", [""]) == (0.0, 0.0)
    assert squad_scores("", []) == (1.0, 1.0)
    assert not is_no_answer("")
    assert not is_no_answer("unknown " * 1000)


def test_f1_counts_tokens_with_their_number():
    # prediction: 4 tokens, 2 of them in the gold's 3: precision 1/2, recall 2/3, F1 = 4/7
    assert squad_scores("big red dog barks", ["the red dog runs"])[1] == pytest.approx(4 / 7, abs=1e-12)
    assert squad_scores("x", ["y", "x z"])[1] == pytest.approx(2 / 3, abs=1e-12)


def test_squad_compares_an_empty_side_as_a_whole():
    assert squad_scores("", ["Paris"]) == (0.0, 0.0)
    assert squad_scores("Paris", [""]) == (0.0, 0.0)
    assert squad_scores("the", ["", "a"]) == (1.0, 1.0)  # both normalise to nothing
    assert squad_scores("Paris", ["the", "Paris"]) == (1.0, 1.0)  # a gold of articles alone is no gold
    assert squad_scores("the", ["the", "Paris"]) == (0.0, 0.0)
    assert squad_scores("Paris", ["the"]) == (0.0, 0.0)


def test_the_best_of_several_golds_counts():
    assert squad_scores("Paris", ["Rome", "paris."]) == (1.0, 1.0)
    assert hotpotqa_scores("Paris", ["Rome", "paris."]) == (1.0, 1.0)
    assert hotpotqa_scores("", []) == (1.0, 0.0)
    assert hotpotqa_scores("Paris", []) == (0.0, 0.0)


def test_closed_answers_are_all_or_nothing_on_either_side():
    for closed in ("yes", "no", "noanswer"):
        assert hotpotqa_scores(f"{closed} indeed", [closed]) == (0.0, 0.0)
        assert hotpotqa_scores(closed, [f"{closed} indeed"]) == (0.0, 0.0)
    assert hotpotqa_scores("yes indeed", ["yes sir"]) == (0.0, pytest.approx(1 / 2))


def test_aflow_f1_by_hand():
    assert aflow_f1("yes indeed", "yes") == pytest.approx(2 / 3)  # precision 1/2, recall 1
    assert aflow_f1("no", "yes") == 0.0
    assert aflow_f1("", "") == 0.0


def test_normalisation_by_hand():
    assert normalise_answer("An  apple-pie, a DAY: the end") == "applepie day end"
    assert normalise_answer("theatre atlas") == "theatre atlas"  # articles are whole words


def test_a_phrase_is_short():
    assert is_no_answer("unknown" + "." * 92)  # 99 characters
    assert not is_no_answer("unknown" + "." * 93)


def test_yes_and_no_are_all_or_nothing_in_hotpotqa():
    assert hotpotqa_scores("Yes, both are American", ["yes"]) == (0.0, 0.0)
    assert hotpotqa_scores("YES.", ["yes"]) == (1.0, 1.0)
    assert hotpotqa_scores("no", ["no way"]) == (0.0, 0.0)
    assert hotpotqa_scores("A", ["the"]) == (1.0, 0.0)  # both normalise to nothing


def test_aflow_gives_f1_where_the_official_scorer_gives_none():
    task = text_task("hotpotqa", "yes")
    assert grade(task, "Yes, both are American", profile="aflow").score == pytest.approx(0.4)
    assert grade(task, "Yes, both are American").score == 0.0


@pytest.mark.parametrize(
    ("answer", "tier", "rule"),
    [
        ("red dog", 1.0, "exact"),
        ("red dog barks", 0.7, "f1>=0.8"),  # 2 * (2/3) / (5/3) = 0.8
        ("red cat", 0.4, "f1>=0.5"),
        ("dog at one far end of town", 0.2, "f1>=0.2"),  # 2 * (1/7)(1/2) / (1/7 + 1/2) = 2/9
        ("cat", 0.0, "f1<0.2"),
    ],
)
def test_tiers(answer, tier, rule):
    graded = grade(squad("the red dog"), answer)
    assert (graded.tier, graded.rule, graded.exact) == (tier, rule, tier == 1.0)


@pytest.mark.parametrize(
    ("dataset", "gold", "answer"), [row for row in TEXT_ATTACKS if row[0] in ("hotpotqa", "squad2")]
)
def test_no_attack_passes(dataset, gold, answer):
    assert not grade(text_task(dataset, gold), answer).exact


@pytest.mark.parametrize("dataset", ["squad2", "hotpotqa"])
def test_votes_are_normalised_as_the_scorer_does(dataset):
    def vote(answer):
        return GraderReading().vote_key(answer, text_task(dataset, ""))

    assert vote("The  Red, Dog!") == "red dog"
    assert vote("It is <answer>the red dog</answer>.") == "red dog"
    assert vote("Unanswerable.") == ""


def test_the_last_answer_tag_is_the_answer() -> None:
    assert read_phrase("It was <answer>Oslo</answer>, no: <answer>\nBergen </answer>") == "Bergen"
    assert read_phrase("Bergen") == "Bergen"
    assert read_phrase("<answer></answer>") == ""
    assert read_phrase("<ANSWER>Oslo\nNorway</Answer>") == "Oslo\nNorway"
    assert read_phrase(" as it stands ") == " as it stands "


R, W = True, False
LAYOUTS = [
    ('hotpotqa', 'Paris', 'The answer is Paris. It is the capital of France.', R),
    ('hotpotqa', 'St. Louis', 'The answer is St. Louis.', R),
    ('hotpotqa', 'U.S. Navy', 'The answer to the question is the U.S. Navy. The ship was built there.', R),
    ('hotpotqa', 'London', 'The answer is Paris.\n\nWait, no. The answer is London.', R),
    ('hotpotqa', 'Paris', 'Answer: Paris or London', W),
    ('hotpotqa', 'Paris', 'Answer: Paris\n\nAnswer: London', W),
    ('hotpotqa', 'yes', 'Yes, both are American', W),
    ('hotpotqa', 'yes', 'Answer: Yes', R),
    ('hotpotqa', 'yes', '{"answer": true}', R),
    ('squad2', '', '{"answer": null}', R),
    ('squad2', '', 'The passage does not mention this.', R),
    ('squad2', '', "I don't know", R),
    ('squad2', '', 'Answer: unanswerable', R),
    ('squad2', '', 'It was not mentioned by Smith', W),
    ('squad2', '', 'Paris is not mentioned in the passage', W),
    ('squad2', 'None', 'None', R),
    ('hotpotqa', 'Paris', 'Thought 3: I know it.\nAction 3: Finish[Paris]', R),
    ('hotpotqa', 'Paris', '**Final Answer:**\n\nParis', R),
    ('hotpotqa', '1987', '{"answer": 1987}', R),
    ('hotpotqa', 'Paris', '<think>\nThe capital... is it Lyon?\n</think>\n\nParis', R),
    ('hotpotqa', 'Paris', '<think>\nFirst I write <answer>Paris</answer> as a draft, but no.\n</think>\n\nLondon', W),
    ('squad2', 'Paris', '<think>I may say <answer>Paris</answer></think>The answer is London.', W),
    ('squad2', '', '<think>\nThe passage says it. <answer>Paris</answer>\n</think>\nunanswerable', R),
    ('hotpotqa', 'Paris', '<answer>Paris', R),
    ('hotpotqa', 'Paris', '<final_answer>Paris</final_answer>', R),
    ('hotpotqa', 'Paris', '<answer>Paris</answer><|im_end|>', R),
    ('hotpotqa', 'Paris', 'Paris<|im_end|>', R),
    ('hotpotqa', 'Paris', 'Paris</s>', R),
    ('hotpotqa', 'Paris', '**Paris**', R),
    ('hotpotqa', 'Paris', 'Answer: Paris', R),
    ('hotpotqa', 'Paris', '**Answer:** Paris', R),
    ('hotpotqa', 'Paris', 'Final Answer: Paris', R),
    ('hotpotqa', 'Paris', 'The answer is Paris.', R),
    ('hotpotqa', 'Paris', '\\boxed{Paris}', R),
    ('hotpotqa', 'Paris', '\\boxed{\\text{Paris}}', R),
    ('hotpotqa', 'Paris', '```json\n{"answer": "Paris"}\n```', R),
    ('hotpotqa', 'Paris', "{'thought': 'capital', 'answer': 'Paris'}", R),
    ('hotpotqa', 'Paris', 'Step 1: France.\nStep 2: its capital.\n\nAnswer: Paris', R),
    ('hotpotqa', 'Paris', '<answer>Paris</answer>\n\n<answer></answer>', W),
    ('hotpotqa', 'Paris', '<answer>The answer is Paris</answer>', R),
    ('hotpotqa', 'Paris', '[ANSWER]Paris[/ANSWER]', R),
    ('hotpotqa', 'Paris', '<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Paris<|return|>', R),
    ('squad2', '', 'The question is unanswerable.', R),
    ('squad2', '', 'This question is unanswerable based on the provided context.', R),
    ('squad2', '', 'I cannot answer this question based on the given context.', R),
    ('squad2', '', 'Unanswerable. The passage names no author.', R),
    ('squad2', '', '**Unanswerable** - the passage names no author.', R),
    ('squad2', 'Paris', 'Unanswerable. Paris', W),
    ('squad2', '', 'Paris. Unanswerable.', W),
    ('squad2', '', 'Unanswerable questions', W),
    ('squad2', 'Paris', 'Answer → Paris', R),
    ('squad2', '', 'Unanswerable based on the given context', R),
    ('squad2', '', 'impossible to answer', R),
    ('squad2', '', 'The answer is not provided in the passage.', R),
    ('squad2', 'Paris', 'The answer is not provided in the passage.', W),
    ('hotpotqa', 'Paris', '<!-- <answer>Paris</answer> -->London', W),
    ('hotpotqa', 'Paris', '~~Answer: Paris~~\n\nAnswer: London', W),
]  # fmt: skip


@pytest.mark.parametrize("case", LAYOUTS, ids=lambda case: f"{case[0]} {case[1]} {case[2][:50]!r}")
def test_a_layout_decides_nothing(case):
    dataset, gold, answer, exact = case
    graded = grade(text_task(dataset, gold), answer)
    assert graded.exact is exact, (graded.rule, graded.read)


@pytest.mark.parametrize("name", PHRASE_LAYOUTS)
def test_every_layout_shows_a_right_answer_and_no_wrong_one(name):
    golds = (
        "Paris",
        "St. Louis",
        "4,500",
        "1998–2001",
        "yes",
        'the "Big" one',
        '"It\'s oil"',
        "justice and peace",
        "sold according to law",
    )
    for dataset in ("hotpotqa", "squad2"):
        for gold in golds:
            assert grade(text_task(dataset, gold), PHRASE_LAYOUTS[name](gold)).exact, gold
            assert not grade(text_task(dataset, gold), PHRASE_LAYOUTS[name]("Lyon")).exact


def test_a_grade_keeps_what_was_read():
    task = Task(id="q", dataset="squad2", domain="qa", problem="?", answers=("mercury salts",))
    assert grade(task, "Think first. <answer>mercury salts</answer>").read == "mercury salts"
    assert grade(task, "unanswerable").read == ""
    assert grade(task, "the mercury salts", profile="aflow").read == "the mercury salts"
    assert len(grade(task, "x" * 1000).read) == 200
