"""The adapter store: every version in a folder of its own, visible only when it is whole."""

import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from grpo_aflow.learner.storage import adapter_store
from grpo_aflow.learner.storage.adapter_store import AdapterStore
from grpo_aflow.types import InfrastructureError

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


def test_stores_that_share_keep_one_copy_between_them(tmp_path):
    """Also when they publish at once, when the first one has gone, and beside stores of other samplers."""
    files = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"weights"}
    stores = [AdapterStore(tmp_path, shared_by="one") for _ in range(4)]
    other = AdapterStore(tmp_path, shared_by="another").publish_files(dict.fromkeys(files, b"others"), 1)
    with ThreadPoolExecutor(4) as pool:
        published = list(pool.map(lambda store: store.publish_files(files, 1), stores))
    for name, content in files.items():
        assert {(adapter.path / name).read_bytes() for adapter in published} == {content}
        assert {(adapter.path / name).stat().st_nlink for adapter in published} == {4}
        assert (other.path / name).read_bytes() == b"others"
    stores[0].close()
    stores[1].remove(1)
    late = AdapterStore(tmp_path, shared_by="one").publish_files(files, 1)
    assert (late.path / "adapter_model.safetensors").stat().st_nlink == 3
    assert (published[2].path / "adapter_model.safetensors").read_bytes() == b"weights"


def test_without_links_each_store_writes_its_own(tmp_path, monkeypatch):
    def refused(*paths):
        raise PermissionError("no links here")

    monkeypatch.setattr(adapter_store.os, "link", refused)
    published = [AdapterStore(tmp_path, shared_by="one").publish_files({"a": b"weights"}, 1) for _ in range(2)]
    assert [(adapter.path / "a").read_bytes() for adapter in published] == [b"weights"] * 2


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
    monkeypatch.setattr(adapter_store, "SHARED_MEMORY", shared)
    monkeypatch.setattr(adapter_store.tempfile, "gettempdir", lambda: str(temporary))
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
