"""Situations that operators of long runs meet, by kind: what is done, and what is to come of it.

The rows of a kind go through the same code up to the message, so all are played in one process, and one row of each
(IN_OWN_PROCESS) to the installed command as well.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from run_cases import SMALL

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Situation:
    kind: str
    name: str
    arguments: tuple[str, ...]
    says: str  # a part of the line
    code: int = 2
    script: str = "train"
    prepare: Callable[[Path], None] = lambda run: None  # damage to a copy of a finished run, or of a model folder
    environment: dict[str, str] = field(default_factory=dict)
    changes: bool = False  # whether files of the folder may change


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
    bad("lora.rnak=8", says="lora.rnak"),
    bad("+lora.rnak=8", says="did you mean lora.rank?"),
    bad("+foo=1", says="foo: unknown key"),
    bad("foo=1", says="Could not override 'foo'"),
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
    bad("policy=checkpoint", "policy.path=/no/such", "sampler=hf", says="holds no adapter", script="eval"),
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


def write(name, content):
    return lambda run: (run / name).write_text(content)


def cut(name, share):
    def prepare(run):
        content = (run / name).read_bytes()
        (run / name).write_bytes(content[: int(len(content) * share)])

    return prepare


def cut_at_a_line(name, share):
    def prepare(run):
        lines = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join(lines[: int(len(lines) * share)]))

    return prepare


def insert(name, line):
    def prepare(run):
        lines = (run / name).read_text().splitlines(keepends=True)
        (run / name).write_text("".join([*lines[:2], line + "\n", *lines[2:]]))

    return prepare


def every_checkpoint(damage):
    def prepare(run):
        for folder in (run / "checkpoints").glob("step_*"):
            damage(folder)

    return prepare


def later_schema(run):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "schema": 99}))


def resumed(name, *arguments, says, prepare=lambda run: None, resume="RUN", **more):
    return Situation(
        kind="resuming",
        name=name,
        arguments=(f"resume={resume}", *arguments),
        says=says,
        prepare=prepare,
        **more,
    )


NOT_WHOLE = "is whole (step_000003: "
RESUME = [
    resumed("an empty config.yaml", says="config.yaml is damaged (it is empty)", prepare=write("config.yaml", "")),
    resumed("a cut config.yaml", says="config.yaml", prepare=cut("config.yaml", 0.5)),
    resumed("a config.yaml cut at a line", says="is damaged (it has no", prepare=cut_at_a_line("config.yaml", 0.5)),
    resumed("a config.yaml that is a list", says="config.yaml is damaged", prepare=write("config.yaml", "- 1\n")),
    resumed("a config.yaml that is no YAML", says="cannot be read", prepare=write("config.yaml", "a: [1\n")),
    resumed("a config.yaml that is binary", says="cannot be read", prepare=write("config.yaml", "\x00\x01\n")),
    resumed("no config.yaml", says="is not a run folder", prepare=lambda run: (run / "config.yaml").unlink()),
    resumed(
        "a damaged manifest", says="manifest.json cannot be read", prepare=write("manifest.json", '{"status": "do')
    ),
    resumed("an empty manifest", says="manifest.json cannot be read", prepare=write("manifest.json", "")),
    resumed("a manifest that is a list", says="manifest.json cannot be read", prepare=write("manifest.json", "[1]")),
    resumed("a run of a later version", says="by a later version of grpo-aflow (schema 99)", prepare=later_schema),
    resumed("no such folder", says="there is no such folder", resume="/no/such/run"),
    resumed("the folder above all runs", says="the newest below it: RUN", resume="RUN/.."),
    resumed(
        "a checkpoint's folder",
        says="lies in the run folder RUN: resume=RUN resume_from=3",
        resume="RUN/checkpoints/step_000003",
    ),
    resumed("an adapter's folder", says="lies in the run folder RUN", resume="RUN/checkpoints/step_000003/adapter"),
    resumed("a file of the run", says="lies in the run folder RUN", resume="RUN/metrics.jsonl"),
    resumed("a training as an evaluation", says="grpo-aflow-train resume=RUN", script="eval"),
    resumed("every learner.pt cut", says=NOT_WHOLE, prepare=every_checkpoint(cut("learner.pt", 0.9))),
    resumed("every learner.pt gone", says=NOT_WHOLE, prepare=every_checkpoint(lambda c: (c / "learner.pt").unlink())),
    resumed(
        "every adapter empty", says=NOT_WHOLE, prepare=every_checkpoint(write("adapter/adapter_model.safetensors", ""))
    ),
    resumed("every extra.json changed", says=NOT_WHOLE, prepare=every_checkpoint(write("extra.json", "{}"))),
    resumed("every checkpoint.json torn", says=NOT_WHOLE, prepare=every_checkpoint(cut("checkpoint.json", 0.5))),
    resumed("every checkpoint.json empty", says=NOT_WHOLE, prepare=every_checkpoint(write("checkpoint.json", "{}"))),
    resumed(
        "every checkpoint empty", says=NOT_WHOLE, prepare=every_checkpoint(lambda c: (shutil.rmtree(c), c.mkdir()))
    ),
    resumed(
        "no checkpoints any more",
        says="has no checkpoint any more",
        prepare=lambda run: shutil.rmtree(run / "checkpoints"),
    ),
    resumed("a step that was not saved", "resume_from=7", says="has no checkpoint of that step; it has step 2, 3"),
    resumed(
        "a damaged one, named",
        "resume_from=3",
        says="learner.pt is not as it was written",
        prepare=cut("checkpoints/step_000003/learner.pt", 0.9),
    ),
    resumed("another learning rate", "schedule.learning_rate=1", says="resume_with=[schedule.learning_rate]"),
    resumed("another model", "model=qwen25_7b", says="resume_with=[model]"),
    resumed("another group's option", "lora=r8", says="resume_with=[lora]"),
    resumed("a key added", "+executor.extra_body.a=1", says="resume_with=[executor.extra_body.a]"),
    resumed("an experiment", "experiment=seed_7b", says="name single keys"),
    resumed("a key that is none", "resume_with=[lora.rnak]", says="resume_with: lora.rnak is no key"),
    resumed(
        "a bad value", "schedule.num_steps=0", "resume_with=[schedule.num_steps]", says="schedule.num_steps must be"
    ),
    resumed(
        "a bad line in metrics.jsonl",
        says="metrics.jsonl, line 3, cannot be read",
        prepare=insert("metrics.jsonl", "{"),
    ),
    resumed(
        "a bad line in rollouts.jsonl",
        says="rollouts.jsonl, line 3, cannot be read",
        prepare=insert("rollouts.jsonl", '{"a'),
    ),
    resumed(
        "a line that is no object",
        says="rollouts.jsonl, line 3, cannot be read",
        prepare=insert("rollouts.jsonl", "[]"),
    ),
    resumed(
        "a line without its step",
        says="line 3, cannot be read (it has no 'step')",
        prepare=insert("rollouts.jsonl", "{}"),
    ),
    resumed(
        "zeros after a power cut",
        says="rollouts.jsonl, line 3, cannot be read",
        prepare=insert("rollouts.jsonl", "\0" * 9),
    ),
    resumed(
        "a damaged evaluation",
        says="step_000000.json cannot be read",
        prepare=cut("evaluations/step_000000.json", 0.5),
        changes=True,
    ),
    resumed(
        "an empty evaluation",
        says="step_000000.json has no",
        prepare=write("evaluations/step_000000.json", "{}"),
        changes=True,
    ),
]


def model(name, says, prepare, *more):
    arguments = (
        "model=qwen25_coder_05b",
        "model.path=MODEL",
        "model.max_model_len=512",
        "warmstart=none",
        *SMALL,
        *more,
    )
    return Situation(kind="model folders", name=name, arguments=arguments, says=says, prepare=prepare)


def edit(name, **changes):
    def prepare(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({k: v for k, v in {**content, **changes}.items() if v is not None}))

    return prepare


def template(text):
    def prepare(folder):
        edit("tokenizer_config.json", chat_template=text)(folder)
        (folder / "chat_template.jinja").unlink(missing_ok=True)
        if text is not None:
            (folder / "chat_template.jinja").write_text(text)

    return prepare


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
MODELS = [
    model("weights that are a Git LFS pointer", "is a Git LFS pointer", write("model.safetensors", POINTER)),
    model("cut weights", "it was cut; copy or download it again", cut("model.safetensors", 0.5)),
    model("empty weights", "is no whole safetensors file", write("model.safetensors", "")),
    model("no weights", "holds no weights", lambda f: (f / "model.safetensors").unlink()),
    model("a missing shard", "has no model-00001-of-00002.safetensors", write("model.safetensors.index.json", INDEX)),
    model("no config.json", "holds no config.json", lambda f: (f / "config.json").unlink()),
    model("a config.json that is a pointer", "config.json cannot be read", write("config.json", POINTER)),
    model("an unknown type", "cannot build the model", edit("config.json", model_type="nope", architectures=["Nope"])),
    model("no tokenizer", "holds no tokenizer", lambda f: (f / "tokenizer.json").unlink()),
    model("a cut tokenizer", "the tokenizer in", cut("tokenizer.json", 0.5)),
    model("no chat template", "has no chat template", template(None)),
    model("a broken chat template", "the chat template of the tokenizer", template("{% for m in %}")),
    model("a context too small", "raise model.max_model_len", lambda f: None, "model.max_model_len=64"),
    model("a context beyond the model's", "set model.max_model_len=", lambda f: None, "model.max_model_len=9999999"),
]
SITUATIONS = [*CONFIG, *REWARDS, *RESUME, *MODELS]
IN_OWN_PROCESS = [CONFIG[0], REWARDS[0], RESUME[0], MODELS[0]]
