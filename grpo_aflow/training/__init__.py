"""A training run: what is opened (`setup`), what runs ahead of what (`pipeline`), and how a version gets served.

In: a `config.TrainConfig`. Out: adapters, checkpoints and figures. The loop itself is `grpo_aflow.train`, the page to
begin with; `state.Training` is what it works with. `doctor` asks the same parts
beforehand whether a run would find what it needs.
"""
