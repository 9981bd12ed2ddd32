"""TRL's side of the step benchmark: its GRPOTrainer on a workload, with transformers generation.

`python theirs.py FOLDER` reads `block N` from stdin, trains N steps and answers with a line of JSON. Runs in a virtual
environment of TRL's own. The executions of a step are awaited at once, as ours are: the wait is that of the slowest.
"""

import json
import os
import random
import sys
import threading
import time
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import psutil
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from workload import Workload, wait_s

DRAW = random.Random(0)
spent = {"generate_s": 0.0, "wait_s": 0.0}


def wait_and_toss(prompts, **_):
    """The reward function: waits as long as the slowest of the executions, and tosses a coin for each."""
    slowest = max(wait_s(DRAW) for _ in prompts)
    time.sleep(slowest)
    spent["wait_s"] += slowest
    return [float(DRAW.random() < 0.5) for _ in prompts]


class Blocks(TrainerCallback):
    """Lets the trainer go on for a block of steps each time it is asked to."""

    def __init__(self):
        self.left, self.times, self.go, self.done = 0, [], threading.Semaphore(0), threading.Semaphore(0)

    def on_step_begin(self, *_, **__):
        if self.left == 0:
            self.done.release()
            self.go.acquire()

    def on_step_end(self, *_, **__):
        self.times.append(time.perf_counter())
        self.left -= 1


def conversation(tokenizer, workload, seed):
    """A user's message which the chat template makes as many tokens of as the workload says."""

    def messages(text):
        return [{"role": "user", "content": text}]

    def length(text):
        return len(tokenizer.apply_chat_template(messages(text), add_generation_prompt=True, return_dict=False))

    return messages(workload.text(length, seed))


def memory_gib():
    """Resident now, of this process and its children."""
    own = psutil.Process()
    return sum(process.memory_info().rss for process in (own, *own.children(recursive=True))) / 2**30


def main():
    folder = Path(sys.argv[1])
    torch.set_num_threads(2)
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    workload = Workload.read(folder)
    if workload.instruction:
        prompts = [conversation(tokenizer, workload, seed) for seed in range(64)]
    else:
        prompts = [workload.text(lambda text: len(tokenizer(text)["input_ids"]), seed) for seed in range(64)]
    dataset = Dataset.from_dict({"prompt": prompts})
    blocks = Blocks()
    arguments = GRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=workload.group,
        gradient_accumulation_steps=workload.prompts,
        num_generations=workload.group,
        max_completion_length=workload.completion_tokens,
        beta=0.02,
        learning_rate=1e-5,
        max_steps=100_000,
        save_strategy="no",
        report_to="none",
        logging_strategy="no",
        disable_tqdm=True,
        shuffle_dataset=False,
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32),
        reward_funcs=wait_and_toss,
        args=arguments,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"]),
        callbacks=[blocks],
    )
    generate = trainer._generate

    def timed(*args, **kwargs):
        started = time.perf_counter()
        result = generate(*args, **kwargs)
        spent["generate_s"] += time.perf_counter() - started
        return result

    trainer._generate = timed
    threading.Thread(target=trainer.train, daemon=True).start()
    blocks.done.acquire()
    print(json.dumps({"ready": True}), flush=True)
    for line in iter(sys.stdin.readline, ""):
        number = int(line.split()[1])
        spent.update(generate_s=0.0, wait_s=0.0)
        blocks.left, started, used = number, time.perf_counter(), time.process_time()
        blocks.go.release()
        blocks.done.acquire()
        answer = {"time/step_s": (blocks.times[-1] - started) / number, "steps": number}
        answer["cpu_s"] = (time.process_time() - used) / number
        answer |= {key: value / number for key, value in spent.items()}
        answer["completion/mean_tokens"] = trainer._metrics["train"]["completions/mean_length"][-1]
        answer["memory_gib"] = memory_gib()
        print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
