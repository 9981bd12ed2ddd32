"""The simulated executor: an OpenAI-compatible server on loopback behind which a fallible solver answers.

In: the tasks of a run, with their golds, and requests as a client sends them. Out: replies, right or wrong by fixed
probabilities. Begin with SIMULATED_WORLD.md, then `world`; `server` is the process, `answer_key` what it knows.
"""
