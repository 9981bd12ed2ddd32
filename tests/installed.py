"""Marks for what not every machine has, found without importing it: every worker collects every file."""

from importlib.util import find_spec

import pytest

NEEDS_VLLM = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
NEEDS_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="cluster=ray needs Ray: pip install -e '.[ray]'")
NEEDS_WANDB = pytest.mark.skipif(find_spec("wandb") is None, reason="W&B is not installed")
