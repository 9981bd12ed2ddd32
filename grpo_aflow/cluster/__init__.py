"""Where engines, learner ranks and workflows run: the options of config group `cluster`.

In: what starts an engine, makes a learner or opens environments. Out: a `protocols.Sampler`, a
`learner.worker.LearnerWorker` and a `protocols.Environment`, behind which there may be one in this process (`local`) or
many on other machines (`ray_cluster`); those who use them do not know. Begin with `placement`. The rules that hold
across many are `sampler.routed`, `learner.ranked` and `executions`, which know nothing of Ray; `ray_actors` are the
processes, `ray_handles` what stands for them here, `ray_placement` puts them there.
"""
