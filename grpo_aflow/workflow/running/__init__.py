"""The interpreter: runs a `program.Workflow` on a task, without executing it as Python. Begin with `interpret`.

An `Evaluator` holds one execution: `statements` executes, `expressions` and `calls` evaluate, `values` and `builtins`
compute on plain data under a meter. An operator call goes through `operate`, which gives the operator a `context`.
"""
