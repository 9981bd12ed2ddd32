"""The commands in processes of their own, forked from one that has already imported what all of them need.

Half of what a small run costs is the import of torch, transformers and the executor's client; a run in a fresh
interpreter is left to the tests that are about that.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from grpo_aflow import cli

SCRIPTS = {"train": cli.train, "eval": cli.evaluate, "export": cli.export, "doctor": cli.doctor}
PRELOADED = ["grpo_aflow.train", "grpo_aflow.evaluation.command", "grpo_aflow.learner.learner", "grpo_aflow.sampler.hf"]
FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(
    ["forked_from", *PRELOADED, "grpo_aflow.executor.client", "transformers.models.qwen2.modeling_qwen2"]
)


@dataclass(frozen=True)
class Done:
    """How a command ended; as of `subprocess.run`."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """A command that runs: `grpo-aflow-<script>` with these arguments, in a session of its own."""

    def __init__(self, script, arguments, folder, *, ignored=(), stdout=None):
        """folder: its working folder. ignored: signals. stdout: a path to write to."""
        self._place = Path(tempfile.mkdtemp(prefix="command-"))
        self._out, self._err = Path(stdout or self._place / "out"), self._place / "err"
        orders = (script, [str(argument) for argument in arguments], str(folder), dict(os.environ))
        self._process = FORKING.Process(target=_run, args=(*orders, str(self._out), str(self._err), tuple(ignored)))
        self._process.start()
        self.pid = self._process.pid

    def has_ended(self):
        return self._process.exitcode is not None

    def send(self, number):
        os.kill(self.pid, number)

    def end(self, *, timeout_s=300):
        """Wait for it."""
        self._process.join(timeout_s)
        out, err = (file.read_text(errors="replace") if file.is_file() else "" for file in (self._out, self._err))
        assert self.has_ended(), f"still running after {timeout_s} s: {err}"
        shutil.rmtree(self._place)
        return Done(self._process.exitcode, out, err)


def finished(script, arguments, folder):
    return Command(script, arguments, folder).end()


def _run(script, arguments, folder, environment, out, err, ignored):
    os.setsid()
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a server may ignore, as jobs in the background do
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and this one tests below nohup
    for number in ignored:
        signal.signal(number, signal.SIG_IGN)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for path, stream in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, stream)
        os.close(file)
    sys.stdout, sys.stderr = (os.fdopen(stream, "w", closefd=False) for stream in (1, 2))
    sys.argv = [f"grpo-aflow-{script}", *arguments]
    SCRIPTS[script]()
