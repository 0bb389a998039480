"""A gallery of enrolled images in memory and in a folder: a FAISS index, and the person of each.

The folder holds generations, each complete, and ``current``, a file with the name of the valid one.
A change writes a new generation and then replaces ``current`` in one step, so that after a crash
either the old or the new one is valid::

    index/current
    index/generation-000002/index.faiss   the embeddings
    index/generation-000002/entries.json  person, file and content hash of each, in the same order
    index/generation-000002/model.json    whose embeddings they are, and the hashes of both files

One process at a time writes (``lock``). Reading takes no lock, so that a folder without rights to
write can be read: a generation never changes, and a reader whose generation is replaced and removed
reads the next one. The next write removes what a killed write has left.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
import numpy.typing as npt

from reid_edge.core.errors import DataError
from reid_edge.core.io import sync_folder, write_bytes, write_json
from reid_edge.core.lock import OWNER_SUFFIX, locked
from reid_edge.core.model_file import Embeddings
from reid_edge.inference.embedder import EmbeddingSpace
from reid_edge.inference.faiss_index import (
    INDEX_KINDS,
    IndexKind,
    add_embeddings,
    index_from_bytes,
    index_to_bytes,
    make_index,
)

CURRENT, INDEX, ENTRIES, MODEL = "current", "index.faiss", "entries.json", "model.json"
LOCK = "lock"
GENERATION = re.compile(r"generation-(\d{6,})")
FORMAT_VERSION = 2

Read = TypeVar("Read")
IntegerVector = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Entry:
    """An enrolled image.

    Attributes:
        person: whose image it is.
        file: its path, relative to the folder it was enrolled from.
        content_hash: SHA-256 of the image file in hexadecimal.
    """

    person: str
    file: str
    content_hash: str


@dataclass(frozen=True)
class Gallery:
    """Enrolled images and their embeddings.

    Attributes:
        space: which model's embeddings they are.
        model_file: where that model was when the gallery was written, for convenience only.
        kind: of the index.
        entries: one for each embedding, in the index's order.
        index: None if there are no entries.
        generation: number of times that the gallery has been written.
    """

    space: EmbeddingSpace
    model_file: str
    kind: IndexKind
    entries: tuple[Entry, ...] = ()
    index: faiss.Index | None = None
    generation: int = 0

    @cached_property
    def person_numbers(self) -> tuple[IntegerVector, int]:
        """The number of each entry's person (entries,), and the number of persons."""
        numbers: dict[str, int] = {}
        each = (numbers.setdefault(entry.person, len(numbers)) for entry in self.entries)
        return np.fromiter(each, dtype=np.int64, count=len(self.entries)), len(numbers)


def append(gallery: Gallery, entries: Sequence[Entry], embeddings: Embeddings) -> Gallery:
    """Return a gallery with more entries; do not use the given one again, its index is changed.

    Args:
        gallery: to append to.
        entries: at least one.
        embeddings: one for each entry, shape (entries, D), of any length.

    Raises:
        DataError: the numbers differ, the embeddings have another number of dimensions, or an
            index that must be trained has too few to be trained on.
    """
    if len(entries) != len(embeddings):
        raise DataError(f"{len(entries)} entries, but {len(embeddings)} embeddings")
    index = gallery.index
    if index is None:
        index = make_index(gallery.kind, embeddings)
    else:
        add_embeddings(index, embeddings)
    return replace(gallery, entries=(*gallery.entries, *entries), index=index)


def is_gallery(folder: Path) -> bool:
    """Return whether a folder holds a gallery."""
    return (folder / CURRENT).is_file()


def model_of(folder: Path) -> tuple[Path, EmbeddingSpace]:
    """Return where the model of a gallery was when the gallery was written, and how it was used.

    Raises:
        DataError: the folder holds no gallery, or a damaged one.
    """

    def read(current: Path) -> tuple[Path, EmbeddingSpace]:
        model = _read_model(current)
        return Path(str(model["model_file"])), _space_of(current, model)

    return _read_current(folder, read)


def open_gallery(folder: Path, space: EmbeddingSpace) -> Gallery:
    """Read a gallery, and check every file of it.

    Args:
        folder: the gallery's.
        space: of the model whose embeddings are to be compared with the gallery's.

    Raises:
        DataError: there is no gallery, it is damaged or of another version of this program, or it
            was made with another model, or with one used otherwise (see `EmbeddingSpace`).
    """

    def read(current: Path) -> Gallery:
        model = _read_model(current)
        difference = space.difference(_space_of(current, model))
        if difference is not None:
            raise DataError(
                f"{folder}: the index was made with {difference}, which cannot be compared; take "
                "the same, or enrol again into another folder"
            )
        try:
            contents = {name: (current / name).read_bytes() for name in (INDEX, ENTRIES)}
            for name, content in contents.items():
                # Before anything of it is parsed: FAISS trusts what it reads.
                if hashlib.sha256(content).hexdigest() != model["hashes"][name]:
                    raise ValueError(f"{name} is not what was written")
            kind = model["kind"]
            if kind not in INDEX_KINDS:
                raise ValueError(f"unknown kind {kind!r}")
            entries = tuple(Entry(**entry) for entry in json.loads(contents[ENTRIES]))
            index = index_from_bytes(contents[INDEX], kind, model["dimensions"], len(entries))
            generation = int(current.name.rpartition("-")[2])
            return Gallery(space, model["model_file"], kind, entries, index, generation)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise DataError(f"{current}: damaged index ({reason}); enrol again") from error

    return _read_current(folder, read)


