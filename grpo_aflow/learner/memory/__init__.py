"""How much memory a run may need, worked out from a model's shape before any weight is loaded. Start with `plan`."""
