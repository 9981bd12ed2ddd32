#!/bin/sh
# Creates .venv and installs the project into it, editable, with the extra that fits the machine:
# `cuda` where an NVIDIA driver answers, `cpu` elsewhere and with CPU=1. Called by `make install`; PYTHON chooses the
# interpreter.
set -eu
PYTHON="${PYTHON:-python3}"
EXTRAS="dev,analysis,sweep,wandb,tensorboard"
HERE=".install"

"$PYTHON" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' || {
  echo "grpo-aflow needs Python 3.11 to 3.13; '$PYTHON' is $("$PYTHON" -V 2>&1). Choose one: make install PYTHON=python3.12" >&2
  exit 2
}
DRIVER=""
if [ -z "${CPU:-}" ] && command -v nvidia-smi >/dev/null 2>&1 && nvidia-smi -L >/dev/null 2>&1; then
  DRIVER=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | sed -n '1s/\..*//p')
  if [ "${DRIVER:-0}" -lt 580 ]; then
    echo "vLLM 0.32 needs an NVIDIA driver from 580 on (CUDA 13); this one is ${DRIVER:-unknown}. Update it, or install without a card: make install CPU=1" >&2
    exit 2
  fi
fi
[ -x .venv/bin/python ] || "$PYTHON" -m venv .venv
.venv/bin/python -m pip install --quiet "uv>=0.9"
export VIRTUAL_ENV="$PWD/.venv"

if [ -n "$DRIVER" ]; then
  .venv/bin/uv pip install --quiet --compile-bytecode -c "$HERE/constraints.txt" -e ".[cuda,$EXTRAS]"
else
  # uv does not read pip's find-links, where some machines keep the CPU build of torch; elsewhere
  # --torch-backend knows its index. The override keeps the CUDA wheels of torchvision & co. out: beside CPU
  # torch they break `import transformers`.
  links=$(.venv/bin/python -m pip config list | sed -n "s/.*find-links='\(.*\)'/\1/p" | tail -n 1)
  set -- -c "$HERE/constraints.txt" -c "$HERE/constraints-cpu.txt" --override "$HERE/overrides-cpu.txt" -e ".[cpu,$EXTRAS]"
  UV_FIND_LINKS="$links" .venv/bin/uv pip install --quiet --compile-bytecode "$@" 2>.venv/install.log ||
    .venv/bin/uv pip install --quiet --compile-bytecode --torch-backend=cpu "$@" || { cat .venv/install.log >&2; exit 5; }
fi
# The packages are compiled above, an editable project is not; every process that starts would do it again, where
# Python is told to keep no bytecode (PYTHONDONTWRITEBYTECODE).
.venv/bin/python -m compileall -q grpo_aflow
# What `make run` adds: the CUDA build of vLLM serves on a card alone, and adapters there in 16 bit.
if [ -n "$DRIVER" ]; then echo "model.device=cuda model.dtype=bfloat16"; fi >.venv/.run_on
