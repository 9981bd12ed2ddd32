"""Whether two answers in LaTeX say the same: each is parsed whole or not at all, then compared by value.

Begin with `equality`. `reader` and `expressions` are the parser (over `tokens`, building `nodes`; `python_values` reads
what a program printed), `leaves`, `values`, `relations`, `real_sets` and `vectors` what is compared; `pool` and
`worker` compare as AFlow's scorer does, with sympy in a process of its own.
"""
