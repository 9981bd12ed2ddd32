"""Requests are read as operators write them."""

from __future__ import annotations

import string

from hypothesis import given
from hypothesis import strategies as st

from grpo_aflow.simulation.request import read_messages
from grpo_aflow.simulation.world import SLOTS
from grpo_aflow.workflow.operators.instructions import SECTIONS, letters, messages
from grpo_aflow.workflow.operators.table import OPERATORS

TEXT = st.text(string.ascii_letters + "\n {}\\=#'\"", min_size=1, max_size=30).map(lambda text: f"a{text}z")
NAMES = st.sampled_from([name for name in SECTIONS if name != "candidates"])


@given(TEXT, st.dictionaries(NAMES, TEXT), st.lists(TEXT, max_size=30))
def test_reading_is_the_inverse_of_writing(system: str, sections: dict[str, str], candidates: list[str]) -> None:
    asked = read_messages(messages(system, sections, candidates))
    assert (asked.system, asked.sections) == (system, sections)
    assert asked.candidates == [(letters(index), text) for index, text in enumerate(candidates)]


def test_the_world_knows_every_operator_that_asks() -> None:
    assert set(SLOTS) == {slot for slot, spec in OPERATORS.items() if spec.max_calls}
