"""The learner: LoRA weights, losses, publishing, and the base model that a run starts from."""
