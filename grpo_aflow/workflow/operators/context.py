"""What the author of an operator sees of a run. `running.context` has the class behind it.

    async def run(self, context: OperatorContext, problem: str) -> Result:
        return {"answer": await context.ask({"problem": problem})}

Golds and hidden tests are out of an operator's reach.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from grpo_aflow.types import Domain


class OperatorContext(Protocol):
    """What an operator's `run` is given: the executor, the sandbox, and what it may know of the task.

    A fault of the endpoint or of the sandbox and a used-up budget are exceptions that end the workflow: let them pass.
    """

    # --- the task -----------------------------------------------------------------------------------------------------

    @property
    def domain(self) -> Domain: ...

    @property
    def entry_point(self) -> str:
        """Code tasks: the name of the function to write; else ""."""
        ...

    @property
    def num_public_tests(self) -> int: ...

    # --- the executor -------------------------------------------------------------------------------------------------

    async def ask(self, sections: Mapping[str, str], candidates: Sequence[str] = (), *, prompt: str = "") -> str:
        """One executor call: the reply's text, "" where the model refused.

        Args:
            sections: name -> text of the user message's parts, written as `<name>text</name>`; empty ones are left out.
            candidates: texts to choose from, shown with the ids A, B, …
            prompt: the name of one of the specification's prompts; "" is the first.
        """
        ...

    async def ask_at_once(self, all_candidates: Sequence[Sequence[str]], sections: Mapping[str, str]) -> list[str]:
        """Several executor calls side by side, one for each list of candidates; the replies in that order."""
        ...

    # --- generated code -----------------------------------------------------------------------------------------------

    async def solve(self, source: str) -> tuple[bool, str]:
        """Run `solve()` of a source in the sandbox: whether it gave a value, and the value or the error."""
        ...

    async def passes(self, candidate: str, entry_point: str) -> tuple[bool, str]:
        """Run the public tests on a candidate: whether all pass, and the error if not."""
        ...

    # --- reading replies and answers ----------------------------------------------------------------------------------

    def program(self, answer: str) -> str:
        """The program in an answer or a reply, as the grader reads it."""
        ...

    def normalised(self, answer: str) -> str:
        """The answer in the form in which equal answers are equal texts, as for votes."""
        ...

    def pick(self, reply: str, candidates: Sequence[str]) -> int | None:
        """The index of the candidate that a reply chooses; None, counted as unparsed, where it chooses none."""
        ...

    # --- the trace, and chance ----------------------------------------------------------------------------------------

    def note(self, text: str) -> None:
        """A remark for the trace."""
        ...

    def unparsed(self, what: str) -> None:
        """Count a reply in which `what` could not be found (metric `operator/<slot>_unparsed`)."""
        ...

    def random(self) -> random.Random:
        """A generator whose draws depend on step, task, member and place of the call only."""
        ...
