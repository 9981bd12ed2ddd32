"""One task -> one group: a policy draws workflows, each is run and graded, rewards become advantages.

In: a `types.Task` and a policy. Out: a `types.RolloutGroup`, and from it the `types.TrainingGroup` that the learner
gets. Begin with `group`; `reward`, `advantage` and `metrics` are pure functions of what it returns.
"""
