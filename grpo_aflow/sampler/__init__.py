"""Serving the policy: vLLM and transformers behind one protocol, every sample under exactly one version."""
