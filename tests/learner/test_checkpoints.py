"""Which checkpoints a run has, and what becomes of the others."""

import errno
import os
from types import SimpleNamespace

from grpo_aflow.learner.storage import checkpoint
from grpo_aflow.learner.storage.checkpoints import Checkpoints


def test_what_a_kill_left_of_a_checkpoint_goes_and_later_ones_are_set_aside(tmp_path):
    folder = tmp_path / "checkpoints"
    for name in ("step_000010", "step_000020", ".step_000030.x7k2q_9a", ".step_000010.ab12cd34.replaced"):
        (folder / name / "adapter").mkdir(parents=True)
    (folder / "notes.md").write_text("mine")
    Checkpoints(folder, keep=2).set_aside(10)
    assert {path.name for path in folder.iterdir()} == {"step_000010", "set_aside", "notes.md"}
    assert [path.name for path in (folder / "set_aside").iterdir()] == ["step_000020"]


def test_a_new_run_has_nothing_to_set_aside(tmp_path):
    Checkpoints(tmp_path / "checkpoints", keep=2).set_aside(0)
    assert not any(tmp_path.iterdir())


def test_an_old_checkpoint_that_is_still_being_read_ends_no_run(tmp_path, monkeypatch):
    """On NFS a file that is open cannot be removed; it goes with a later checkpoint."""

    class Learner:
        def discard(self):
            pass

    def busy(*arguments, **options):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), ".nfs0001")

    def save(path, learner, extra):
        path.mkdir(parents=True)
        (path / "adapter").write_text("")

    monkeypatch.setattr(checkpoint, "save", save)
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep=1)
    checkpoints.save(1, Learner(), {})
    with monkeypatch.context() as reading:
        reading.setattr(os, "unlink", busy)
        checkpoints.save(2, Learner(), {})
    assert checkpoints.steps() == [1, 2]
    checkpoints.save(3, Learner(), {})
    assert checkpoints.steps() == [3]


def test_who_can_read_a_run_can_read_its_checkpoints(tmp_path):
    class Learner:
        lora, version, base_id, start_id = SimpleNamespace(rank=4), 1, "base", None

        def save_adapter(self, folder):
            folder.mkdir()

        def state_dict(self):
            return {}

    (tmp_path / "run").mkdir()
    checkpoint.save(tmp_path / "run/step_000001", Learner(), {"step": 1})
    assert (tmp_path / "run/step_000001").stat().st_mode == (tmp_path / "run").stat().st_mode
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["step_000001"]
