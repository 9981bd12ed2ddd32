import subprocess
import sys

import pytest

from grpo_aflow.sweep import cards


def test_neighbours_begin_with_different_cards():
    assert [cards.in_order(["0", "1", "2"], job)[0] for job in range(5)] == ["0", "1", "2", "0", "1"]
    assert cards.in_order(["0", "1", "2"], 4) == ["1", "2", "0"]
    assert cards.in_order([], 4) == []


@pytest.mark.parametrize(
    ("visible", "number", "expected"),
    [(None, 2, ["0", "1"]), ("2, 3", 8, ["2", "3"]), ("", 8, []), ("GPU-a,GPU-b", 8, ["GPU-a", "GPU-b"])],
)
def test_the_cards_that_a_process_may_use(visible, number, expected):
    assert cards.listed(visible, number) == expected


TAKE = """
import os, sys
from grpo_aflow.sweep.cards import take_card
for job in map(int, sys.argv[1:]):
    take_card(job)
    print(os.environ.get("CUDA_VISIBLE_DEVICES"), flush=True)
sys.stdin.read()
"""


def test_each_process_holds_one_card_as_long_as_it_lives(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}

    def process(*jobs):
        return subprocess.Popen([sys.executable, "-c", TAKE, *map(str, jobs)], **pipes)

    with process(0, 1) as first, process(2) as second:  # jobs 0 and 2 both begin with card 4
        taken = [first.stdout.readline().strip() for _ in range(2)]
        assert taken[0] == taken[1]  # a process keeps its card
        other = second.stdout.readline().strip()
        assert {taken[0], other} == {"4", "7"}
        with process(3) as third:  # both are held: its turn's
            assert third.stdout.readline().strip() == "7"
            third.stdin.close()
        first.stdin.close()
        second.stdin.close()
