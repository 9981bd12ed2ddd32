"""The other sides of the learner's benchmarks, each with the loss and the layout of its own project.

* `trl`: `GRPOTrainer._compute_loss` as it runs on a CPU; `trl_as_on_gpu`: the same, held to its behaviour on a card.
* `trl_packed`: the learner of `AsyncGRPOTrainer`: a group is a tree of tokens, each computed once (`trl_on_cpu.py`).
* `liger`: transformers' forward of padded rows, then Liger's fused head and loss over chunks of one sequence.

Imported in TRL's virtual environment only.
"""

import torch
import trl_on_cpu
from datasets import Dataset
from liger_kernel.chunked_loss import LigerFusedLinearGRPOLoss
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, models
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from trl import GRPOConfig, GRPOTrainer
from trl.experimental.async_grpo import AsyncGRPOConfig, AsyncGRPOTrainer
from trl.experimental.async_grpo.async_grpo_trainer import DataCollatorForRollout
from trl.experimental.async_grpo.packing import TreeRow

MAX_GRAD_NORM = 1.0  # that of conf/learner/default.yaml
MICRO_BATCH = 8  # sequences per forward and backward, at most: as there
TOKEN_BUDGET = 4096  # of a packed row, in tokens computed
ALL_LINEAR = {"r": 16, "lora_alpha": 32, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


class Theirs:
    """A model with an adapter and the gradient of one group; then clipping and AdamW."""

    def __init__(self, model, micro_batches, loss_of):
        """micro_batches: of a case. loss_of: of one of them, with the step's number of them."""
        self.model, self.micro_batches, self.loss_of = model.train(), micro_batches, loss_of
        self.parameters = {name: part for name, part in model.named_parameters() if part.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=1e-6, weight_decay=0.01)

    def backward(self, case):
        total = 0.0
        parts = self.micro_batches(case)
        for part in parts:
            loss = self.loss_of(part, len(parts))
            loss.backward()
            total += float(loss)
        return total

    def step(self, case):
        loss = self.backward(case)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters.values(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss, float(norm)

    def gradient(self, case):
        self.backward(case)
        found = {name: part.grad.clone() for name, part in self.parameters.items()}
        self.optimizer.zero_grad(set_to_none=True)
        return found


def tokenizer():
    words = {"<pad>": 0, "<eos>": 1, "word": 2}
    model = Tokenizer(models.WordLevel(words, unk_token="word"))
    return PreTrainedTokenizerFast(tokenizer_object=model, pad_token="<pad>", eos_token="<eos>")


def padded(case):
    """Micro-batches of equally many rows: prompt, completions, advantages."""
    size = len(case["completions"])
    per_row = min(size, MICRO_BATCH)
    for start in range(0, size, per_row):
        rows = slice(start, start + per_row)
        completions = torch.tensor(case["completions"][rows])
        yield torch.tensor([case["prompt"]] * per_row), completions, torch.tensor(case["advantages"][rows])


def trl_padded(folder):
    config = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=MICRO_BATCH,
        num_generations=MICRO_BATCH,
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
        train_dataset=Dataset.from_dict({"prompt": ["word"] * MICRO_BATCH}),
        processing_class=tokenizer(),
        peft_config=LoraConfig(**ALL_LINEAR),
    )

    def inputs(case):
        return [
            {
                "prompt_ids": prompt,
                "prompt_mask": torch.ones_like(prompt),
                "completion_ids": completion,
                "completion_mask": torch.ones_like(completion),
                "advantages": advantages,
                "num_items_in_batch": torch.tensor(completion.numel()),
            }
            for prompt, completion, advantages in padded(case)
        ]

    def loss_of(part, number):
        trainer.current_gradient_accumulation_steps = number
        return trainer._compute_loss(trainer.model, part)

    return Theirs(trainer.model, inputs, loss_of)


def trl_as_on_gpu(folder):
    trl_on_cpu.completions_only()
    return trl_padded(folder)


class Rollouts:
    """Stands in for the rollout worker, which this benchmark does not need."""

    rollout_buffer = None


def trl_packed(folder):
    trl_on_cpu.prepare()
    config = AsyncGRPOConfig(
        output_dir=str(folder / "trl"),
        use_cpu=True,
        bf16=False,
        dtype="float32",
        gradient_checkpointing=False,
        token_budget=TOKEN_BUDGET,
        report_to="none",
    )
    trainer = AsyncGRPOTrainer(
        model=str(folder / "base"),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": "word"}]]}),
        processing_class=tokenizer(),
        peft_config=LoraConfig(**ALL_LINEAR),
        rollout_worker=Rollouts(),
        weight_transfer=object(),
    )
    collate = DataCollatorForRollout(pad_token_id=0, token_budget=TOKEN_BUDGET)
    on_policy = {}  # log-probabilities by case and row: the ratio is one, as on the other sides

    def rows(case):
        """Rows of equally many samples within the budget, which each weigh the same in the loss."""
        size, per_row = len(case["completions"]), len(case["completions"])
        while len(case["prompt"]) + per_row * len(case["completions"][0]) > TOKEN_BUDGET:
            per_row //= 2
        batches = [collate.torch_call([[tree(case, start, per_row)]]) for start in range(0, size, per_row)]
        for number, batch in enumerate(batches):
            key = (len(case["prompt"]), size, number)
            if key not in on_policy:
                on_policy[key] = logprobs(trainer.model, batch)
            batch["old_log_probs"] = on_policy[key]
        return batches

    def loss_of(part, number):
        trainer.current_gradient_accumulation_steps = number
        return trainer.compute_loss(trainer.model, part)

    return Theirs(trainer.model, rows, loss_of)


def tree(case, start, number):
    row, prompt = TreeRow(), case["prompt"]
    for place in range(start, start + number):
        completion = case["completions"][place]
        row.add(
            {
                "input_ids": torch.tensor(prompt + completion),
                "completion_mask": torch.tensor([0] * len(prompt) + [1] * len(completion)),
                "old_log_probs": torch.zeros(len(prompt) + len(completion)),
                "advantage": case["advantages"][place],
                "group_id": 0,
                "metrics": {},
            }
        )
    return row


@torch.no_grad()
def logprobs(model, batch):
    """As `AsyncGRPOTrainer.compute_loss` computes them, of a single row."""
    tree_inputs = {key: batch[key][0] for key in ("tree_kv_index", "tree_cu_seqlens_q", "tree_cu_seqlens_k")}
    longest = zip(("tree_max_seqlen_q", "tree_max_seqlen_k"), batch["tree_max_seqlens"][0].tolist(), strict=True)
    inputs = {key: batch[key] for key in ("input_ids", "position_ids", "shift_labels")}
    outputs = model(**inputs, fused_lm_head=True, **tree_inputs, **dict(longest))
    return outputs.log_probs.flatten()[batch["token_index"]]


def liger(folder):
    base = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32, attn_implementation="sdpa")
    model = get_peft_model(base, LoraConfig(**ALL_LINEAR))
    fused = LigerFusedLinearGRPOLoss(beta=0.0, compiled=False, use_ref_model=False, loss_type="grpo")

    def loss_of(part, number):
        prompt, completion, advantages = part
        hidden = base.model(input_ids=torch.cat([prompt, completion], 1)).last_hidden_state
        hidden = hidden[:, prompt.shape[1] - 1 : -1]
        loss, _ = fused(hidden, base.lm_head.weight, completion, torch.ones_like(completion), advantages)
        return loss / number

    return Theirs(model, lambda case: list(padded(case)), loss_of)


SIDES = {"trl": trl_padded, "trl_as_on_gpu": trl_as_on_gpu, "trl_packed": trl_packed, "liger": liger}
