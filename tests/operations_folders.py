"""Run folders that are resumed, and model folders, that are not as they should be."""

import json
import shutil

from operations import Situation, cut, cut_at_a_line, edit, every_checkpoint, insert, later_schema, template, write
from run_cases import SMALL


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
        says="line 3, cannot be read (it has no kind)",
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
    ),
    resumed(
        "an empty evaluation",
        says="step_000000.json cannot be read (it has no scores)",
        prepare=write("evaluations/step_000000.json", "{}"),
    ),
]


PRETRAINED = ("model=qwen25_coder_05b", "model.path=MODEL", "model.max_model_len=512", "warmstart=none")
ONE_STEP = ("schedule.num_steps=1", "schedule.prompts_per_step=1", "schedule.group_size=2", "eval.datasets=[]")


def model(name, says, prepare, *more, **others):
    arguments = (*PRETRAINED, *SMALL, *more)
    return Situation(kind="model folders", name=name, arguments=arguments, says=says, prepare=prepare, **others)


SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
CHATML = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
PROMPT = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
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
    model(
        "a chat template without a system role",
        "last step: 1",
        template(SYSTEM + CHATML + PROMPT),
        *ONE_STEP,
        code=0,
        changes=True,
    ),
    model(
        "a generation_config that contradicts itself",
        "last step: 1",
        write("generation_config.json", json.dumps({"do_sample": False, "temperature": 0.6, "top_k": 5})),
        *ONE_STEP,
        code=0,
        changes=True,
    ),
    model(
        "a generation_config that is cut", "generation_config.json cannot be read", write("generation_config.json", "[")
    ),
    model("a context too small", "raise model.max_model_len", lambda f: None, "model.max_model_len=64"),
    model("a context beyond the model's", "set model.max_model_len=", lambda f: None, "model.max_model_len=9999999"),
]
