"""The executor LLM, which answers the operators' calls: a client that never loses an answer that was paid for.

In: messages with the context of the call (`types.CallContext`). Out: a `types.ChatReply`, always a value; only a cap or
a misconfiguration is raised. On the way: `cache.sqlite` and `ledger.jsonl` in the run directory.

    settings    plain values, checked          opening     the options of config group `executor`, made into clients
    client      cache, equal calls made once   sending     what it has not: retries, limits, caps, ledger
    transport   the seam to what answers       endpoint    HTTP; `reading`, `errors`, `outcomes`, `waiting`, `address`
    engine      executor=shared, the sampler's own engine with the base weights

Open `client` first. `executor=simulated` is in the package `simulation`, which stands above this one.
"""
