class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)
        self.majority_vote = operator.MajorityVote(self.llm)

    async def __call__(self, problem):
        calls = [
            self.custom(input=problem, instruction="Solve it step by step. Put the final answer into \\boxed{}.")
            for _ in range(5)
        ]
        solutions = [result["response"] for result in await asyncio.gather(*calls)]
        best = await self.majority_vote(solutions=solutions)
        return best["response"]
