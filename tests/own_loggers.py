"""Loggers from outside the package, as `+logger.<name>._target_` names them: one that hangs, one that fails."""

import threading
from dataclasses import dataclass

from grpo_aflow.run.background import Log


class Stuck(Log):
    def log(self, figures):
        threading.Event().wait()

    def close(self, error):
        raise AssertionError("never reached")


class Broken(Log):
    def log(self, figures):
        raise ConnectionError("the service is down")

    def close(self, error):
        raise ConnectionError("the service is down")


@dataclass(frozen=True, kw_only=True, slots=True)
class Hanging:
    def check(self):
        pass

    def start(self, run, config, *, begin):
        return Stuck()


@dataclass(frozen=True, kw_only=True, slots=True)
class Failing:
    def check(self):
        pass

    def start(self, run, config, *, begin):
        return Broken()
