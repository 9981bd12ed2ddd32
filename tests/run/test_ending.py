import asyncio
import shutil
import signal

import pytest

from grpo_aflow.run.ending import ending
from grpo_aflow.run.folder import RunDirectory
from grpo_aflow.run.signals import Interrupt, Interrupted


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_is_told_as_one_wherever_the_folder_is(begun, tmp_path):
    """Its folder may be gone, or its disk full: that is not what ended the run."""
    run, interrupt = RunDirectory.create(tmp_path / "runs", "test", {}), Interrupt()
    interrupt.graceful, interrupt.number = begun, signal.SIGINT
    shutil.rmtree(run.path)
    with pytest.raises(Interrupted) as interrupted, ending(run, interrupt):
        raise asyncio.CancelledError
    assert interrupted.value.code == 130


def test_an_interrupted_start_leaves_nothing_and_a_run_its_status(tmp_path):
    for begun in (False, True):
        run, interrupt = RunDirectory.create(tmp_path / "runs", "test", {}), Interrupt()
        interrupt.graceful, interrupt.number = begun, signal.SIGTERM
        with pytest.raises(Interrupted), ending(run, interrupt):
            raise asyncio.CancelledError
        assert run.path.exists() == begun
    assert run.manifest()["status"] == "interrupted"
