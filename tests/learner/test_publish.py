"""The adapter store and the gate."""

import shutil
from collections import namedtuple
from pathlib import Path

import pytest

from grpo_aflow.learner import publish
from grpo_aflow.learner.gate import Gate, check, distance
from grpo_aflow.learner.publish import AdapterStore
from grpo_aflow.types import InfrastructureError, SelfTestFailed

Usage = namedtuple("Usage", "total used free")


def save(text: str):
    def write(folder: Path) -> None:
        (folder / "adapter_model.safetensors").write_text(text)

    return write


def test_every_version_has_a_folder_of_its_own(tmp_path):
    store = AdapterStore(tmp_path)
    first, second = store.publish(save("one"), 1), store.publish(save("two"), 2)
    assert (first.version, second.version) == (1, 2)
    assert first.path != second.path
    assert (first.path / "adapter_model.safetensors").read_text() == "one"
    with pytest.raises(ValueError, match="version 1 is published already"):
        store.publish(save("other"), 1)
    store.remove(1)
    assert not first.path.exists()
    assert second.path.exists()
    store.close()
    store.close()
    assert list(tmp_path.iterdir()) == []


def test_a_version_is_visible_only_when_it_is_whole(tmp_path):
    store = AdapterStore(tmp_path)
    visible = []

    def fail(folder: Path) -> None:
        (folder / "half").write_text("half")
        visible.extend(path.name for path in store.folder.iterdir() if not path.name.startswith("."))
        raise OSError(28, "No space left on device")

    with pytest.raises(InfrastructureError, match="version 3 .*No space left on device.*free space"):
        store.publish(fail, 3)
    assert visible == []
    assert list(store.folder.iterdir()) == []
    assert store.publish(save("three"), 3).path.is_dir()


def test_shared_memory_is_taken_where_it_has_room(monkeypatch, tmp_path, caplog):
    shared, temporary = tmp_path / "shm", tmp_path / "tmp"
    shared.mkdir()
    temporary.mkdir()
    monkeypatch.setattr(publish, "SHARED_MEMORY", shared)
    monkeypatch.setattr(publish.tempfile, "gettempdir", lambda: str(temporary))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(100, 0, 100))
    assert AdapterStore(needed_bytes=100).folder.parent == shared
    assert caplog.text == ""
    assert AdapterStore(needed_bytes=101).folder.parent == temporary
    assert f"adapters are published through {temporary}" in caplog.text
    monkeypatch.undo()


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfrastructureError, match="cannot write adapters to .*file/below"):
        AdapterStore(tmp_path / "file" / "below")


# --- the gate ---------------------------------------------------------------------------------------------------------

OFF = (-1.0, -2.0, -3.0)
ON = (-1.1, -2.4, -2.9)


def test_agreement_passes_with_its_figures():
    near = tuple(value + 5e-5 for value in ON)
    report = check(near, OFF, ON, OFF, 1e-4)
    assert report.disagreement == pytest.approx(5e-5)
    assert report.learner_effect == pytest.approx(0.4)
    assert report.sampler_effect == pytest.approx(0.4 - 5e-5)


@pytest.mark.parametrize(
    ("sampler_on", "what"),
    [
        (OFF, "a dropped adapter"),
        ((-1.1, -2.4, -2.8), "a stale one: an older version's numbers"),
        ((-1.1, float("nan"), -2.9), "numbers that are none"),
    ],
)
def test_a_sampler_with_another_policy_is_caught_with_both_numbers(sampler_on, what):
    with pytest.raises(SelfTestFailed, match=r"sampler against learner .* learner 4\.00e-01, sampler"):
        check(sampler_on, OFF, ON, OFF, 1e-4)


def test_an_adapter_that_also_acts_on_the_base_is_caught():
    with pytest.raises(SelfTestFailed, match="answers alike with and without the adapter"):
        check(ON, ON, ON, OFF, 1e-4)


def test_an_effect_below_five_tolerances_need_not_be_seen():
    small = tuple(value + 4e-4 for value in OFF)
    assert check(small, small, small, OFF, 1e-4).sampler_effect == 0.0


def test_low_precision_measures_its_tolerance_at_the_first_check():
    gate = Gate(dtype="bfloat16")
    rough = tuple(value + 0.01 for value in OFF)
    gate.check(sampler_on=rough, sampler_off=rough, learner_on=OFF, learner_off=OFF)
    assert gate.tolerance == pytest.approx(0.04)
    with pytest.raises(SelfTestFailed, match=r"tolerance 4\.00e-02"):
        gate.check(sampler_on=[v + 0.05 for v in ON], sampler_off=rough, learner_on=ON, learner_off=OFF)
    assert Gate(dtype="float32").tolerance == 1e-4
    alike = Gate(dtype="float16")
    alike.check(sampler_on=OFF, sampler_off=OFF, learner_on=OFF, learner_off=OFF)
    assert alike.tolerance == 2**-10  # a lucky first check does not ask for more than fp16 can hold
    assert Gate(dtype="bfloat16", tolerance=0.02).tolerance == 0.02


def test_distance_needs_as_many_values_on_both_sides():
    assert distance([1.0, 2.0], [1.5, 2.0]) == 0.5
    with pytest.raises(ValueError, match="zip"):
        distance([1.0], [1.0, 2.0])
