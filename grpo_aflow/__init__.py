"""A policy language model learns by GRPO to write agent workflows; graded answers are the reward."""

__version__ = "0.1.0"
