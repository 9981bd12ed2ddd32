"""The workflows of the baselines, one text for each domain. Pure.

IO: one direct call. CoT: one call that thinks first (Wei et al. 2022). CoT-SC: several of these and a vote (Wang et al.
2022); programs, which hardly ever agree to the letter, are chosen by an ensemble call, as AFlow's own baseline does.
Self-Refine: feedback and revision until the critic is content (Madaan et al. 2023). AFlow's style: our own writing of
the kinds of graphs that AFlow published as its best (Zhang et al. 2024).
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from grpo_aflow.learner.preparation.reference_workflows import write
from grpo_aflow.types import DOMAINS, Domain

DIRECT: Mapping[Domain, str] = {
    "math": "Solve the problem step by step, then give the final answer in \\boxed{}.",
    "qa": "Answer the question from the context with a short phrase in <answer></answer>; if the context does not "
    "answer it, reply <answer>unanswerable</answer>.",
    "code": "Write the Python function. Reply with the complete code in one ```python fence.",
}
_CLASSES = {
    "custom": "Custom",
    "answer_generate": "AnswerGenerate",
    "custom_code_generate": "CustomCodeGenerate",
    "programmer": "Programmer",
    "sc_ensemble": "ScEnsemble",
    "majority_vote": "MajorityVote",
    "review": "Review",
    "revise": "Revise",
    "format": "Format",
    "test": "Test",
}
_CODE = 'self.custom_code_generate(problem=problem, entry_point=entry_point, instruction="{instruction}")'
_CODE_PLAN = _CODE.format(instruction="Think step by step about the algorithm in comments, then write the function.")


def workflow(slots: tuple[str, ...], body: str, *, code: bool) -> str:
    """A workflow with these operators and the body of its `__call__`, whose lines are given without indentation."""
    init = "".join(f"        self.{slot} = operator.{_CLASSES[slot]}(self.llm)\n" for slot in slots)
    lines = "".join(f"        {line}\n" for line in body.strip().splitlines())
    return (
        "class Workflow:\n"
        "    def __init__(self, name, llm_config, dataset):\n"
        "        self.llm = create_llm_instance(llm_config)\n"
        f"{init}\n"
        f"    async def __call__(self, problem{', entry_point' if code else ''}):\n"
        f"{lines}"
    )


def self_consistency(votes: int) -> dict[Domain, str]:
    """CoT-SC with that many chains of thought; one is plain chain of thought."""
    if votes == 1:
        thought = workflow(
            ("answer_generate",), 'return (await self.answer_generate(input=problem))["answer"]', code=False
        )
        program = workflow(("custom_code_generate",), f'return (await {_CODE_PLAN})["response"]', code=True)
        return {"math": thought, "qa": thought, "code": program}
    answers = f"""
found = await asyncio.gather(*[self.answer_generate(input=problem) for _ in range({votes})])
solutions = [one["answer"] for one in found]
return (await self.majority_vote(solutions=solutions))["response"]
"""
    programs = f"""
found = await asyncio.gather(*[{_CODE_PLAN} for _ in range({votes})])
solutions = [one["response"] for one in found]
return (await self.sc_ensemble(solutions=solutions, problem=problem))["response"]
"""
    thought = workflow(("answer_generate", "majority_vote"), answers, code=False)
    return {
        "math": thought,
        "qa": thought,
        "code": workflow(("custom_code_generate", "sc_ensemble"), programs, code=True),
    }


def random_workflow(domain: Domain, draw: random.Random) -> str:
    """A valid workflow by chance: a draft or several, a choice among them, and what may be done with the result."""
    drafts = ["custom", "answer_generate", *{"math": ["programmer"], "code": ["custom_code_generate"]}.get(domain, [])]
    times = draw.choice((1, 3, 5))
    chain = ["" if times == 1 else str(times), draw.choice(drafts)]
    if times > 1:
        chain.append(draw.choice(("sc_ensemble", "majority_vote")))
    after = ["review revise", "format", *(["test"] if domain == "code" else [])]
    chain += draw.sample(after, draw.randint(0, 2))
    return write(" ".join(part for part in chain if part))


_ANSWER = "Give the final answer only, without an explanation."
_IO_TEXT = workflow(
    ("custom",), f'return (await self.custom(input=problem, instruction="{_ANSWER}"))["response"]', code=False
)
IO: Mapping[Domain, str] = {
    "math": _IO_TEXT,
    "qa": _IO_TEXT,
    "code": workflow(
        ("custom_code_generate",), f'return (await {_CODE.format(instruction="")})["response"]', code=True
    ),
}

_REFINE = """
solution = {draft}
for _ in range(2):
    review = await self.review(problem=problem, solution=solution)
    if review["review_result"]:
        break
    solution = (await self.revise(problem=problem, solution=solution, feedback=review["feedback"]))["solution"]
return solution
"""
_REFINE_TEXT = workflow(
    ("answer_generate", "review", "revise"),
    _REFINE.format(draft='(await self.answer_generate(input=problem))["answer"]'),
    code=False,
)
SELF_REFINE: Mapping[Domain, str] = {
    "math": _REFINE_TEXT,
    "qa": _REFINE_TEXT,
    "code": workflow(
        ("custom_code_generate", "review", "revise"),
        _REFINE.format(draft=f'(await {_CODE_PLAN})["response"]'),
        code=True,
    ),
}

AFLOW_STYLE: Mapping[Domain, str] = {
    "math": workflow(
        ("custom", "sc_ensemble", "programmer"),
        """
solutions = []
for _ in range(5):
    solved = await self.custom(input=problem, instruction="Solve it step by step; final answer in \\\\boxed{}.")
    solutions.append(solved["response"])
chosen = (await self.sc_ensemble(solutions=solutions, problem=problem))["response"]
verified = await self.programmer(problem=problem, analysis=chosen)
if verified["output"]:
    return verified["output"]
return chosen
""",
        code=False,
    ),
    "qa": workflow(
        ("answer_generate", "sc_ensemble", "format"),
        """
solutions = []
for _ in range(3):
    solutions.append((await self.answer_generate(input=problem))["answer"])
chosen = (await self.sc_ensemble(solutions=solutions, problem=problem))["response"]
return (await self.format(problem=problem, solution=chosen))["solution"]
""",
        code=False,
    ),
    "code": workflow(
        ("custom_code_generate", "sc_ensemble", "test"),
        f"""
solutions = []
for _ in range(3):
    solutions.append((await {_CODE_PLAN})["response"])
chosen = (await self.sc_ensemble(solutions=solutions, problem=problem))["response"]
return (await self.test(problem=problem, solution=chosen, entry_point=entry_point))["solution"]
""",
        code=True,
    ),
}

assert set(IO) == set(DOMAINS)
