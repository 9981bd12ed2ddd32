"""Sweeps: many runs by one command, on a grid or as a search, in this process or in others.

In: the jobs that Hydra's sweeper and launcher hand over. Out: the sweep's folder with a row for each job. Begin with
`rows`, which describes the folder; `jobs` runs one of them; `study` is the search, which Hydra's plugin
`hydra_plugins/grpo_aflow_tpe.py` asks; `cards` gives each job a card of its own.
"""
