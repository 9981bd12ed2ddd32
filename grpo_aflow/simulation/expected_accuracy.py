"""Expected exact accuracies of typical workflows in the simulated world, by Monte Carlo through `world.World` itself.

`python -m grpo_aflow.simulation.expected_accuracy` prints the table of README.md and how far the best workflows are
above a policy that knows no better. It does what the operators do with a reply (a chosen letter, a verdict), but runs
no code: whether a program or a solution is right is decided by `answer_key`. An evaluation measures the best reference
workflows with the real operators and the real grader.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow import CONF_DIR
from grpo_aflow.simulation.answer_key import final_answer, is_right, normalise
from grpo_aflow.simulation.artefacts import crashing_program, fence, right_answer, solving_program
from grpo_aflow.simulation.world import SLOTS, World
from grpo_aflow.types import DOMAINS, Domain, Task
from grpo_aflow.workflow.operators.instructions import letters, messages

Workflow = Callable[["Caller"], str]

TASKS = (
    *(
        Task(id=f"math/{n}", dataset="gsm8k", domain="math", problem=f"Crate problem {n}", answers=(str(7 * n + 12),))
        for n in range(40)
    ),
    *(
        Task(
            id=f"qa/{n}",
            dataset="squad2",
            domain="qa",
            problem=f"Ada Byron met Carl Gauss in Turin in 18{n + 10} near Porto with Ivo Lund. Who was it, {n}?",
            answers=("Carl Gauss",) if n % 4 else ("",),
        )
        for n in range(40)
    ),
    *(
        Task(
            id=f"code/{n}",
            dataset="humaneval",
            domain="code",
            problem=f"def f{n}(x):\n    '''Add {n} to x.'''",
            answers=(f"def f{n}(x):\n    return x + {n}",),
            entry_point=f"f{n}",
        )
        for n in range(40)
    ),
)


class Caller:
    """Calls of one simulated rollout: numbers them and reads the replies as the operators do."""

    def __init__(self, world: World, task: Task, rollout: int) -> None:
        self.task = task
        self._world, self._rollout, self._calls = world, rollout, 0

    def ask(self, slot: str, candidates: Sequence[str] = (), **sections: str) -> str:
        self._calls += 1
        index = 1 + self._rollout * 64 + self._calls
        return self._world.reply({"messages": messages(slot, sections, candidates), "seed": index})

    def draft(self, slot: str) -> str:
        return self.ask(slot, problem=self.task.problem)

    def drafts(self, slot: str, count: int) -> list[str]:
        return [self.draft(slot) for _ in range(count)]

    def program(self) -> str:
        """Programmer: its output, after up to two repairs of a program that raised."""
        code = self.draft("programmer")
        for _ in range(2):
            if code != fence(crashing_program()):
                break
            code = self.ask("programmer", problem=self.task.problem, code=code, error="NameError")
        right = code == fence(solving_program(right_answer(self.task)))
        return right_answer(self.task) if right else f"not {right_answer(self.task)}, by {code}"

    def revised(self, solution: str, *, always: bool = False) -> str:
        review = self.ask("review", problem=self.task.problem, solution=solution)
        if "<verdict>true" in review and not always:
            return solution
        feedback = re.sub(r".*<feedback>|</feedback>", "", review)
        return self.ask("revise", problem=self.task.problem, solution=solution, feedback=feedback)

    def tested(self, solution: str) -> str:
        for _ in range(3):
            if is_right(self.task, solution):
                return solution
            solution = self.ask("test", problem=self.task.problem, solution=solution, error="AssertionError")
        return solution

    def ensemble(self, slot: str, solutions: Sequence[str]) -> str:
        num_votes = 5 if slot == "md_ensemble" else 1
        votes = [self.ask(slot, solutions, problem=self.task.problem) for _ in range(num_votes)]
        chosen = re.sub(r"</?choice>", "", max(votes, key=votes.count))
        return next(text for index, text in enumerate(solutions) if letters(index) == chosen)

    def majority(self, solutions: Sequence[str]) -> str:
        domain = self.task.domain
        texts = [normalise(domain, final_answer(domain, solution)) for solution in solutions]
        return solutions[texts.index(max(texts, key=texts.count))]


@dataclass(frozen=True, kw_only=True, slots=True)
class Typical:
    """One typical workflow of a domain."""

    domain: Domain
    name: str
    run: Workflow
    shared: bool = False  # it can be written for any domain, and a policy that knows no better writes it everywhere


def typical_workflows() -> list[Typical]:
    """A few poor and a few good ones of each domain."""
    found = []
    for domain in DOMAINS:
        for name, run in _SHARED.items():
            found.append(Typical(domain=domain, name=name, run=run, shared=True))
    for domain, own in _OWN.items():
        for name, run in own.items():
            found.append(Typical(domain=domain, name=name, run=run))
    return found


_SHARED: Mapping[str, Workflow] = {
    "custom": lambda c: c.draft("custom"),
    "answer_generate": lambda c: c.draft("answer_generate"),
    "custom → review → revise": lambda c: c.revised(c.draft("custom"), always=True),
    "answer_generate → review → revise": lambda c: c.revised(c.draft("answer_generate"), always=True),
    "custom × 5 → sc_ensemble": lambda c: c.ensemble("sc_ensemble", c.drafts("custom", 5)),
    "answer_generate × 5 → sc_ensemble": lambda c: c.ensemble("sc_ensemble", c.drafts("answer_generate", 5)),
}
_OWN: Mapping[Domain, Mapping[str, Workflow]] = {
    "math": {
        "programmer": lambda c: c.program(),
        "programmer → review → revise": lambda c: c.revised(c.program(), always=True),
        "programmer × 3 → sc_ensemble": lambda c: c.ensemble("sc_ensemble", [c.program() for _ in range(3)]),
        "custom × 5 → majority_vote": lambda c: c.majority(c.drafts("custom", 5)),
    },
    "qa": {
        "answer_generate × 3 → sc_ensemble": lambda c: c.ensemble("sc_ensemble", c.drafts("answer_generate", 3)),
        "answer_generate × 3 → md_ensemble": lambda c: c.ensemble("md_ensemble", c.drafts("answer_generate", 3)),
        "answer_generate × 3 → majority_vote": lambda c: c.majority(c.drafts("answer_generate", 3)),
        "answer_generate × 5 → majority_vote": lambda c: c.majority(c.drafts("answer_generate", 5)),
    },
    "code": {
        "custom_code_generate": lambda c: c.draft("custom_code_generate"),
        "custom_code_generate → test": lambda c: c.tested(c.draft("custom_code_generate")),
        "custom_code_generate → review → revise": lambda c: c.revised(c.draft("custom_code_generate"), always=True),
        "custom_code_generate → review → revise if rejected": lambda c: c.revised(c.draft("custom_code_generate")),
        "custom_code_generate → review → revise → test": lambda c: c.tested(
            c.revised(c.draft("custom_code_generate"), always=True)
        ),
        "custom_code_generate × 3 → sc_ensemble": lambda c: c.ensemble(
            "sc_ensemble", c.drafts("custom_code_generate", 3)
        ),
    },
}


def expected_accuracy(world: World, typical: Typical, tasks: Sequence[Task], *, rollouts: int) -> float:
    """The share of right answers over `rollouts` rollouts of each task of the workflow's domain."""
    own = [task for task in tasks if task.domain == typical.domain]
    right = sum(is_right(task, typical.run(Caller(world, task, n))) for task in own for n in range(rollouts))
    return right / (rollouts * len(own))


