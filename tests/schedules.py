"""A schedule made by hand, for tests that change one thing of it."""

from grpo_aflow.config.groups import Decay, Schedule


def schedule(**changes):
    values = {
        "num_steps": 12, "prompts_per_step": 4, "group_size": 4, "learning_rate": 1.0, "warmup_steps": 2,
        "decay": Decay.linear, "max_staleness": 0, "refill": 0, "group_deadline_s": None, "log_every": 1,
        "save_every": 5, "eval_every": 0, "keep_checkpoints": 2,
    }  # fmt: skip
    return Schedule(**{**values, **changes})
