"""Run folders as pandas tables, for notebooks: `load_run(path)` and what can be drawn from it. See `frames`."""
