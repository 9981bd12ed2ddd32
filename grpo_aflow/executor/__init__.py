"""The executor LLM: a client that never loses a paid answer.

In: messages with the context of the call (`protocols.ChatModel`). Out: a `types.ChatReply`, always a value. Begin with
`client`; `sending` holds retries and limits, `endpoint` speaks HTTP, `engine` is the sampler's own engine as executor.
"""
