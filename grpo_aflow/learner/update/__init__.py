"""An optimizer step: from scores of a group's completions to gradients, from gradients to new weights.

In the data's way: `groups` (which rows count), `surrogates` and `losses` (what is minimised; the options are in
`objectives`), `gradients` (forward and backward of one group), `accumulation` (the groups of a step), `ranks`,
`optimizer` with its `loss_scale`, and `step_stats` (what is reported). `learner` calls them.
"""
