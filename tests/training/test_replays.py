"""Which completions of an earlier part of a run are replayed: those that would be drawn from the very same now."""

import json
from dataclasses import replace

import pytest
from rollouts import TASK, completion

from grpo_aflow.config.composing import compose
from grpo_aflow.rollout.group import Rollouter
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.records import replayed
from grpo_aflow.run.timing import Timeline
from grpo_aflow.training.replays import Replays, digest, digest_of_step
from grpo_aflow.types import SamplingParams, TrainingGroup

KEY, PROMPT = (5, 0, 1), (1, 2, 3)
PARAMS = SamplingParams(temperature=0.5, top_p=0.9, top_k=4, max_tokens=9)


@pytest.fixture
def run(tmp_path):
    made = RunDirectory.create(tmp_path, "x", {})
    yield made
    made.close("done")


def replays(run, policies, *, version=3, params=PARAMS):
    origins = run.lines_until(version).origins
    return Replays(run, origins, version=version, policy=policies.get, params=lambda step: params)


def test_a_version_that_was_made_again_to_the_bit_is_replayed_and_another_of_its_number_is_not(run):
    replays(run, {4: "aa"}).record(KEY, "t/0", PROMPT, completion(version=4))
    recorded = run.lines_until(3).recorded[KEY]
    assert recorded == completion(version=4)
    assert replays(run, {4: "aa"}).allow(KEY, PROMPT, recorded)
    assert not replays(run, {4: "bb"}).allow(KEY, PROMPT, recorded)
    assert not replays(run, {}).allow(KEY, PROMPT, recorded)  # not made yet
    assert not replays(run, {4: "aa"}).allow(KEY, (1, 2), recorded)
    assert not replays(run, {4: "aa"}, params=replace(PARAMS, temperature=1.0)).allow(KEY, PROMPT, recorded)


def test_a_version_before_the_checkpoint_has_to_be_the_one_that_led_to_it(run):
    replays(run, {2: "aa"}).record(KEY, "t/0", PROMPT, completion(version=2))
    recorded = run.lines_until(3).recorded[KEY]
    assert replays(run, {2: "aa", 3: "cc"}).allow(KEY, PROMPT, recorded)
    assert not replays(run, {2: "bb", 3: "cc"}).allow(KEY, PROMPT, recorded)


def test_what_is_drawn_anew_takes_the_place_of_the_line_before(run):
    replays(run, {4: "aa"}).record(KEY, "t/0", PROMPT, completion(version=4))
    replays(run, {4: "bb"}).record(KEY, "t/0", PROMPT, completion(version=4, ids=(7, 2)))
    recorded = run.lines_until(3).recorded[KEY]
    assert recorded.token_ids == (7, 2)
    assert replays(run, {4: "bb"}).allow(KEY, PROMPT, recorded)
    assert not replays(run, {4: "aa"}).allow(KEY, PROMPT, recorded)


def test_lines_of_an_older_run_folder_count_up_to_the_checkpoint(run):
    for member, version in enumerate((2, 3, 4)):
        run.completion((5, 0, member), "t/0", PROMPT, completion(version=version))
    assert "origin" not in json.loads((run.path / "rollouts.jsonl").read_text().splitlines()[0])
    taken, lines = replays(run, {3: "cc", 4: "aa"}), run.lines_until(3)
    allowed = [taken.allow(key, PROMPT, drawn) for key, drawn in sorted(lines.recorded.items())]
    assert allowed == [True, True, False]


def test_a_group_of_two_versions_is_not_whole():
    recorded = {(5, 0, member): completion(version=1 + member // 2) for member in range(4)}
    kept = replayed(recorded, 2, 4)
    assert kept == {(5, 0, 2): completion(version=2), (5, 0, 3): completion(version=2)}


@pytest.mark.parametrize("other", [completion(version=4), None], ids=["of another version", "not to be replayed"])
async def test_a_group_never_mixes_what_is_replayed(other):
    drawn = []

    class Policy:
        async def draw(self, task, prompt_ids, *, members, version, **_):
            drawn.append((tuple(members), version))
            for member in members:
                yield member, completion(version=version)

    refused = completion(version=3, ids=(9,))
    recorded = {(5, 0, 0): completion(version=3), (5, 0, 1): other or refused}
    rollouter = Rollouter(
        policy=Policy(),
        environment=None,
        rubric=None,
        seed=0,
        timeline=Timeline(),
        recorded=recorded,
        may_replay=lambda key, prompt, found: found != refused,
    )
    found = [pair async for pair in rollouter._completions(TASK, PROMPT, 5, 0, 3, PARAMS, 4)]
    assert {made.version for _, made in found} == {3}
    assert drawn == [((1, 2), 3)]


def test_what_a_step_learns_from_tells_its_version():
    plain = compose("sampler=hf").plain
    group = TrainingGroup(prompt_ids=PROMPT, completions=(completion(version=4),), advantages=(0.5,), temperature=1.0)
    step = digest_of_step({0: digest(group)}, plain, 1e-3)
    assert step == digest_of_step({0: digest(replace(group))}, compose("sampler=hf", "seed=3").plain, 1e-3)
    assert step == digest_of_step({0: digest(group)}, compose("sampler=hf", "learner.micro_batch=1").plain, 1e-3)
    others = [
        digest_of_step({0: digest(replace(group, advantages=(float("nan"),)))}, plain, 1e-3),  # masked then
        digest_of_step({}, plain, 1e-3),  # cut off by the group's deadline
        digest_of_step({0: digest(group)}, plain, 2e-3),
        digest_of_step({0: digest(group)}, compose("sampler=hf", "learner.weight_decay=0.5").plain, 1e-3),
        digest_of_step({0: digest(group)}, compose("sampler=hf", "objective=dapo").plain, 1e-3),
    ]
    assert len({step, *others}) == 6
