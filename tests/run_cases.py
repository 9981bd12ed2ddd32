"""The overrides of a small but complete run, every part real, and what one looks at in its folder."""

import resource
from contextlib import contextmanager

from grpo_aflow.run.files import read_jsonl

PROMPTS_A_STEP, GROUP_SIZE = 2, 4
ROLLOUTS_A_STEP = PROMPTS_A_STEP * GROUP_SIZE
SMALL = (
    "sampler=hf",
    "sandbox.num_servers=1",
    "sandbox.packages=[]",  # which take their time to load, and the simulated endpoint's programs import none
    "schedule=short",
    "schedule.num_steps=3",
    f"schedule.prompts_per_step={PROMPTS_A_STEP}",
    f"schedule.group_size={GROUP_SIZE}",
    "schedule.save_every=1",
    "eval.datasets=[gsm8k,hotpotqa,humaneval]",  # a task of each domain
    "eval.max_tasks_per_dataset=1",
    "eval.samples=2",
)
NOT_REPEATABLE = ("time/", "throughput/", "cost/cached_calls", "gate/", "resources/")


def only_run(root):
    [manifest] = root.rglob("manifest.json")
    return manifest.parent


def in_runs(root, path):
    """What the runs in `root` (their `paths.runs`) have at this path, while they write: enters nothing that may go."""
    return list(root.glob(f"*/*/{path}"))


def metrics_of(run):
    lines = list(read_jsonl(run / "metrics.jsonl"))
    return [{k: v for k, v in line.items() if not k.startswith(NOT_REPEATABLE)} for line in lines]


def adapter_of(run, step):
    return (run / f"checkpoints/step_{step:06d}/adapter/adapter_model.safetensors").read_bytes()


@contextmanager
def file_size_limit(num_bytes):
    """No file of this process may grow beyond this: writes are cut short, then refused, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
