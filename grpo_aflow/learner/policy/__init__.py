"""The forward pass: from a prompt and its completions to log-probabilities. Start with `model`.

`base` loads the frozen model and `adapter` puts LoRA on it: `adapted_linear` with the seeded `dropout`, beside which
`feed_forward` keeps less for its backward. `packing` lays tokens out so that a prompt is computed once for its
completions, by way of `attention`, `continued` and `kernels` (which `kernel_check` tries on a card); `head` turns
hidden states into scores, a chunk at a time. `rows` cuts micro-batches.
"""
