"""TRL's asynchronous side of the step benchmark: its AsyncGRPOTrainer with LoRA on workload W1, beside a vLLM server.

`python theirs_async.py FOLDER STALENESS PYTHON_WITH_VLLM` reads `block N` from stdin, trains N steps and answers with a
line of JSON. Runs in a virtual environment of TRL's own; the server is vLLM's CPU build without any plugin of ours.

Four things are not as shipped. It wants vLLM beside it and only talks HTTP to it, so it is told that it is there.
Its tree attention calls a CUDA kernel from the hub (flash-attn3); here torch's own
attention computes the same segments on the CPU (`SegmentsOnCpu`). It asks for the name of a CUDA device to compute an
MFU; here it computes none. And what works in the background is stopped between blocks, so that it takes nothing from
the other sides' turns.
"""

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
import types
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")

import asyncio
import contextlib
import itertools

from theirs import COMPLETION_TOKENS, GROUP, PROMPT_TOKENS, PROMPTS, WAIT_S, Blocks

WARM_UP = 1  # steps of a block that are left out besides those in which the pipeline fills


async def wait_and_toss(prompts, **_):
    """The reward function: each of a group's executions waits its time, all at once; then a coin for each."""
    await asyncio.gather(*(asyncio.sleep(WAIT_S * random.lognormvariate(-0.125, 0.5)) for _ in prompts))
    return [float(random.random() < 0.5) for _ in prompts]


class SegmentsOnCpu:
    """Stands in for flash-attn3: attention of each segment's queries over the keys of its path, causal at the end."""

    @staticmethod
    def flash_attn_varlen_func(query, key, value, cu_q, cu_k, max_q, max_k, *, softmax_scale, causal, window_size):
        import torch
        from torch.nn.functional import scaled_dot_product_attention

        assert causal
        assert window_size == (-1, -1)
        outputs = []
        bounds = (cu.tolist() for cu in (cu_q, cu_k))
        q_bounds, k_bounds = (list(itertools.pairwise(ends)) for ends in bounds)
        for (q0, q1), (k0, k1) in zip(q_bounds, k_bounds, strict=True):
            parts = (part.transpose(0, 1)[None] for part in (query[q0:q1], key[k0:k1], value[k0:k1]))
            whole = q1 - q0 == k1 - k0
            mask = None if whole else torch.ones(q1 - q0, k1 - k0, dtype=torch.bool).tril((k1 - k0) - (q1 - q0))
            out = scaled_dot_product_attention(
                *parts, attn_mask=mask, is_causal=whole, scale=softmax_scale, enable_gqa=True
            )
            outputs.append(out[0].transpose(0, 1))
        return torch.cat(outputs)


def conversation(tokenizer, seed):
    """A user's message which the chat template makes exactly PROMPT_TOKENS tokens of."""
    draw, text = random.Random(seed), ""

    def length():
        message = [{"role": "user", "content": text}]
        return len(tokenizer.apply_chat_template(message, add_generation_prompt=True, return_dict=False))

    while length() < PROMPT_TOKENS:
        text += draw.choice("0123456789@#$%&*")
    while length() > PROMPT_TOKENS:
        text = text[:-1]
    return [{"role": "user", "content": text}]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(python, base, port, staleness, log):
    """vLLM's OpenAI server on one core, with room for the versions that may be under way."""
    command = [
        python, "-m", "vllm.entrypoints.openai.api_server", "--model", str(base), "--host", "127.0.0.1",
        "--port", str(port), "--dtype", "float32", "--max-model-len", "1024", "--enable-lora", "--max-lora-rank", "16",
        "--max-loras", str(staleness + 2), "--max-num-seqs", "64",
    ]  # fmt: skip
    environment = os.environ | {
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_SERVER_DEV_MODE": "1", "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": "1", "VLLM_PLUGINS": "none",
    }  # fmt: skip
    return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)


