"""The graders against answers whose verdict is known: golds, golds in every layout, wrong answers, and attacks.

`quick` runs within seconds at the start of every run; `full` is `make selftest`, over whole benchmarks. `attacks`,
`layouts` and `layouts_code` are the tables of what is tried, `checks` tries it.
"""
