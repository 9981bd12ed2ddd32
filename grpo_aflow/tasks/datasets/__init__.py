"""The datasets: one module each, which says where the rows are, how a row becomes a task, and how an answer is graded.

Begin with `dataset`. `registry` lists the six and finds a task's grader; `own` reads tasks from a user's file,
`own_python` finds a dataset that a user wrote in Python.
"""
