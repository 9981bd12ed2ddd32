"""The learner: a base model is prepared, its adapter trained on groups of completions, every version published.

In: a config's `model`, `warmstart`, `lora`, `objective` and `learner`, then `TrainingGroup`s. Out: a prepared model,
log-probabilities, the figures of each step, adapters in PEFT's format, checkpoints. Start with `worker` (what a run
calls) and `learner` (what it does).

The config groups stand at the top and load without torch: `models`, `warmstart`, `lora`, `objectives`, `settings`.
`preparation/`: tokenizer, warm start, cache. `policy/`: the forward pass, from tokens to log-probabilities. `update/`:
losses, gradients and the optimizer. `memory/`: the plan of what fits. `storage/`: adapters and checkpoints on disk.
"""

import os

# On the CPU the learner shares its cores with the sampler: a thread that waits for the others spins for some
# microseconds and then gives its core back. GNU's OpenMP reads this when torch is first imported; its default is to
# spin for milliseconds (figures in experiments/step_speed).
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
