"""`executor=simulated`: an OpenAI-compatible server on loopback behind which a fallible solver plays the executor LLM.

In: the tasks of a run with their golds, the system texts of its operators, and requests as any client sends them. Out:
replies, right or wrong by the fixed probabilities of conf/executor/simulated.yaml. Nothing of it knows the policy.

    settings    plain values, checked             opening    makes a client of them, by the package `executor`
    launch      starts the server's process       server     that process: HTTP, latency, faults
    handover    what the one tells the other      world      from a request to a reply
    request     reads what an operator asks       artefacts  writes right and wrong answers
    answer_key  is a text right?                  expected_accuracy  of typical workflows, by Monte Carlo

Read README.md first, then `world`. It stands above `executor` and `workflow`, which know nothing of it.
"""
