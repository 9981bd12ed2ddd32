"""The tiny policy and a published model, prepared as a run would: what the tests of `learner.models` share."""

from dataclasses import replace

from learner_cases import settings, spec

from grpo_aflow.learner.models import Preparation, Pretrained, TinyPolicy
from grpo_aflow.learner.warmstart import ReferenceWorkflows
from grpo_aflow.run.cards import Placement
from grpo_aflow.sampler.tokenizer import ChatTokenizer

TINY = TinyPolicy(
    vocab_size=512,
    hidden_size=32,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    intermediate_size=64,
    max_model_len=256,
    seed=0,
    device="cpu",
    dtype="float32",
    cpu_threads=1,
)
PRETRAINED = Pretrained(
    path="/no/such/folder",
    revision=None,
    max_model_len=256,
    enable_thinking=False,
    device="cpu",
    dtype="float32",
    cpu_threads=1,
)
WARM = ReferenceWorkflows(num_steps=3, batch_size=4, learning_rate=3e-3, preference=0.2, seed=0)


def compact(task):
    return [{"role": "user", "content": f"{task.domain} {task.dataset}\n"}]


LEARNER = settings(logits_chunk=64)


def prepare(model, cache, warmstart=WARM, prompts=compact, *, progress=lambda what, done, total: None, **changes):
    steps: list[int] = []

    def count(what, done, total):
        steps.append(done)
        progress(what, done, total)

    asked = Preparation(
        warmstart=warmstart,
        lora=spec(),
        learner=LEARNER,
        prompts=prompts,
        tasks=[],
        read_tokenizer=ChatTokenizer,
        progress=count,
        max_tokens=32,
        placement=Placement(learner="cpu", sampler="cpu"),
    )
    return model.prepare(cache, replace(asked, **changes)), steps


def cut(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
