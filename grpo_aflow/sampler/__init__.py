"""Serving the policy: vLLM and transformers behind one protocol, every sample under exactly one version.

In: a prepared model, adapters by version, prompts as token ids. Out: completions, as they end, with the log-probability
of each token, and scores of given texts. Start with `opening`, the options of the config group, on `settings`.

`vllm` (its engine started by `vllm_engine`, on the CPU with the LoRA kernels of `cpu_lora`) and `hf` implement
`protocols.Sampler`; `restarting` puts a new engine in place of one that died. `versions` counts who holds a version;
`tokenizer` is the one way from text to token ids and back.
"""