def save_gallery(folder: Path, gallery: Gallery) -> Gallery:
    """Write a gallery, whole or not at all, and return it as it now is.

    Raises:
        DataError: it is empty, somebody else has changed the folder since it was read, the folder
            is there and holds something else, or it cannot be written.
    """
    index = gallery.index
    if index is None:
        raise DataError(f"{folder}: nothing to write, the gallery has no entries")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror})") from error
    # Before the lock file is made too: nothing is written into somebody else's folder.
    _check_unchanged(folder, gallery.generation)
    with locked(folder / LOCK, error=DataError):
        _check_unchanged(folder, gallery.generation)
        saved = replace(gallery, generation=gallery.generation + 1)
        try:
            _remove_others(folder, keep=gallery.generation)
            _write_generation(folder / _name(saved.generation), saved, index_to_bytes(index))
            write_bytes(folder / CURRENT, f"{_name(saved.generation)}\n".encode())
            sync_folder(folder)
        except OSError as error:
            raise DataError(f"{folder}: cannot be written ({error})") from error
        _remove_others(folder, keep=saved.generation)
    return saved


def _read_current(folder: Path, read: Callable[[Path], Read]) -> Read:
    """Read the current generation; if a write replaces it meanwhile, read the new one."""
    if not folder.exists():
        raise DataError(f"{folder}: no such folder; {_how_to_make_one(folder)}")
    if not folder.is_dir():
        raise DataError(f"{folder}: cannot be opened as a folder (Not a directory)")
    while True:
        current = _current(folder)
        try:
            return read(current)
        except DataError:
            if _current(folder) == current:
                raise


def _how_to_make_one(folder: Path) -> str:
    return f"make an index with: reid-edge enrol --gallery-dir D --index {folder}"


def _name(generation: int) -> str:
    return f"generation-{generation:06d}"


def _current(folder: Path) -> Path:
    """Return the folder of the generation that is valid."""
    try:
        name = (folder / CURRENT).read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no index in it; {_how_to_make_one(folder)}") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / CURRENT}: cannot be read; enrol again") from error
    if GENERATION.fullmatch(name) is None:
        raise DataError(f"{folder / CURRENT}: damaged; enrol again")
    return folder / name


def _read_model(generation: Path) -> dict[str, Any]:
    """Read ``model.json`` of a generation and check its version."""
    path = generation / MODEL
    try:
        model = dict(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read; enrol again") from error
    if model.get("format_version") != FORMAT_VERSION:
        raise DataError(
            f"{path}: index format {model.get('format_version')}, this program's is "
            f"{FORMAT_VERSION}; enrol again into another folder"
        )
    if "model_file" not in model:
        raise DataError(f"{path}: damaged; enrol again")
    return model


def _space_of(generation: Path, model: Mapping[str, Any]) -> EmbeddingSpace:
    try:
        return EmbeddingSpace.from_dict(model["model"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{generation / MODEL}: damaged; enrol again") from error


def _write_generation(path: Path, gallery: Gallery, index: memoryview) -> None:
    """Write the files of a generation into its new folder."""
    path.mkdir()
    # In ASCII, since a file name need not be UTF-8.
    written = (
        json.dumps({"person": one.person, "file": one.file, "content_hash": one.content_hash})
        for one in gallery.entries
    )
    entries = f"[{', '.join(written)}]".encode()
    for name, content in ((INDEX, index), (ENTRIES, entries)):
        write_bytes(path / name, content)
    write_json(
        path / MODEL,
        {
            "format_version": FORMAT_VERSION,
            "model": gallery.space.to_dict(),
            "model_file": gallery.model_file,
            "kind": gallery.kind,
            "dimensions": 0 if gallery.index is None else gallery.index.d,
            "hashes": {
                INDEX: hashlib.sha256(index).hexdigest(),
                ENTRIES: hashlib.sha256(entries).hexdigest(),
            },
        },
    )
    sync_folder(path)


def _check_unchanged(folder: Path, generation: int) -> None:
    if not is_gallery(folder):
        if generation:
            raise DataError(f"{folder}: the index was removed meanwhile; enrol again")
        # What a first write leaves that was killed is no reason to refuse.
        own = {CURRENT + ".partial", LOCK, LOCK + OWNER_SUFFIX}
        names = sorted(path.name for path in folder.iterdir())
        strange = [name for name in names if name not in own and not GENERATION.fullmatch(name)]
        if strange:
            raise DataError(f"{folder}: holds {strange[0]!r} and no index; give a new folder")
    elif _current(folder).name != _name(generation):
        raise DataError(f"{folder}: somebody else has changed the index meanwhile; run it again")


def _remove_others(folder: Path, keep: int) -> None:
    for path in folder.iterdir():
        if GENERATION.fullmatch(path.name) and path.name != _name(keep):
            shutil.rmtree(path, ignore_errors=True)
