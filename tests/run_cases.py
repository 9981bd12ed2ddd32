"""The overrides of a small but complete run, every part real."""

SMALL = (
    "sampler=hf",
    "schedule=short",
    "schedule.num_steps=3",
    "schedule.prompts_per_step=3",
    "schedule.group_size=4",
    "schedule.save_every=1",
    "eval.max_tasks_per_dataset=1",
    "eval.samples=2",
)
