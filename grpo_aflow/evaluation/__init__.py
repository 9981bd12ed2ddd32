"""Evaluation: the same rollouts as in training on held-out tasks, then accuracy with its interval.

In: a policy (`policies`) and tasks. Out: `evaluate.Result`, a table, and `evaluation.json`. Begin with `evaluate`;
`command` is `grpo-aflow-eval`, `solve` is `grpo-aflow-solve`.
"""
