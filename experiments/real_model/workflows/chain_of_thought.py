class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.llm = create_llm_instance(llm_config)
        self.custom = operator.Custom(self.llm)

    async def __call__(self, problem):
        solution = await self.custom(
            input=problem, instruction="Solve it step by step. Put the final answer into \\boxed{}."
        )
        return solution["response"]
