"""Where generated code runs: a pool of confined fork servers behind `protocols.CodeRunner`.

Programmer, Test and the code graders all come through here. In: a source (`run`), or a candidate with the trusted test
that decides about it (`check`). Out: a `CodeResult` or a `CheckResult`, whatever the code did.

`settings` opens a `pool` in the trainer. It hands each call to a `server_client`, which passes one end of a socket pair
per process to its fork server. The `launcher` puts that server into its `confinement` and watches over it; `probe`
tries at the start what must be denied. All that runs in the confinement is in `inside`. Read `pool` first.
"""

from grpo_aflow.sandbox.settings import Bubblewrap, SandboxSettings, Sandlock, UnsafeSubprocess, open_default

__all__ = ["Bubblewrap", "SandboxSettings", "Sandlock", "UnsafeSubprocess", "open_default"]