def best_and_start(accuracies: Mapping[tuple[Domain, str], float], *, preference: float = 0.2) -> tuple[float, float]:
    """Means over the domains: of the best workflow, and of a policy that knows no better.

    The latter writes the domain's best with probability `preference` and else any shared workflow.
    """
    shared = {(typical.domain, typical.name) for typical in typical_workflows() if typical.shared}
    best, start = 0.0, 0.0
    for domain in DOMAINS:
        own = {name: value for (d, name), value in accuracies.items() if d == domain}
        top = max(own.values())
        rest = [value for name, value in own.items() if (domain, name) in shared]
        best += top / len(DOMAINS)
        start += (preference * top + (1 - preference) * sum(rest) / len(rest)) / len(DOMAINS)
    return best, start


def simulated_world(conf: Path, tasks: Sequence[Task] = TASKS) -> World:
    """The world of a conf/executor/simulated.yaml, with slots as system texts."""
    import yaml

    values = yaml.safe_load(conf.read_text())
    return World(
        tasks=tasks,
        system_prompts={slot: slot for slot in SLOTS},
        accuracy=values["accuracy"],
        ensemble_power=values["ensemble_power"],
        seed=values["world_seed"],
    )


def main() -> None:
    """Print the table of expected accuracies, and the gap between the best workflows and the start."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--conf", type=Path, default=CONF_DIR / "executor/simulated.yaml")
    parser.add_argument("--rollouts", type=int, default=250, help="rollouts of each of 40 tasks per domain")
    arguments = parser.parse_args()
    world = simulated_world(arguments.conf)
    accuracies = {
        (typical.domain, typical.name): expected_accuracy(world, typical, TASKS, rollouts=arguments.rollouts)
        for typical in typical_workflows()
    }
    print("| domain | workflow | exact accuracy |\n|---|---|--:|")
    for (domain, name), value in sorted(accuracies.items(), key=lambda item: (DOMAINS.index(item[0][0]), -item[1])):
        print(f"| {domain} | {name} | {value:.2f} |")
    best, start = best_and_start(accuracies)
    print(f"\nbest workflow per domain {best:.2f}, warm start {start:.2f}, gap {best - start:.2f}")


if __name__ == "__main__":
    main()
