"""A gallery survives a crash at any moment, and is checked whenever it is read."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid_edge.core.errors import DataError
from reid_edge.inference.embedder import EmbeddingSpace
from reid_edge.inference.gallery import (
    CURRENT,
    Entry,
    Gallery,
    append,
    is_gallery,
    model_of,
    open_gallery,
    save_gallery,
)

SPACE = EmbeddingSpace("a" * 64, (64, 32))


def entry(name: str) -> Entry:
    return Entry(name, f"{name}.jpg", name * 3)


def one_more(gallery: Gallery, name: str) -> Gallery:
    return append(gallery, [entry(name)], np.random.default_rng(0).random((1, 4), dtype=np.float32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "new" / "index"
    save_gallery(path, one_more(Gallery(SPACE, "model.pt", "flat"), "ann"))
    return path


def persons(folder: Path) -> list[str]:
    gallery = open_gallery(folder, SPACE)
    assert gallery.index is not None
    assert gallery.index.ntotal == len(gallery.entries)
    return [entry.person for entry in gallery.entries]


def test_written_read_and_appended_to(folder: Path) -> None:
    assert is_gallery(folder)
    assert model_of(folder) == (Path("model.pt"), SPACE)
    gallery = open_gallery(folder, SPACE)
    assert (gallery.entries, gallery.generation, gallery.kind) == ((entry("ann"),), 1, "flat")
    saved = save_gallery(folder, one_more(gallery, "bob"))
    assert saved.generation == 2
    assert persons(folder) == ["ann", "bob"]
    assert sorted(path.name for path in folder.iterdir()) == [
        CURRENT, "generation-000002", "lock", "lock.owner",
    ]  # fmt: skip


@pytest.mark.parametrize("step", range(4))
def test_crash_at_every_rename(folder: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    gallery = one_more(open_gallery(folder, SPACE), "bob")
    crash_at(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        save_gallery(folder, gallery)
    monkeypatch.undo()
    assert persons(folder) == ["ann"]
    save_gallery(folder, one_more(open_gallery(folder, SPACE), "eve"))
    assert persons(folder) == ["ann", "eve"]
    assert sorted(path.name for path in folder.iterdir()) == [
        CURRENT, "generation-000002", "lock", "lock.owner",
    ]  # fmt: skip


@pytest.mark.parametrize("step", range(4))
def test_crash_of_the_first_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    crash_at(monkeypatch, step)
    with pytest.raises(KeyboardInterrupt):
        save_gallery(tmp_path / "i", one_more(Gallery(SPACE, "m", "flat"), "ann"))
    monkeypatch.undo()
    assert not is_gallery(tmp_path / "i")
    save_gallery(tmp_path / "i", one_more(Gallery(SPACE, "m", "flat"), "bob"))
    assert persons(tmp_path / "i") == ["bob"]


def crash_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    renames = iter(range(100))
    rename: Callable[..., Any] = Path.replace

    def crash(self: Path, target: Path) -> Path:
        if next(renames) == step:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", crash)


def test_full_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match=r"cannot be written .*No space left"):
        save_gallery(folder, one_more(open_gallery(folder, SPACE), "bob"))
    monkeypatch.undo()
    assert persons(folder) == ["ann"]


def test_of_another_model(folder: Path) -> None:
    for other, reason in (
        (replace(SPACE, file_hash="b" * 64), "another model file"),
        (replace(SPACE, input_size=(96, 48)), "images of 64x32, not of 96x48"),
        (replace(SPACE, flip_averaging=True), "flip averaging off"),
        (
            replace(SPACE, architecture="resnet18"),
            r"another architecture \(unnamed, not resnet18\)",
        ),
        (replace(SPACE, colour_order="BGR"), "colours as RGB, not BGR"),
        (replace(SPACE, mean=(0.5, 0.5, 0.5)), "other mean or std of the colours"),
        (replace(SPACE, std=(1.0, 1.0, 1.0)), "other mean or std of the colours"),
    ):
        with pytest.raises(DataError, match=f"index was made with {reason}, which cannot be comp"):
            open_gallery(folder, other)


def test_two_writers(folder: Path) -> None:
    mine, yours = (one_more(open_gallery(folder, SPACE), name) for name in ("bob", "eve"))
    save_gallery(folder, mine)
    with pytest.raises(DataError, match="somebody else has changed the index meanwhile"):
        save_gallery(folder, yours)
    assert persons(folder) == ["ann", "bob"]
    (folder / CURRENT).unlink()
    with pytest.raises(DataError, match="the index was removed meanwhile"):
        save_gallery(folder, yours)


def test_a_generation_that_is_replaced_while_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gallery = one_more(open_gallery(folder, SPACE), "bob")
    read_bytes, reads = Path.read_bytes, iter(range(100))

    def overtaken(self: Path) -> bytes:
        if next(reads) == 1:
            save_gallery(folder, gallery)
        return read_bytes(self)

    monkeypatch.setattr(Path, "read_bytes", overtaken)
    assert persons(folder) == ["ann", "bob"]


def test_reading_writes_nothing(folder: Path) -> None:
    for path in folder.glob("lock*"):
        path.unlink()
    open_gallery(folder, SPACE)
    model_of(folder)
    assert sorted(path.name for path in folder.iterdir()) == [CURRENT, "generation-000001"]


def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    gallery = one_more(open_gallery(folder, SPACE), "bob")
    monkeypatch.setattr("reid_edge.core.lock.FileLock.acquire", refuse)
    with pytest.raises(DataError, match=r"lock: cannot be locked \(Read-only file system\); make"):
        save_gallery(folder, gallery)
    assert persons(folder) == ["ann"]


@pytest.mark.parametrize("name", ["index.faiss", "entries.json"])
def test_damage_is_noticed_before_it_is_read(folder: Path, name: str) -> None:
    path = folder / "generation-000001" / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"damaged index \({name} is not what was written\)"):
        open_gallery(folder, SPACE)
    path.unlink()
    with pytest.raises(DataError, match="damaged index"):
        open_gallery(folder, SPACE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format_version": 1},
            r"model\.json: index format 1, this program's is 2; enrol again into another folder",
        ),
        ({"dimensions": 8}, "not the flat index of 1 x 8 that it should be"),
        ({"kind": "hnsw"}, "not the hnsw index of 1 x 4 that it should be"),
        ({"kind": "tree"}, "unknown kind 'tree'"),
        ({"hashes": None}, "damaged index"),
        ({"model": None}, r"model\.json: damaged; enrol again"),
        ({"model": {"input_size": [1]}}, r"model\.json: damaged; enrol again"),
    ],
)
def test_model_file_that_does_not_fit(
    folder: Path, change: dict[str, object], message: str
) -> None:
    path = folder / "generation-000001" / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        open_gallery(folder, SPACE)


def test_damaged_folder(folder: Path, tmp_path: Path) -> None:
    for text in ("{", "[" * 100_000, '{"format_version":' * 100_000):
        (folder / "generation-000001" / "model.json").write_text(text)
        for read in (model_of, lambda path: open_gallery(path, SPACE)):
            with pytest.raises(DataError, match=r"model\.json: cannot be read; enrol again"):
                read(folder)
    (folder / "generation-000001" / "model.json").write_text('{"format_version": 2}')
    with pytest.raises(DataError, match=r"model\.json: damaged; enrol again"):
        model_of(folder)
    with pytest.raises(DataError, match=r"model\.json: damaged; enrol again"):
        open_gallery(folder, SPACE)
    (folder / CURRENT).write_text("../../elsewhere")
    with pytest.raises(DataError, match="current: damaged; enrol again"):
        open_gallery(folder, SPACE)
    (folder / CURRENT).write_bytes(b"\xff")
    with pytest.raises(DataError, match="current: cannot be read; enrol again"):
        open_gallery(folder, SPACE)
    with pytest.raises(DataError, match="nowhere: no such folder; make an index with: reid-edge"):
        open_gallery(tmp_path / "nowhere", SPACE)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file: cannot be opened as a folder \(Not a directory\)"):
        open_gallery(tmp_path / "file", SPACE)


def test_folder_with_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("")
    with pytest.raises(DataError, match="no index in it; make an index with: reid-edge enrol"):
        open_gallery(tmp_path, SPACE)
    gallery = one_more(Gallery(SPACE, "m", "flat"), "ann")
    with pytest.raises(DataError, match=r"holds 'thesis\.doc' and no index; give a new folder"):
        save_gallery(tmp_path, gallery)
    with pytest.raises(DataError, match="cannot be written"):
        save_gallery(tmp_path / "thesis.doc", gallery)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.doc"]


def test_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the gallery has no entries"):
        save_gallery(tmp_path / "i", Gallery(SPACE, "m", "flat"))
    with pytest.raises(DataError, match="1 entries, but 2 embeddings"):
        append(Gallery(SPACE, "m", "flat"), [entry("ann")], np.ones((2, 4), np.float32))
