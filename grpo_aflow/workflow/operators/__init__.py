"""What a workflow can call: `spec` declares an operator, `builtin` holds ours, `table` puts a run's set together."""
