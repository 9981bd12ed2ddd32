"""The report's parts by hand: redaction, settings, damaged lines."""

import pytest

from grpo_aflow.analysis.report.lines import read_lines, read_rollouts, spread
from grpo_aflow.analysis.report.redaction import MARK, redactor
from grpo_aflow.analysis.report.settings import settings, varying_keys


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("key sk-abcdefghijklmnop1234.", f"key {MARK}."),
        ("Authorization: Bearer abc.def-123456", f"Authorization: Bearer {MARK}"),
        ("http://me:word@host:80/v1?api_key=abc&x=1", f"http://{MARK}@host:80/v1?api_key={MARK}&x=1"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nrest", f"{MARK}\nrest"),
        ("the task-key is risk-free; https://host/a:b", "the task-key is risk-free; https://host/a:b"),
        ("def solve(token): return token", "def solve(token): return token"),
    ],
)
def test_what_looks_like_a_secret(text, clean):
    assert redactor({})(text) == clean


def test_values_of_the_environment_and_the_config():
    environment = {"MY_TOKEN": "12345678", "SHORT_KEY": "abc", "HOME": "/root/long", "OTHER": "by-its-name"}
    redact = redactor(environment, [{"executor.api_key_env": "OTHER", "logger.password": "opensesame"}])
    assert redact("12345678 abc /root/long by-its-name opensesame") == f"{MARK} abc /root/long {MARK} {MARK}"


def test_settings_are_told_apart_by_what_varies():
    configs = [{"seed": seed, "lora.rank": rank, "paths.runs": str(seed)} for rank in (8, 16) for seed in (0, 1)]
    assert varying_keys(configs) == ["lora.rank"]
    assert [(s.label, s.runs) for s in settings(configs, "abcd")] == [("rank 8", (0, 1)), ("rank 16", (2, 3))]
    assert [s.label for s in settings(configs[:1], ["run"])] == ["run"]
    assert [s.label for s in settings(configs[:2], "ab")] == ["2 seeds"]


def test_no_two_settings_have_the_same_label():
    configs = [{"a": 1, "b": 1, "c": 1, "d": d, "e": e} for d in (1, 2) for e in (1, 2)]
    configs.append({"a": 2, "b": 2, "c": 2, "d": 1, "e": 1})
    assert [s.label for s in settings(configs, "vwxyz")] == [
        *(f"a 1, b 1, c 1 and 2 more: {name}" for name in "vwxy"),
        "a 2, b 2, c 2 and 2 more",
    ]


def test_lines_that_cannot_be_read_are_told(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_bytes(b'{"a": 1}\nno\n[]\n\0\0\n{"a": 2}\n{"a"')
    read = read_lines(file)
    assert read.lines == ({"a": 1}, {"a": 2})
    assert read.notices == (
        "x.jsonl: 3 lines cannot be read and are left out (line 2, 3, 4)",
        "x.jsonl: the last line is cut off and is left out",
    )
    assert read_lines(tmp_path / "missing").lines == ()


def test_of_completions_the_lengths_are_kept(tmp_path):
    file = tmp_path / "rollouts.jsonl"
    completion = '{"kind": "completion", "step": 1, "group": 0, "member": %d, "prompt_ids": [1, 2], "token_ids": %s}\n'
    outcome = '{"kind": "rollout", "step": 1, "group": 0, "member": 0}\n'
    file.write_text(completion % (0, "[7]") + outcome + completion % (1, "[]"))
    read = read_rollouts(file)
    assert read.lengths == {(1, 0, 0): (2, 1), (1, 0, 1): (2, 0)}
    assert len(read.rollouts) == 1
    assert read.notices == ("rollouts.jsonl: 1 completion has no outcome (running, or cut off)",)


def test_what_is_shown_of_a_long_run_is_of_every_place_in_a_step():
    sizes = {(step, group): 4 for step in range(1, 301) for group in range(3)}  # group 0 always of the same dataset
    shown = spread(sizes, 1_200)  # every third
    assert len(shown) == 300
    assert all(sum(group == place for _, group in shown) > 60 for place in range(3))
    assert all(sum(100 * part < step <= 100 * part + 100 for step, _ in shown) == 100 for part in range(3))
    assert shown == spread(sizes, 1_200)


def test_of_a_long_file_the_groups_that_are_shown_are_held(tmp_path):
    line = '{"kind": "%s", "step": %d, "group": 0, "member": %d}\n'
    steps = range(1, 101)
    file = tmp_path / "rollouts.jsonl"
    file.write_text(
        "".join(line % (kind, step, m) for step in steps for m in (0, 1) for kind in ("completion", "rollout"))
    )
    read = read_rollouts(file, 20)
    assert (len(read.rollouts), len(read.shown), len(read.lengths)) == (20, 10, 20)
    assert read.per_step == dict.fromkeys(steps, 2)
    evaluated = "".join(line % ("rollout", -1, m) for m in range(30))
    file.write_text(evaluated)
    assert len(read_rollouts(file, 20).rollouts) == 30  # their calls are told apart by their order
