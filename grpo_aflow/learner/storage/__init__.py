"""Adapters and checkpoints on disk: whole or not there. Start with `checkpoints`.

`adapter_store` holds the versions that a sampler serves, `checkpoint` is one folder to go on from, `checkpoints` are
those of a run, `export` and `merge` take a trained adapter out of it.
"""
