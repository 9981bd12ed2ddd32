"""From a policy's text to a `program.Workflow`, or to findings. Pure. Begin with `check`.

`extract` finds the source in the text, `validate` checks it, `repair` applies the repairs that its diagnoses carry.
Validation reads what stands around `__call__` (`header`, `slots`) into an `Outline`, gathers facts of names (`facts`,
`lengths`), and walks the body once (`Walk`): statements in `flow`, expressions in `expressions`, `names` and `calls`.
"""
