"""Three operators from outside the package. Nothing but `workflow.operators` names them.

    grpo-aflow-train workflow.operators=[experiments.your_own.operators.Debate]

An operator declares what the policy and the validator must know (`spec`) and how it runs (`run`); all that it needs is
imported from `grpo_aflow.workflow.operators`. `simulated_as` names the built-in operator whose kind of reply the
simulated executor gives to a prompt.
"""

from __future__ import annotations

from grpo_aflow.workflow.operators import (
    Argument,
    Kind,
    OperatorContext,
    OperatorSpec,
    Prompt,
    Result,
    answer_in,
    code,
    texts,
    verdict,
)


class SelfRefine:
    """Review and rewrite, at most twice, until the review finds nothing (Madaan et al. 2023)."""

    spec = OperatorSpec(
        slot="self_refine",
        class_name="SelfRefine",
        arguments=texts("problem", "solution"),
        results={"solution": Kind.TEXT, "rounds": Kind.COUNT},
        min_calls=1,
        max_calls=4,
        description="Criticises the solution and rewrites it until the critic is content, at most twice.",
        prompts={
            "critic": Prompt(
                "You are the critic of a solution of a {subject}. Look for the first mistake. Reply with "
                "<verdict>true</verdict> if there is none, else <verdict>false</verdict>, then "
                "<feedback>the mistake</feedback>.",
                simulated_as="review",
            ),
            "rewrite": Prompt("You rewrite a solution of a {subject} by its critic. {form}", simulated_as="revise"),
        },
    )

    async def run(self, context: OperatorContext, problem: str, solution: str) -> Result:
        for done in range(2):
            right, feedback = verdict(await context.ask({"problem": problem, "solution": solution}))
            if right is None:
                context.unparsed("verdict")
            if right is not False:
                return {"solution": solution, "rounds": done}
            sections = {"problem": problem, "solution": solution, "feedback": feedback}
            text = await context.ask(sections, prompt="rewrite")
            if text:
                solution = code(text, context.entry_point) if context.domain == "code" else text
        return {"solution": solution, "rounds": 2}


class Debate:
    """Two debaters answer, each sees the other's answer and answers again; a judge picks (Du et al. 2023)."""

    spec = OperatorSpec(
        slot="debate",
        class_name="Debate",
        arguments=texts("problem"),
        results={"answer": Kind.TEXT},
        min_calls=5,
        max_calls=5,
        description="Two debaters answer, see each other's answer and answer again; a judge picks the better one.",
        prompts={
            "open": Prompt("You are a debater on a {subject}. Give your own solution. {form}"),
            "reply": Prompt(
                "You are a debater on a {subject}. Compare your solution with the other one and give your final "
                "solution. {form}"
            ),
            "judge": Prompt(
                "You judge a debate on a {subject}. Pick the better solution. Reply with its id only, as "
                "<choice>A</choice>.",
                simulated_as="sc_ensemble",
            ),
        },
    )

    async def run(self, context: OperatorContext, problem: str) -> Result:
        first, second = [await context.ask({"problem": problem}, prompt="open") for _ in range(2)]
        pairs = ((first, second), (second, first))
        final = [
            await context.ask({"problem": problem, "solution": own, "other_solution": other}, prompt="reply")
            for own, other in pairs
        ]
        index = context.pick(await context.ask({"problem": problem}, final, prompt="judge"), final)
        return {"answer": final[index or 0]}


class ExtractAnswer:
    """The short answer in a long solution: read off where it is marked, else asked for."""

    spec = OperatorSpec(
        slot="extract_answer",
        class_name="ExtractAnswer",
        arguments=(Argument(name="solution"), Argument(name="problem", default="")),
        results={"answer": Kind.TEXT},
        min_calls=0,
        max_calls=1,
        description="Takes the short final answer out of a solution; asks the model only where it is not marked.",
        prompts={
            "main": Prompt("You are given a solution of a {subject}. Reply with its final answer only.", "format"),
        },
        domains=("math", "qa"),
    )

    async def run(self, context: OperatorContext, solution: str, problem: str) -> Result:
        marked = answer_in(solution)
        if marked:
            return {"answer": marked}
        text = await context.ask({"problem": problem, "solution": solution})
        return {"answer": answer_in(text) or text}
