"""One side of the benchmark in a process of its own: ours, or TRL's `_compute_loss`, on the same model and batch.

`python sides.py SIDE FOLDER THREADS` reads commands from stdin and answers each with a line of JSON:
    step     forward, loss, backward and optimizer: seconds, CPU seconds of all threads, loss, gradient norm
    memory   the same, with the peak of resident memory above what was resident before, in bytes
    end
TRL runs in a virtual environment of its own, so this file imports neither side at its top.
"""

import json
import sys
import time
from pathlib import Path

MAX_GRAD_NORM = 1.0  # of TRL's side: that of conf/learner/default.yaml


def ours(folder):
    """The shipped learner with the settings it is shipped with; KL off and no correction, as on the other side."""
    from grpo_aflow.config.composing import compose
    from grpo_aflow.learner.learner import Learner
    from grpo_aflow.types import Completion, TrainingGroup

    case = json.loads((folder / "case.json").read_text())
    config = compose("objective=grpo", "objective.kl=none", "objective.kl_coef=0", "objective.correction=none")
    learner = Learner(folder / "base", config.lora, config.objective, config.learner, seed=0)
    if not (folder / "adapter").exists():
        warm(learner.policy.model)
        learner.save_adapter(folder / "adapter")
    load_adapter(learner.policy.model, folder)
    group = TrainingGroup(
        prompt_ids=tuple(case["prompt"]),
        completions=tuple(
            Completion(token_ids=tuple(ids), logprobs=(-1.0,) * len(ids), text="", finish_reason="stop", version=0)
            for ids in case["completions"]
        ),
        advantages=tuple(case["advantages"]),
        temperature=1.0,
    )

    def step():
        learner.backward(group)
        stats = learner.step(1e-6)
        return stats["loss/policy"], stats["update/grad_norm"]

    return step, learner.policy.model


def trl(folder, *, as_on_gpu):
    """TRL's own loss on a GRPOTrainer, then clip and AdamW. as_on_gpu: score completion positions only."""
    import torch
    import trl.trainer.utils
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    if as_on_gpu:
        # Whether positions are compacted is decided by this name; the kernel decides for itself, and stays in torch.
        trl.trainer.utils._use_triton = lambda device: True
    case = json.loads((folder / "case.json").read_text())
    size = len(case["completions"])
    words = {"<pad>": 0, "<eos>": 1, "word": 2}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="word")), pad_token="<pad>", eos_token="<eos>"
    )
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=size,
        num_generations=size,
        max_completion_length=len(case["completions"][0]),
        temperature=1.0,
        beta=0.0,
        loss_type="grpo",
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, attn_implementation="sdpa"),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["word"] * size}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    model = trainer.model.train()
    load_adapter(model, folder)
    trainer.current_gradient_accumulation_steps = 1
    prompt = torch.tensor([case["prompt"]] * size)
    completion = torch.tensor(case["completions"])
    inputs = {
        "prompt_ids": prompt,
        "prompt_mask": torch.ones_like(prompt),
        "completion_ids": completion,
        "completion_mask": torch.ones_like(completion),
        "advantages": torch.tensor(case["advantages"]),
        "num_items_in_batch": torch.tensor(completion.numel()),
    }
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=0.01)

    def step():
        loss = trainer._compute_loss(model, inputs)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(loss), float(norm)

    return step, model


def warm(model):
    """Give a fresh adapter something to do: B is zero at first, and so would be half of the gradient."""
    import torch

    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)


def load_adapter(model, folder):
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(model, load_file(folder / "adapter" / "adapter_model.safetensors"))


def resident(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def main(side, folder, threads):
    import torch

    torch.set_num_threads(int(threads))
    folder = Path(folder)
    step, model = ours(folder) if side == "ours" else trl(folder, as_on_gpu=side == "trl_as_on_gpu")
    for parameter in model.parameters():  # weights are mapped from their file: have all of them resident beforehand
        parameter.detach().sum()
    print(json.dumps({"ready": side}), flush=True)
    for line in sys.stdin:
        command = line.strip()
        if command == "end":
            return
        if command == "memory":
            Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at what is resident now
            before = resident("VmRSS")
        started, cpu_started = time.perf_counter(), time.process_time()
        loss, norm = step()
        times = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu_started}
        answer = times | {"loss": loss, "grad_norm": norm}
        if command == "memory":
            answer["peak_bytes"] = resident("VmHWM") - before
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
