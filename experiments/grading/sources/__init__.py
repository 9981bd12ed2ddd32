"""Answers that others have published: `number_answers`, `programs`, `phrases`, and those on `aflow`'s benchmarks."""
