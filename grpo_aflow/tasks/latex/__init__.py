"""Whether two answers in LaTeX say the same: each is parsed whole or not at all, then compared by value.

Begin with `equality`. `reader` and `expressions` are the parser (over `tokens`, building `nodes`), `values` and
`relations` what is compared; `pool` and `worker` compare as AFlow's scorer does, with sympy in a process of its own.
"""
