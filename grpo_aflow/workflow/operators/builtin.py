"""The built-in operators: AFlow's and a few more, each one class with its specification, its prompt and how it runs.

All that they need is imported from `grpo_aflow.workflow.operators`. An operator of your own is written in the same way,
outside the package; see `experiments/your_own/`.
"""

from __future__ import annotations

from collections import Counter

from grpo_aflow.workflow.operators import (
    Argument,
    Kind,
    Operator,
    OperatorContext,
    OperatorSpec,
    Prompt,
    Result,
    answer_in,
    looks_like_code,
    short_answer,
    solving_program,
    texts,
    thought_and_answer,
    verdict,
    without_thinking,
)

_SOLUTIONS = Argument(name="solutions", kind=Kind.TEXTS)


class Custom:
    spec = OperatorSpec(
        slot="custom",
        class_name="Custom",
        arguments=texts("input", "instruction"),
        results={"response": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Follows your own instruction on the input.",
        prompts={"main": Prompt("You solve a step of a {subject}. Follow the instruction on the input. {form}")},
    )

    async def run(self, context: OperatorContext, input: str, instruction: str) -> Result:
        return {"response": await context.ask({"instruction": instruction, "input": input})}


class AnswerGenerate:
    spec = OperatorSpec(
        slot="answer_generate",
        class_name="AnswerGenerate",
        arguments=texts("input"),
        results={"thought": Kind.TEXT, "answer": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Thinks step by step, then gives a short answer.",
        prompts={
            "main": Prompt(
                "You answer a {subject}. Think step by step, then reply with <thought>your "
                "reasoning</thought><answer>the short final answer</answer>.",
                simulated_as="answer_generate",
            )
        },
    )

    async def run(self, context: OperatorContext, input: str) -> Result:
        text = await context.ask({"input": input})
        if text and answer_in(without_thinking(text)) is None:
            context.unparsed("answer")
        thought, answer = thought_and_answer(text)
        return {"thought": thought, "answer": answer}


class CustomCodeGenerate:
    spec = OperatorSpec(
        slot="custom_code_generate",
        class_name="CustomCodeGenerate",
        arguments=texts("problem", "entry_point", "instruction"),
        results={"response": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Writes the function named by entry_point.",
        domains=("code",),
        prompts={
            "main": Prompt(
                "You write Python code. Follow the instruction and define the function named in "
                "entry_point. Reply with the complete, self-contained code in one ```python fence.",
                simulated_as="custom_code_generate",
            )
        },
    )

    async def run(self, context: OperatorContext, problem: str, entry_point: str, instruction: str) -> Result:
        entry_point = context.entry_point or entry_point
        text = await context.ask({"instruction": instruction, "problem": problem, "entry_point": entry_point})
        return {"response": context.program(text)}


class Programmer:
    spec = OperatorSpec(
        slot="programmer",
        class_name="Programmer",
        arguments=(Argument(name="problem"), Argument(name="analysis", default="")),
        results={"code": Kind.TEXT, "output": Kind.TEXT},
        min_calls=1,
        max_calls=3,
        description="Writes a Python function solve(), runs it, fixes it with the traceback; output is its result.",
        runs_code=True,
        domains=("math",),
        prompts={
            "main": Prompt(
                "You solve the problem by a program. Write self-contained Python that defines solve()"
                " without arguments; it returns the final answer. No input, no files, no network. If "
                "code and error are given, mend the code. Reply with one ```python fence.",
                simulated_as="programmer",
            )
        },
    )

    async def run(self, context: OperatorContext, problem: str, analysis: str) -> Result:
        """Write, run, and fix with the error, at most three times; no output where no program gave one."""
        sections = {"problem": problem, "analysis": analysis}
        source = ""
        for _ in range(self.spec.max_calls):
            source = solving_program(await context.ask(sections))
            worked, outcome = await context.solve(source)
            if worked:
                return {"code": source, "output": outcome}
            sections = {"problem": problem, "analysis": analysis, "code": source, "error": outcome}
        context.note("no program gave a result")
        return {"code": source, "output": ""}


class Test:
    spec = OperatorSpec(
        slot="test",
        class_name="Test",
        arguments=texts("problem", "solution", "entry_point"),
        results={"result": Kind.FLAG, "solution": Kind.TEXT, "n_tests": Kind.COUNT},
        min_calls=0,
        max_calls=3,
        description="Runs the public tests on the solution and fixes it while they fail.",
        runs_code=True,
        domains=("code",),
        ignored=("test_loop",),
        prompts={
            "main": Prompt(
                "The solution failed a public test. Work out why from the error and mend it, keeping "
                "the name in entry_point. Reply with the complete corrected code in one ```python "
                "fence.",
                simulated_as="test",
            )
        },
    )

    async def run(self, context: OperatorContext, problem: str, solution: str, entry_point: str) -> Result:
        """Public tests only; the task's own entry point wins over what the workflow says, since the tests name it."""
        num_tests = context.num_public_tests
        if not num_tests:
            return {"result": False, "solution": solution, "n_tests": 0}
        entry_point = context.entry_point or entry_point
        candidate = context.program(solution)
        passed, error = await context.passes(candidate, entry_point)
        for _ in range(self.spec.max_calls):
            if passed:
                break
            sections = {"problem": problem, "entry_point": entry_point, "solution": candidate, "error": error}
            solution = candidate = context.program(await context.ask(sections)) or candidate
            passed, error = await context.passes(candidate, entry_point)
        return {"result": passed, "solution": solution, "n_tests": num_tests}


class ScEnsemble:
    spec = OperatorSpec(
        slot="sc_ensemble",
        class_name="ScEnsemble",
        arguments=(_SOLUTIONS, Argument(name="problem", default="")),
        results={"response": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Picks the candidate that agrees best with the others (self-consistency).",
        prompts={
            "main": Prompt(
                "Several candidate solutions are given, each with an id. Pick the one whose answer is"
                " the most consistent with the others. Reply with its id only, as <choice>B</choice>.",
                simulated_as="sc_ensemble",
            )
        },
    )

    async def run(self, context: OperatorContext, solutions: list[str], problem: str) -> Result:
        if not solutions:
            context.note("no candidates")
            return {"response": ""}
        index = context.pick(await context.ask({"problem": problem}, solutions), solutions)
        return {"response": solutions[index or 0]}


class MdEnsemble:
    spec = OperatorSpec(
        slot="md_ensemble",
        class_name="MdEnsemble",
        arguments=(_SOLUTIONS, Argument(name="problem")),
        results={"solution": Kind.TEXT},
        min_calls=5,
        max_calls=5,
        description="Five votes over shuffled candidates pick the best one.",
        ignored=("mode",),
        prompts={
            "main": Prompt(
                "Several candidate solutions of a problem are given, each with an id. Compare them "
                "carefully and pick the best one. Reply with its id only, as <choice>B</choice>.",
                simulated_as="md_ensemble",
            )
        },
    )

    async def run(self, context: OperatorContext, solutions: list[str], problem: str) -> Result:
        if not solutions:
            context.note("no candidates")
            return {"solution": ""}
        draw = context.random()
        orders = [draw.sample(range(len(solutions)), len(solutions)) for _ in range(self.spec.max_calls)]
        texts = await context.ask_at_once([[solutions[i] for i in order] for order in orders], {"problem": problem})
        picks = [(order, context.pick(text, solutions)) for order, text in zip(orders, texts, strict=True)]
        votes = Counter(order[pick] for order, pick in picks if pick is not None)
        if not votes:
            return {"solution": solutions[0]}
        most = max(votes.values())
        return {"solution": solutions[min(index for index, count in votes.items() if count == most)]}


class MajorityVote:
    spec = OperatorSpec(
        slot="majority_vote",
        class_name="MajorityVote",
        arguments=(_SOLUTIONS,),
        results={"response": Kind.TEXT, "agreement": Kind.SHARE},
        min_calls=0,
        max_calls=0,
        description="Picks the most frequent candidate by its normalised answer; costs nothing.",
    )

    async def run(self, context: OperatorContext, solutions: list[str]) -> Result:
        keys = [context.normalised(solution) for solution in solutions]
        if not keys:
            context.note("no candidates")
            return {"response": "", "agreement": 0.0}
        key, count = Counter(keys).most_common(1)[0]  # the first of equals: Counter keeps the order of arrival
        return {"response": solutions[keys.index(key)], "agreement": count / len(keys)}


class Review:
    spec = OperatorSpec(
        slot="review",
        class_name="Review",
        arguments=texts("problem", "solution"),
        results={"review_result": Kind.FLAG, "feedback": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Says whether the solution looks right, with feedback.",
        ignored=("mode",),
        prompts={
            "main": Prompt(
                "You review a solution of a {subject}. Check it step by step; say false only if you "
                "are sure that it is wrong. Reply with <verdict>true</verdict> or "
                "<verdict>false</verdict>, then <feedback>what to mend</feedback>.",
                simulated_as="review",
            )
        },
    )

    async def run(self, context: OperatorContext, problem: str, solution: str) -> Result:
        right, feedback = verdict(await context.ask({"problem": problem, "solution": solution}))
        if right is None:
            context.unparsed("verdict")
        return {"review_result": right is not False, "feedback": feedback}


class Revise:
    spec = OperatorSpec(
        slot="revise",
        class_name="Revise",
        arguments=texts("problem", "solution", "feedback"),
        results={"solution": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Improves the solution by the feedback.",
        ignored=("mode",),
        prompts={"main": Prompt("You revise a solution of a {subject} by the feedback. {form}", simulated_as="revise")},
    )

    async def run(self, context: OperatorContext, problem: str, solution: str, feedback: str) -> Result:
        """A maths or qa answer never becomes code: where the reply is a program, the solution stays as it was."""
        text = await context.ask({"problem": problem, "solution": solution, "feedback": feedback})
        if not text:
            return {"solution": solution}
        if context.domain == "code":
            return {"solution": context.program(text)}
        if looks_like_code(text):
            context.note("reply was code")
            return {"solution": solution}
        return {"solution": text}


class Format:
    spec = OperatorSpec(
        slot="format",
        class_name="Format",
        arguments=texts("problem", "solution"),
        results={"solution": Kind.TEXT},
        min_calls=1,
        max_calls=1,
        description="Reduces the solution to the bare short answer.",
        ignored=("mode",),
        prompts={
            "main": Prompt(
                "You extract the final answer of a {subject} from its solution. Reply with the bare "
                "short answer and nothing else: no sentence, no explanation.",
                simulated_as="format",
            )
        },
    )

    async def run(self, context: OperatorContext, problem: str, solution: str) -> Result:
        return {"solution": short_answer(await context.ask({"problem": problem, "solution": solution}))}


BUILT_IN: tuple[Operator, ...] = (
    Custom(),
    AnswerGenerate(),
    CustomCodeGenerate(),
    Programmer(),
    Test(),
    ScEnsemble(),
    MdEnsemble(),
    MajorityVote(),
    Review(),
    Revise(),
    Format(),
)
"""In the order in which prompt and table show them."""
