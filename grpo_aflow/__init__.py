"""A policy language model learns by GRPO to write agent workflows; graded answers are the reward."""

from pathlib import Path

__version__ = "0.1.0"

_PACKAGED = Path(__file__).parent / "conf"
CONF_DIR = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "conf"  # the config groups' files
