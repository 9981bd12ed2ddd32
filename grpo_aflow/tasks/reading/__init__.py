"""Finding the answer in what a model wrote: the final answer of a text, or its program. Nothing is judged.

`final_answer` begins mathematics (`quantities` and `units` read a number, `notation` gives one spelling), `code_answer`
begins code (`code_blocks` finds it, `code_joining` completes it, `source_code` looks at syntax trees).
"""
