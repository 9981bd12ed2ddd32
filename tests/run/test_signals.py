import signal

import pytest

from grpo_aflow.run.signals import run_to_its_end

# Signals the process that waits for it, and ends by the signal that it is given, in its own way.
SIGNALLED = "trap 'exit {code}' TERM; kill -TERM $PPID; while :; do sleep 0.01; done"


@pytest.mark.parametrize(("code", "seen"), [(5, 5), (0, 143)])
def test_a_signal_is_passed_on_and_the_command_ends_in_its_own_way(code, seen):
    before = signal.getsignal(signal.SIGTERM)
    assert run_to_its_end(["sh", "-c", SIGNALLED.format(code=code)]) == seen
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("code", [0, 3])
def test_without_a_signal_the_code_is_the_commands(code):
    assert run_to_its_end(["sh", "-c", f"exit {code}"]) == code
