"""What every process of a run needs, whatever it computes: folder, files, progress, loggers, signals, the end.

In: a composed config as plain data, figures, rollouts as records. Out: the run's folder on disk and what a person
sees. Begin with `folder`, which describes the files that a run leaves behind; `resume` takes them up again.
"""
