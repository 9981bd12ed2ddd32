"""What runs inside the confinement: the fork server, its children, and both sides of a check.

The fork server loads this folder as the package `sandbox_inside`, where nothing else of the project can be read, so the
modules here import each other relatively, and besides them the standard library alone. The trainer's side imports from
here what both must agree on: `messages` and `wire`.

`fork_server` keeps a `child` ready for each role; a child confines itself (`landlock`, `seccomp`) and runs code
(`generated_code`). The role "program" is that alone. In a check, the role "checker" (`checker`) runs the trusted test
and asks the role "candidate" (`candidate`) over one `conversation`: `values` cross as they are, `containers` are kept
alike on both sides, and for all else the test holds `proxies` that ask (`special_methods`) but never let the candidate
answer a comparison.
"""
