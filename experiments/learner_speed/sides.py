"""One side of the learner's benchmarks in a process of its own: ours, or one of theirs, on the same model and batches.

`python sides.py SIDE FOLDER THREADS` reads commands from stdin and answers each with a line of JSON. N is a place in
FOLDER/cases.json, each case one group:
    step N           forward, loss, backward and optimizer: seconds, CPU seconds of all threads, loss, gradient norm
    memory N         the same, with the peak of resident memory above what was resident before, in bytes
    tensors N        the same, with the peak of the step's own tensors, in bytes, as the allocator was asked for them
    gradient N FILE  writes the gradient of the case's loss under the adapter on file
The others run in a virtual environment of their own (`theirs.py`), so this file imports neither side at its top.
"""

import json
import sys
import time
from pathlib import Path


class Ours:
    """The shipped learner with the settings it is shipped with; KL off and no correction, as on the other sides."""

    def __init__(self, folder):
        from grpo_aflow.config.composing import compose
        from grpo_aflow.learner.learner import Learner

        config = compose("objective=grpo", "objective.kl=none", "objective.kl_coef=0", "objective.correction=none")
        self.learner = Learner(folder / "base", config.lora, config.objective, config.learner, seed=0)
        self.model = self.learner.policy.model
        if not (folder / "adapter").exists():
            warm(self.model)
            self.learner.save_adapter(folder / "adapter")

    def backward(self, case):
        from grpo_aflow.types import Completion, TrainingGroup

        completions = (
            Completion(token_ids=tuple(ids), logprobs=(-1.0,) * len(ids), text="", finish_reason="stop", version=0)
            for ids in case["completions"]
        )
        group = TrainingGroup(
            prompt_ids=tuple(case["prompt"]),
            completions=tuple(completions),
            advantages=tuple(case["advantages"]),
            temperature=1.0,
        )
        self.learner.backward(group)

    def step(self, case):
        self.backward(case)
        stats = self.learner.step(1e-6)
        return stats["loss/policy"], stats["update/grad_norm"]

    def gradient(self, case):
        self.backward(case)
        whole, objective = self.learner._accumulator.whole(), self.learner.objective
        denominator = objective.aggregation.denominator(whole.totals, max_length=objective.max_length)
        names = self.learner.policy.parameters
        found = {name: part / denominator for name, part in zip(names, whole.gradients, strict=True)}
        self.learner.discard()
        return found


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


def timed(step, case):
    started, cpu_started = time.perf_counter(), time.process_time()
    loss, norm = step(case)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "loss": loss, "grad_norm": norm}


def with_resident_peak(step, case):
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM starts again at what is resident now
    before = resident("VmRSS")
    return timed(step, case) | {"peak_bytes": resident("VmHWM") - before}


def with_tensor_peak(step, case):
    """What the allocator was asked for moves neither with other work on the machine nor with what malloc keeps."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        answer = timed(step, case)
    events = (event for event in record.profiler.kineto_results.events() if event.name() == "[memory]")
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return answer | {"peak_bytes": peak}


def save_gradient(side, case, file):
    from safetensors.torch import save_file

    side.model.train()
    found = side.gradient(case)
    short = {name[name.index("layers.") :].replace(".default", ""): part for name, part in found.items()}
    save_file({name: part.detach().clone().contiguous() for name, part in short.items()}, file)
    return {"parameters": len(short)}


def main(name, folder, threads):
    import torch

    torch.set_num_threads(int(threads))
    folder = Path(folder)
    if name == "ours":
        side = Ours(folder)
    else:
        sys.path.insert(0, str(Path(__file__).parent.parent))
        from theirs import SIDES

        side = SIDES[name](folder)
    load_adapter(side.model, folder)
    cases = json.loads((folder / "cases.json").read_text())
    for parameter in side.model.parameters():  # weights are mapped from their file: have all of them resident first
        parameter.detach().sum()
    print(json.dumps({"ready": name}), flush=True)
    measures = {"step": timed, "memory": with_resident_peak, "tensors": with_tensor_peak}
    for line in sys.stdin:
        command, number, *file = line.split()
        case = cases[int(number)]
        if command == "gradient":
            answer = save_gradient(side, case, *file)
        else:
            answer = measures[command](side.step, case)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
