"""`report.html`: one self-contained page about runs, evaluations or a sweep, that opens from disk without a network.

In: the files of run folders, finished or not, whole or damaged. Out: one HTML file with its data inside, compressed.

    folders     what the command line names -> run folders
    lines       files of JSON lines, read as far as they can be
    run         one folder -> a `RunView`: figures, evaluations, tables, rollouts, and what is missing
    rollouts    lines -> `RolloutView`s, with their task (`tasks`), calls (`calls`) and operator graph (`graphs`)
    redaction   keys and passwords are taken out of every text
    payload     views -> plain data: columns and one table of texts
    page        plain data -> HTML; the page itself is in `page/`, its script in parts that are joined in order
    command     `grpo-aflow-report RUN...`

Begin with `views`, which has the data carriers.
"""
