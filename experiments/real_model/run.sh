#!/usr/bin/env bash
# One command per question of README.md; each is a plain grpo-aflow command and can be resumed by its run folder.
#   run.sh fixed DATASET [WORKFLOW ...]   fixed workflows by the executor alone
#   run.sh train | control                the run, and the same one with permuted rewards
#   run.sh evaluate NAME [RUN]            untrained (no RUN), warm (no RUN), or a checkpoint of RUN
# MODEL: folder or hub id. DATA: hub or a folder. RUNS: where runs go. NUM: held-out tasks of a dataset.
# OVERRIDES: further settings of every command, for example "model.dtype=float32 prompt.problem_chars=200".
set -euo pipefail
cd "$(dirname "$0")/../.."
here=experiments/real_model
model=${MODEL:-Qwen/Qwen2.5-Coder-0.5B-Instruct} runs=${RUNS:-runs}
data=${DATA:-hub}
source=null && [ "$data" = hub ] || source=$data
read -ra more <<<"${OVERRIDES:-}"
real=(model.path="$model" paths.runs="$runs")
evaluation=(
  model=qwen25_coder_05b executor=shared prompt=brief "${real[@]}"
  executor.max_tokens=256 sampler.max_tokens=256 sampler.kv_cache_gb=2 sampler.max_num_seqs=96 sampler.cpu_threads=2
  workflow.deadline_s=900 eval.source="$source" eval.split=test eval.samples=1 eval.concurrency=96
)

fixed() {
  local dataset=$1 && shift
  local workflows=("$@")
  [ ${#workflows[@]} -gt 0 ] || case $dataset in
    mbpp) workflows=(code_generate) ;;
    squad2) workflows=(single vote_of_five) ;;
    *) workflows=(single chain_of_thought programmer vote_of_five) ;;
  esac
  for workflow in "${workflows[@]}"; do
    grpo-aflow-eval "${evaluation[@]}" warmstart=none policy=fixed policy.path="$here/workflows/$workflow.py" \
      "eval.datasets=[$dataset]" eval.max_tasks_per_dataset="${NUM:-100}" name="fixed_${dataset}_$workflow" "${more[@]}"
  done
}

evaluate() {
  local name=$1 run=${2:-}
  local policy=(policy=base warmstart=none)
  [ "$name" != warm ] || policy=(policy=base warmstart.num_steps=24 warmstart.batch_size=8 warmstart.learning_rate=1.0e-3)
  [ -z "$run" ] || policy=(policy=checkpoint policy.path="$run")
  grpo-aflow-eval "${evaluation[@]}" "${policy[@]}" "eval.datasets=[gsm8k,squad2,mbpp]" \
    eval.max_tasks_per_dataset="${NUM:-50}" name="policy_$name" "${more[@]}"
}

case ${1:-} in
  fixed) fixed "${@:2}" ;;
  evaluate) evaluate "${@:2}" ;;
  train) grpo-aflow-train experiment=small_real "${real[@]}" data_mix.source="$data" "${more[@]}" "${@:2}" ;;
  control) grpo-aflow-train experiment=small_real "${real[@]}" data_mix.source="$data" reward.permuted=true name=small_real_control "${more[@]}" "${@:2}" ;;
  *) sed -n 2,7p "$0" && exit 2 ;;
esac
