"""Where engines and learner ranks run: the options of config group `cluster`.

In: what starts an engine or makes a learner. Out: a `protocols.Sampler` and a `learner.worker.LearnerWorker`, behind
which there may be one in this process (`local`) or many on other machines (`ray_cluster`, whose processes are
`ray_actors`); those who use them do not know. Begin with `placement`. The rules that hold across many are
`sampler.routed` and `learner.ranked`, which know nothing of Ray.
"""
