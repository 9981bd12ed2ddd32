"""TRL's asynchronous side of the step benchmark: its AsyncGRPOTrainer with LoRA on a workload, beside a vLLM server.

`python theirs_async.py FOLDER STALENESS PYTHON_WITH_VLLM [OUR_KERNELS]` reads `block N` from stdin, trains N steps and
answers with a line of JSON. Runs in a virtual environment of TRL's own; the server is vLLM's CPU build without any
plugin of ours, or, where a fourth argument is given, with our LoRA products and cache blocks of 32 tokens.

An execution waits at the end of its own rollout, as a tool that answers would: in a reward function TRL would let the
groups wait one after another. What else is not as shipped stands in `trl_on_cpu.py`. And what works in the background
is stopped between blocks, so that it takes nothing from the other sides' turns.
"""

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
sys.path.insert(0, str(Path(__file__).parent.parent))

import psutil
import torch
import trl
import trl_on_cpu
from datasets import Dataset
from peft import LoraConfig
from theirs import Blocks, conversation, memory_gib
from transformers import AutoTokenizer
from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer
from trl.experimental.async_grpo.async_rollout_worker import AsyncRolloutWorker, _AsyncRolloutLoop
from workload import Workload, wait_s

WARM_UP = 1  # steps of a block that are left out besides those in which the pipeline fills
PATIENCE_S = 3600  # between blocks everything stands still, and a busy machine starts processes slowly
DRAW = random.Random(0)


class ExecutedRollouts(_AsyncRolloutLoop):
    """A rollout ends with its execution: a wait, and a coin for its reward."""

    _provides_rollout_reward = True

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.reward_func_names.append("coin")

    async def _generate_one(self, *args, **kwargs):
        *rollout, _ = await super()._generate_one(*args, **kwargs)
        await asyncio.sleep(wait_s(DRAW))
        return *rollout, float(DRAW.random() < 0.5)

    async def _post(self, path, payload, *args, **kwargs):
        """Without the request's seed: vLLM rewinds a seeded generator after half a prompt, which none on a CPU can."""
        return await super()._post(path, {key: payload[key] for key in payload if key != "seed"}, *args, **kwargs)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(python, base, port, staleness, our_kernels, log):
    """vLLM's OpenAI server on one core, with room for the versions that may be under way."""
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--host", "127.0.0.1",
        "--port", str(port), "--dtype", "float32", "--max-model-len", "1024", "--enable-lora", "--max-lora-rank", "16",
        "--max-loras", str(staleness + 2), "--max-num-seqs", "64", *(["--block-size", "32"] if our_kernels else []),
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1",
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": str(PATIENCE_S), "VLLM_ENGINE_READY_TIMEOUT_S": str(PATIENCE_S),
        **({"GRPO_AFLOW_CPU_LORA": "1"} if our_kernels else {"VLLM_PLUGINS": "none"}),
    }  # fmt: skip
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def make_trainer(folder, workload, port, staleness, blocks):
    trl_on_cpu.prepare()
    AsyncRolloutWorker._loop_cls = ExecutedRollouts
    AsyncRolloutWorker.__init__.__kwdefaults__["child_ready_timeout"] = PATIENCE_S
    torch.set_num_threads(1)  # the server has the other core; with two the 0.5 B model's step took 142 in place of 77 s
    base = folder / "base"
    tokenizer = AutoTokenizer.from_pretrained(base)
    template = Path(trl.__file__).with_name("chat_templates") / "qwen2_5.jinja"  # it takes known templates alone
    tokenizer.chat_template = template.read_text()
    arguments = AsyncGRPOConfig(
        output_dir=str(folder / f"trl_async_{port}"),
        use_cpu=True,
        bf16=False,
        dtype="float32",
        gradient_checkpointing=False,
        per_device_train_batch_size=workload.group,
        gradient_accumulation_steps=workload.prompts,
        token_budget=one_group(workload),
        num_generations=workload.group,
        max_completion_length=workload.completion_tokens,
        temperature=1.0,
        learning_rate=1e-5,
        max_steps=100_000,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        vllm_server_timeout=PATIENCE_S,
        request_timeout=PATIENCE_S,
        heartbeat_stale_after_s=PATIENCE_S,
        vllm_server_base_url=f"http://127.0.0.1:{port}",
        max_staleness=staleness,
        queue_maxsize=workload.rollouts,  # what is generated further ahead would only grow stale
        weight_sync_steps=1,
    )
    return AsyncGRPOTrainer(
        model=str(base),
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [conversation(tokenizer, workload, seed) for seed in range(64)]}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        callbacks=[blocks],
    )


def one_group(workload):
    """Unique tokens of a row that holds one whole group and nothing of a second one: a step takes the budget's worth of
    rows, not a number of rollouts."""
    return workload.prompt_tokens + workload.group * workload.completion_tokens + workload.completion_tokens // 2


def background(server):
    """All processes of the server and the rollout worker."""
    own = [child for child in psutil.Process().children(recursive=True) if child.pid != server.pid]
    return [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True), *own]


def tell(server, number):
    for process in background(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def cpu_seconds(server):
    return sum(sum(p.cpu_times()[:2]) for p in {psutil.Process(), *background(server)})


def num_dropped(trainer):
    """Rollouts that were sampled and thrown away, as they had grown too stale in the queue."""
    return len(trainer._metrics["train"]["sample/dropped_stale_total"])


def train(trainer, server):
    try:
        trainer.train()
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        end(server)


def end(server):
    tell(server, signal.SIGCONT)
    os.killpg(server.pid, signal.SIGKILL)
    os._exit(0)


def main():
    folder, staleness, python = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    port, our_kernels = free_port(), len(sys.argv) > 4
    with (folder / f"server_{port}.log").open("w") as log:
        server = start_server(python, folder / "base", port, staleness, our_kernels, log)
    try:
        blocks = Blocks()
        trainer = make_trainer(folder, Workload.read(folder), port, staleness, blocks)
        threading.Thread(target=train, args=(trainer, server), daemon=True).start()
        blocks.done.acquire()
        tell(server, signal.SIGSTOP)
        print(json.dumps({"ready": True}), flush=True)
        for line in iter(sys.stdin.readline, ""):
            number, before = int(line.split()[1]), staleness + WARM_UP
            blocks.left = before + number
            tell(server, signal.SIGCONT)
            first, used, stale = len(blocks.times) + before - 1, cpu_seconds(server), num_dropped(trainer)
            started = time.perf_counter()
            blocks.go.release()
            blocks.done.acquire()
            used, whole = cpu_seconds(server) - used, time.perf_counter() - started
            tell(server, signal.SIGSTOP)
            step_s = (blocks.times[-1] - blocks.times[first]) / number
            answer = {"time/step_s": step_s, "steps": number, "cpu_s": used / whole * step_s}
            answer["memory_gib"] = memory_gib()
            answer["dropped_rollouts"] = (num_dropped(trainer) - stale) / (before + number)
            print(json.dumps(answer), flush=True)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        end(server)


if __name__ == "__main__":
    main()