def make_trainer(base, folder, port, staleness, blocks):
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer
    from trl.experimental.async_grpo import (
        AsyncGRPOConfig,
        AsyncGRPOTrainer,
        async_grpo_trainer,
        async_rollout_worker,
        packing,
    )

    packing._flash_attn = lambda: types.SimpleNamespace(flash_attn_varlen_func=SegmentsOnCpu.flash_attn_varlen_func)
    async_rollout_worker.is_vllm_available = lambda *_, **__: True  # it talks HTTP to the server and imports nothing
    async_grpo_trainer.get_peak_flops_per_device = lambda *_: None  # asks for the name of a CUDA device
    torch.set_num_threads(1 if staleness > 1 else 2)  # as ours
    tokenizer = AutoTokenizer.from_pretrained(base)
    template = Path(trl.__file__).with_name("chat_templates") / "qwen2_5.jinja"  # it takes known templates alone
    tokenizer.chat_template = template.read_text()
    arguments = AsyncGRPOConfig(
        output_dir=str(folder / f"trl_async_{staleness}"),
        use_cpu=True,
        bf16=False,
        dtype="float32",
        gradient_checkpointing=False,
        per_device_train_batch_size=GROUP,
        gradient_accumulation_steps=PROMPTS,
        token_budget=2048,  # unique tokens: a row holds one whole group, 768 + 8 x 128
        num_generations=GROUP,
        max_completion_length=COMPLETION_TOKENS,
        temperature=1.0,
        learning_rate=1e-5,
        max_steps=100_000,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        vllm_server_timeout=900.0,
        heartbeat_stale_after_s=1e6,  # the worker is stopped between blocks
        vllm_server_base_url=f"http://127.0.0.1:{port}",
        max_staleness=staleness,
        queue_maxsize=PROMPTS * GROUP,  # what is generated further ahead would only grow stale
        weight_sync_steps=1,
    )
    return AsyncGRPOTrainer(
        model=str(base),
        reward_funcs=wait_and_toss,
        args=arguments,
        train_dataset=Dataset.from_dict({"prompt": [conversation(tokenizer, seed) for seed in range(64)]}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        callbacks=[blocks],
    )


def background(server):
    """All processes of the server and the rollout worker."""
    import psutil

    own = [child for child in psutil.Process().children(recursive=True) if child.pid != server.pid]
    return [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True), *own]


def tell(server, number):
    import psutil

    for process in background(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def cpu_seconds(server):
    import psutil

    return sum(sum(p.cpu_times()[:2]) for p in {psutil.Process(), *background(server)})


def main():
    folder, staleness, python = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    port = free_port()
    with (folder / f"server_{staleness}.log").open("w") as log:
        server = start_server(python, folder / "base", port, staleness, log)
    try:
        blocks = Blocks()
        trainer = make_trainer(folder / "base", folder, port, staleness, blocks)
        threading.Thread(target=trainer.train, daemon=True).start()
        blocks.done.acquire()
        tell(server, signal.SIGSTOP)
        print(json.dumps({"ready": True}), flush=True)
        for line in iter(sys.stdin.readline, ""):
            number, before = int(line.split()[1]), staleness + WARM_UP
            blocks.left = before + number
            tell(server, signal.SIGCONT)
            first, used = len(blocks.times) + before - 1, cpu_seconds(server)
            started = time.perf_counter()
            blocks.go.release()
            blocks.done.acquire()
            used, whole = cpu_seconds(server) - used, time.perf_counter() - started
            tell(server, signal.SIGSTOP)
            step_s = (blocks.times[-1] - blocks.times[first]) / number
            print(json.dumps({"time/step_s": step_s, "steps": number, "cpu_s": used / whole * step_s}), flush=True)
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        tell(server, signal.SIGCONT)
        os.killpg(server.pid, signal.SIGKILL)
        os._exit(0)


if __name__ == "__main__":
    main()
