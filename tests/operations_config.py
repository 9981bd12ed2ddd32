"""Command lines and rewards that cannot work."""

from operations import Situation

GROUPS = [
    "model",
    "lora",
    "objective",
    "learner",
    "sampler",
    "schedule",
    "data_mix",
    "prompt",
    "workflow",
    "executor",
    "sandbox",
    "reward",
    "warmstart",
    "eval",
    "logger",
]


def bad(*arguments, says, kind="config", name="", **more):
    """A command line with these arguments, which names the row where it has no other name."""
    return Situation(kind=kind, name=name or " ".join(arguments), arguments=arguments, says=says, **more)


CONFIG = [
    *(bad(f"~{group}", says=f"{group}: must be chosen") for group in GROUPS),
    *(bad(f"{group}=null", says="must be a string or a list") for group in GROUPS),
    *(bad(f"{group}=nope", says=f"Could not find '{group}/nope' Available options in '{group}': ") for group in GROUPS),
    *(bad(f"name={name}", says="is the last part of the run folder's name") for name in ("a/b", "..", "", ".a", "-a")),
    *(bad(f"seed={seed}", says="seed") for seed in ("-1", "4294967296", "1.5", "abc", "null")),
    bad("warmstart.seed=-1", says="warmstart.seed=-1: a seed must be from 0"),
    bad("sampler.temperature=0", says="give a temperature above 0"),
    bad("sampler.final_temperature=0", says="give a temperature above 0"),
    bad("sampler.temperature=nan", says="sampler.temperature"),
    bad("schedule.learning_rate=1e30", says="schedule.learning_rate must be"),
    bad("schedule.learning_rate=nan", says="schedule.learning_rate must be"),
    bad("schedule.learning_rate=-1", says="schedule.learning_rate must be"),
    bad("schedule.group_size=1", says="schedule.group_size must be at least 2"),
    bad("schedule.num_steps=0", says="schedule.num_steps must be at least 1"),
    bad("schedule.num_steps=many", says="schedule.num_steps=many"),
    *(bad(f"{sign}lora.rnak=8", says="lora.rnak: unknown key; did you mean lora.rank?") for sign in ("", "+", "++")),
    *(bad(f"{sign}foo=1", says="foo: unknown key; known keys: ") for sign in ("", "+")),
    bad("-m", "lora.rnak=8,16", says="lora.rnak: unknown key; did you mean lora.rank?"),
    bad(
        "-m",
        "hydra/sweeper=tpe",
        "schedule.learning_rat=interval(1e-3,1e-2)",
        says="schedule.learning_rat: unknown key; did you mean schedule.learning_rate?",
    ),
    bad("eval.smaples=1", says="eval.smaples: unknown key; did you mean eval.samples?", script="eval"),
    bad("lora.rank=[1", says="no viable alternative"),
    bad("lora.rank=", says="lora.rank"),
    bad("model=[tiny,qwen3_8b]", says="model."),
    bad("executor.max_usd=-1", says="executor.max_usd"),
    bad("resume_from=3", says="of which run? give its folder, too: resume=..."),
    bad("model=qwen25_7b", "model.path=/no/such/folder", says="no folder /no/such/folder here"),
    bad("model=qwen25_7b", "model.path=~/no/such/folder", says="no/such/folder here"),
    bad("paths.runs=/proc/here", says="cannot write a run folder under /proc/here"),
    bad("paths.runs=/dev/null/here", says="cannot write a run folder under /dev/null/here"),
    bad("logger=wandb", says="WANDB_MODE=nope: must be one of", environment={"WANDB_MODE": "nope"}),
    *(bad(f"~{group}", says=f"{group}: must be chosen", script="eval") for group in ("policy", "executor", "eval")),
    *(
        bad(f"{group}=nope", says=f"'{group}/nope' Available", script="eval")
        for group in ("policy", "executor", "eval")
    ),
    bad("name=a/b", says="is the last part of the run folder's name", script="eval"),
    bad("seed=-1", says="a seed must be from 0", script="eval"),
    bad("eval=none", says="eval.datasets is empty", script="eval"),
    bad("policy=checkpoint", "policy.path=/no/such", "sampler=hf", says="there is no such folder", script="eval"),
    bad("policy=fixed", "policy.path=/no/such.py", says="/no/such.py", script="eval"),
]


def rubric(name, says):
    return bad(
        "reward=binary", f"reward._target_=own_rubrics.{name}", says=says, kind="rewards", name=f"a rubric: {name}"
    )


REWARDS = [
    rubric("Nan", "Nan.base gives nan"),
    rubric("Infinite", "Infinite.base gives inf"),
    rubric("Words", "Words.base gives 'good'"),
    rubric("Nothing", "Nothing.base gives None"),
    rubric("Fails", "Fails.base fails on Grade"),
    rubric("Missing", "cannot be imported"),
]
