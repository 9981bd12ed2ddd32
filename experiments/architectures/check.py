"""Which architectures can a policy have? Each one through two whole training steps, by the run's own log-prob check.

    python experiments/architectures/check.py                 # two CPU cores, twenty minutes; the README's table
    python experiments/architectures/check.py --only Llama    # some of them, beside those on file
    python experiments/architectures/check.py --draw          # the README's table from results.json

A policy of each architecture is made with random weights, of two layers, and its folder given to `grpo-aflow-train` as
one of the hub's would be: vLLM samples with a LoRA adapter on all linear layers, the learner makes two versions, and
each is published and scored on either side. What is refused is tried again as the refusal says.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from readme import write_part  # noqa: E402

RESULTS = HERE / "results.json"
CONTEXT = 2048
SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": CONTEXT,
    "tie_word_embeddings": True,
}
OVERRIDES = (
    *("model=qwen25_coder_05b", "model.dtype=float32", f"model.max_model_len={CONTEXT}", "model.cpu_threads=1"),
    *("warmstart=none", "prompt=compact", "sampler.max_tokens=32", "sandbox.num_servers=1", "eval=none", "lora=r8"),
    *("schedule.num_steps=2", "schedule.prompts_per_step=2", "schedule.group_size=4"),
    # Random weights earn nothing: what moves the policy is the entropy's bonus.
    *("objective.entropy_coef=0.01", "objective.zero_variance=regularise"),
)
TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A class of transformers, models of the hub that have it, and what their configurations hold."""

    name: str  # as in <name>Config and <name>ForCausalLM
    models: str
    options: Mapping[str, Any] = field(default_factory=dict)
    fix: tuple[str, ...] = ()  # what the refusal names

    @property
    def key(self) -> str:
        return f"{self.name} {self.models}"


MIXTURE = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
ARCHITECTURES = (
    Architecture(name="Qwen2", models="Qwen2.5, DeepSeek-R1-Distill-Qwen"),
    Architecture(name="Qwen3", models="Qwen3"),
    Architecture(name="Llama", models="Llama 3, DeepSeek-R1-Distill-Llama, SmolLM2"),
    Architecture(name="Mistral", models="Mistral 7B v0.3", options={"sliding_window": None}),
    Architecture(
        name="Mistral", models="Mistral 7B v0.1", options={"sliding_window": 64}, fix=("learner.packing=padded",)
    ),
    Architecture(
        name="Phi3",
        models="Phi-3-mini-4k, Phi-4",
        options={"sliding_window": None, "original_max_position_embeddings": CONTEXT},
    ),
    Architecture(name="Olmo2", models="OLMo 2"),
    Architecture(name="SmolLM3", models="SmolLM3"),
    Architecture(name="SeedOss", models="Seed-OSS"),
    Architecture(
        name="Glm4",
        models="GLM-4-0414",
        fix=("lora.target_modules=[q_proj,k_proj,v_proj,o_proj,down_proj]",),
    ),
    Architecture(name="Gemma", models="Gemma"),
    Architecture(name="Gemma3", models="Gemma 3 1B", options={"sliding_window": 64}, fix=("learner.packing=padded",)),
    Architecture(name="Gemma2", models="Gemma 2"),
    Architecture(name="Granite", models="Granite 3", options={"logits_scaling": 8.0}),
    Architecture(name="Cohere", models="Command R", options={"logit_scale": 0.0625}),
    Architecture(name="Qwen3Moe", models="Qwen3-30B-A3B", options={**MIXTURE, "num_experts": 8}, fix=("sampler=hf",)),
    Architecture(name="Mixtral", models="Mixtral", options={"num_local_experts": 4}, fix=("sampler=hf",)),
    Architecture(name="GptOss", models="gpt-oss", options={"num_local_experts": 4}, fix=("sampler=hf",)),
    Architecture(name="FalconH1", models="Falcon-H1", fix=("learner.packing=padded",)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", help="names of architectures (default: all)")
    parser.add_argument("--draw", action="store_true", help="run nothing: the table from results.json")
    arguments = parser.parse_args()
    found = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    if not arguments.draw:
        for architecture in ARCHITECTURES:
            if not arguments.only or architecture.name in arguments.only:
                found[architecture.key] = {"date": str(date.today()), **tried(architecture)}
                print(architecture.key, found[architecture.key], flush=True)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    write_part(HERE / "README.md", "architectures", table(found))
    print(table(found))


def tried(architecture: Architecture) -> dict[str, Any]:
    """As it is, and where that is refused, with the fix. Largest differences of log-probabilities, or the refusal."""
    with tempfile.TemporaryDirectory() as folder:
        make(architecture, Path(folder))
        shipped = trained(Path(folder), ())
        fixed = trained(Path(folder), architecture.fix) if "refused" in shipped and architecture.fix else None
    return {"shipped": shipped, **({} if fixed is None else {"fixed": fixed})}


def make(architecture: Architecture, folder: Path) -> None:
    """A model's folder, with the tiny policy's tokenizer."""
    import torch
    import transformers

    from grpo_aflow.learner.preparation import tiny
    from grpo_aflow.learner.preparation.reference_workflows import corpus

    texts = [workflow.source for workflow in corpus()]
    tokenizer = tiny.build_tokenizer(texts, vocab_size=1024, max_model_len=CONTEXT)
    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    made = getattr(transformers, f"{architecture.name}{'Text' if architecture.name == 'Gemma3' else ''}Config")
    config = made(**SHAPE, **special, vocab_size=len(tokenizer), **architecture.options)
    torch.manual_seed(0)
    model = getattr(transformers, f"{architecture.name}ForCausalLM")(config).float()
    tokenizer.save_pretrained(folder / "model")
    model.save_pretrained(folder / "model")


def trained(folder: Path, more: Sequence[str]) -> dict[str, Any]:
    """Two steps of the policy in `folder`: how far sampler and learner were apart, or the line that refused it."""
    runs = folder / f"runs{len(more)}"
    command = ["grpo-aflow-train", *OVERRIDES, f"model.path={folder / 'model'}", f"paths.runs={runs}", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    if done.returncode:
        said = lines[-1].removeprefix("error: ") if lines else done.stderr[-300:]
        return {"refused": said.replace(str(folder / "model"), "MODEL"), "code": done.returncode}
    [metrics] = runs.glob("*/*/metrics.jsonl")
    steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert all(step["update/made"] for step in steps)
    return {
        "disagreement": max(step["gate/disagreement"] for step in steps),
        "adapter_effect": min(step["gate/adapter_effect"] for step in steps),
    }


def table(found: Mapping[str, Any]) -> str:
    days = sorted({row["date"] for row in found.values()})
    lines = [
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, two cores.\n",
        "| architecture | for example | as it is | with the fix | adapter's effect |",
        "|---|---|---|---|--:|",
    ]
    for architecture in ARCHITECTURES:
        if architecture.key in found:
            row = found[architecture.key]
            shipped, fixed = row["shipped"], row.get("fixed")
            effect = (fixed or shipped).get("adapter_effect")
            cells = [
                architecture.name,
                architecture.models,
                outcome(shipped),
                "" if fixed is None else f"`{' '.join(architecture.fix)}`: {outcome(fixed)}",
                "" if effect is None else f"{effect:.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def outcome(row: Mapping[str, Any]) -> str:
    return f"agree to {row['disagreement']:.0e}" if "disagreement" in row else f"refused: {row['refused']}"


if __name__ == "__main__":
    main()
