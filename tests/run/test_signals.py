import asyncio
import os
import signal

import pytest

from grpo_aflow.run.signals import Interrupt, Interrupted, run_to_its_end

# Signals the process that waits for it, and ends by the signal that it is given, in its own way.
SIGNALLED = "trap 'exit {code}' {name}; kill -{name} $PPID; while :; do sleep 0.01; done"


@pytest.mark.parametrize(
    ("name", "code", "seen"), [("TERM", 5, 5), ("TERM", 0, 143), ("USR1", 0, 138), ("USR2", 0, 140)]
)
def test_a_signal_is_passed_on_and_the_command_ends_in_its_own_way(name, code, seen):
    number = signal.Signals[f"SIG{name}"]
    before = signal.getsignal(number)
    assert run_to_its_end(["sh", "-c", SIGNALLED.format(code=code, name=name)]) == seen
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("code", [0, 3])
def test_without_a_signal_the_code_is_the_commands(code):
    assert run_to_its_end(["sh", "-c", f"exit {code}"]) == code


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
async def test_what_a_job_scheduler_announces_a_time_limit_with_ends_a_run_in_good_order(number):
    with Interrupt() as interrupt:
        interrupt.graceful = True
        os.kill(os.getpid(), number)
        with pytest.raises(Interrupted) as ended:
            await interrupt.until(asyncio.sleep(60))
    assert ended.value.code == 128 + number
    assert signal.getsignal(number) == signal.SIG_DFL


async def test_a_signal_that_somebody_has_a_use_for_stays_theirs():
    seen = []
    before = signal.signal(signal.SIGUSR2, lambda number, frame: seen.append(number))
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGUSR2)
            await asyncio.sleep(0)
            assert not interrupt.number
        assert seen == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, before)
