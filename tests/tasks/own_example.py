"""A dataset of one's own in Python, as the documentation describes it."""

from grpo_aflow.types import Grade, Task


class Parity:
    """Is a number even or odd?"""

    domain = "math"

    def load(self, split):
        name = f"{__name__}:PARITY"
        return [
            Task(id=f"parity/{n}", dataset=name, domain="math", problem=f"Is {n} even or odd?", answers=(answer,))
            for n, answer in ((4, "even"), (7, "odd"))
        ]

    def grade(self, task, answer, *, runner, tiers):
        exact = answer.strip().lower() == task.answers[0]
        return Grade(exact=exact, score=float(exact), tier=float(exact), rule="parity")


PARITY = Parity()
