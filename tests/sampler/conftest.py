"""A tiny policy, warm-started for a few steps, and adapters of it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from grpo_aflow.config.composing import compose
from grpo_aflow.learner.lora import LoraSpec
from grpo_aflow.learner.models import Preparation, PreparedModel, TinyPolicy
from grpo_aflow.learner.warmstart import ReferenceWorkflows
from grpo_aflow.run.cards import Placement
from grpo_aflow.sampler.tokenizer import ChatTokenizer


def quiet(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory) -> PreparedModel:
    tiny = TinyPolicy(
        vocab_size=1024,
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        intermediate_size=128,
        max_model_len=128,
        seed=0,
        device="cpu",
        dtype="float32",
        cpu_threads=1,
    )
    warmstart = ReferenceWorkflows(num_steps=10, batch_size=8, learning_rate=3e-3, preference=0.2, seed=0)
    lora = LoraSpec(rank=8, alpha=16, dropout=0.0, target_modules=["all-linear"])
    asked = Preparation(
        warmstart=warmstart,
        lora=lora,
        learner=compose().learner,
        prompts=lambda task: [{"role": "user", "content": f"{task.domain} {task.dataset}\n"}],
        tasks=[],
        read_tokenizer=ChatTokenizer,
        progress=quiet,
        max_tokens=64,
        placement=Placement(learner="cpu", sampler="cpu"),
    )
    return tiny.prepare(tmp_path_factory.mktemp("cache"), asked)


@pytest.fixture(scope="session")
def make_adapter(tiny_policy, tmp_path_factory) -> Callable[[int], Path]:
    """Writes an adapter of random weights on all linear layers, its effect a few nats."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    def make(seed: int, *, rank: int = 4) -> Path:
        base = AutoModelForCausalLM.from_pretrained(tiny_policy.path)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            lora = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", init_lora_weights=False)
            model = get_peft_model(base, lora)
        folder = tmp_path_factory.mktemp(f"adapter-{seed}")
        model.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="session")
def peft_scores(tiny_policy) -> Callable[..., tuple[float, ...]]:
    """Log-probabilities of token_ids[1:] by a PEFT model loaded afresh: what the learner would say."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    @cache
    def load(adapter: Path | None):
        model = AutoModelForCausalLM.from_pretrained(tiny_policy.path)
        return (model if adapter is None else PeftModel.from_pretrained(model, str(adapter))).eval()

    def score(token_ids, adapter: Path | None, *, temperature: float = 1.0) -> tuple[float, ...]:
        with torch.inference_mode():
            logits = load(adapter)(torch.tensor([list(token_ids)])).logits[0, :-1] / temperature
        logprobs = logits.log_softmax(dim=-1)
        return tuple(logprobs.gather(-1, torch.tensor(list(token_ids))[1:, None])[:, 0].tolist())

    return score
