"""From a task and an answer to a `types.Grade`: maths, question answering, code, and the tiers.

`grader` says what a grader is; `math_grading`, `qa_grading` and `code_grading` hold those of their kind, and each
dataset names its own.
"""
