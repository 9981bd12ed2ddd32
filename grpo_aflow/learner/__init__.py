"""The learner: LoRA weights, losses, publishing, and the base model that a run starts from."""

import os

# On the CPU the learner shares its cores with the sampler: a thread that waits for the others spins for some
# microseconds and then gives its core back. GNU's OpenMP reads this when torch is first imported; its default is to
# spin for milliseconds, which costs a run with both at work about a tenth and a learner alone nothing.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
