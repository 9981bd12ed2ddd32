"""Imported first by the process that `commands` forks from, since it imports what is heavy."""

import gc

from grpo_aflow.run.resources import STARTING

gc.set_threshold(STARTING)
