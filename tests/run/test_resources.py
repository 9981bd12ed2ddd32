"""How often the garbage collector looks: seldom while a process starts, as usual within a run."""

import gc

import pytest

from grpo_aflow.run import resources


@pytest.fixture(autouse=True)
def as_before():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_seldom_until_the_run_has_started():
    with resources.starting():
        assert gc.get_threshold() == (resources.STARTING, *resources.USUAL[1:])
        with resources.settled():
            assert gc.get_threshold() == resources.USUAL
            assert gc.get_freeze_count() > 1000  # modules, at least
        assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == resources.USUAL


def test_garbage_of_a_run_is_found_by_itself():
    class Held:
        number = 0

        def __init__(self):
            self.itself = self  # a cycle
            Held.number += 1

        def __del__(self):
            Held.number -= 1

    with resources.starting(), resources.settled():
        for _ in range(10 * resources.USUAL[0]):
            Held()
        assert Held.number < 2 * resources.USUAL[0]
