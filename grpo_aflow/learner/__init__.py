"""The learner: LoRA weights, losses, publishing, and the base model that a run starts from."""

import os

# On the CPU the learner shares its cores with the sampler: a thread that waits for the others spins for some
# microseconds and then gives its core back. GNU's OpenMP reads this when torch is first imported; its default is to
# spin for milliseconds (figures in experiments/step_speed).
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
