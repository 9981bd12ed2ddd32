"""The datasets: one module each, which says where the rows are, how a row becomes a task, and how it is graded.

Begin with `dataset`; `registry` names them; `own` reads tasks from a user's file.
"""
