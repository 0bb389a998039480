"""The embeddings of a folder of any size, in files of a limited size: shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from reid_edge.core.errors import DataError
from reid_edge.core.io import remove_unfinished, write_json, written_whole
from reid_edge.core.memory import freed_memory_kept
from reid_edge.core.model_file import Embeddings
from reid_edge.core.progress import Progress
from reid_edge.data.paths import IMAGE_SUFFIXES, existing_folder, inner_folders
from reid_edge.inference.embedder import (
    EmbeddingSpace,
    ImageEmbedder,
    check_distinct,
    check_embeddings,
    embed_batch,
    load_batches,
    prepare_image,
)

SPACE_FILE = "space.json"
INDEX_FILE = "index.json"
DEFAULT_SHARD = 8192


@dataclass(frozen=True)
class EmbeddedFolder:
    """What an embedding of a folder has made.

    Attributes:
        images: embedded by this process.
        known: embedded before.
        shards: files of embeddings in the folder, by this process and others.
        dimensions: D of an embedding; 0: this process embedded nothing.
        complete: whether the embeddings of all images are there.
    """

    images: int
    known: int
    shards: int
    dimensions: int
    complete: bool


def embed_folder(
    embedder: ImageEmbedder,
    folder: Path,
    output: Path,
    *,
    shard_size: int = DEFAULT_SHARD,
    batch_size: int = 32,
    workers: int = 0,
    share: tuple[int, int] = (0, 1),
    progress: Progress | None = None,
) -> EmbeddedFolder:
    """Write the embeddings of all images in a folder, and in folders within it.

    Shard i has the images from ``i * shard_size`` in the order of :func:`walk_images`: ``i.npy``
    has embeddings (N, D), float32, not of unit length; ``i.txt`` has the path of each from the
    folder, one a line. ``index.json`` is written when all shards are there. Every batch has the
    images that it has in :func:`reid_edge.inference.embedder.embed_files`, so that the embeddings
    are the same. Names and embeddings of one shard are in memory at a time.

    A shard that is there with the names of its images is not made again: after a kill the same call
    goes on.

    Args:
        embedder: the model.
        folder: with images at any depth.
        output: the folder of the shards; it is created.
        shard_size: images in a shard, rounded up to whole batches.
        batch_size: images that go through the model together.
        workers: threads that decode images ahead of the model.
        share: (rank, size): of several processes, each makes every so many of the shards.
        progress: called with (images done, images in all); all are known when all are listed, and
            until then those that were found.

    Raises:
        DataError: there are no images, one cannot be read, or the shards cannot be written or are
            of another model or size.
        ModelError: the model fails, or gives the same embedding for every image.
    """
    folder = existing_folder(folder)
    if shard_size < 1 or batch_size < 1 or workers < 0:
        raise DataError("a shard and a batch are of 1 image or more, and workers are 0 or more")
    shard_size = -(-shard_size // batch_size) * batch_size
    try:
        output.mkdir(parents=True, exist_ok=True)
        _claim(output, embedder.space, shard_size)
    except OSError as error:
        raise DataError(f"{output}: cannot be written ({error.strerror})") from error
    rank, size = share
    made = known = found = dimensions = number = 0
    images = walk_images(folder)
    while names := list(islice(images, shard_size)):
        found += len(names)
        if number % size == rank:
            if _has(output, number, names):
                known += len(names)
            else:
                embeddings = _embed(embedder, folder, names, batch_size, workers, progress,
                                    done=made + known, total=found)  # fmt: skip
                if made == 0 and len(names) > 1:
                    first = prepare_image(folder / names[0], embedder.space)[None]
                    check_distinct(embedder, embeddings, first)
                _write(output, number, names, embeddings)
                made, dimensions = made + len(names), embeddings.shape[1]
        number += 1
    if not found:
        raise DataError(f"{folder}: no images in it")
    complete = all((output / f"{name_of(shard)}.npy").is_file() for shard in range(number))
    if complete:
        shards = [{"embeddings": f"{name_of(n)}.npy", "names": f"{name_of(n)}.txt"} for n in
                  range(number)]  # fmt: skip
        write_json(output / INDEX_FILE, {"images": found, "shards": shards})
    return EmbeddedFolder(made, known, number, dimensions, complete)


def walk_images(folder: Path) -> Iterator[str]:
    """Yield the paths of all images from a folder: its own by name, then each inner folder's.

    Hidden files and folders are left out. The names of one folder at a time are in memory.
    """
    with os.scandir(folder) as entries:
        # No objects but their names: a folder may have millions.
        yield from sorted(
            entry.name
            for entry in entries
            if entry.name.lower().endswith(IMAGE_SUFFIXES)
            and not entry.name.startswith(".")
            and not entry.is_dir()
        )
    for inner in inner_folders(folder):
        for name in walk_images(inner):
            yield f"{inner.name}/{name}"


def name_of(shard: int) -> str:
    """Return the name of a shard's files, without the ending."""
    return f"{shard:06d}"


def read_names(path: Path) -> list[str]:
    """Read the names of a shard's images."""
    return os.fsdecode(path.read_bytes()).split("\n")[:-1]


def _claim(output: Path, space: EmbeddingSpace, shard_size: int) -> None:
    """Write what the shards have in common, or check that it is the same."""
    path = output / SPACE_FILE
    wanted: dict[str, Any] = {**space.to_dict(), "shard_size": shard_size}
    if not path.exists():
        if any(output.glob("*.npy")):
            raise DataError(f"{output}: holds .npy files without {SPACE_FILE}; name a new folder")
        write_json(path, wanted)
        return
    try:
        found = json.loads(path.read_text())
        difference = space.difference(EmbeddingSpace.from_dict(found))
        if difference is None and found["shard_size"] != shard_size:
            difference = f"{found['shard_size']} images in a shard, not {shard_size}"
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: cannot be read; remove the folder, or name a new one") from error
    if difference is not None:
        raise DataError(f"{output}: has embeddings of {difference}; name a new folder")


def _has(output: Path, number: int, names: Sequence[str]) -> bool:
    """Return whether a shard is there, with the embeddings of these images."""
    path = output / f"{name_of(number)}.npy"
    try:
        rows = np.load(path, mmap_mode="r").shape[0]
        return bool(rows == len(names) and read_names(path.with_suffix(".txt")) == list(names))
    except (OSError, ValueError, IndexError):
        return False


@freed_memory_kept()
def _embed(
    embedder: ImageEmbedder, folder: Path, names: Sequence[str], batch_size: int, workers: int,
    progress: Progress | None, *, done: int, total: int,
) -> Embeddings:  # fmt: skip
    parts = []
    paths = [folder / name for name in names]
    for batch in load_batches(embedder.space, paths, batch_size, workers):
        parts.append(embed_batch(embedder, batch))
        done += len(batch)
        if progress is not None:
            progress(done, max(done, total))
    return check_embeddings(np.concatenate(parts), embedder.path)


def _write(output: Path, number: int, names: Sequence[str], embeddings: Embeddings) -> None:
    """Write a shard: its names first, so that embeddings without names never count."""
    odd = next((name for name in names if "\n" in name), None)
    if odd is not None:
        raise DataError(f"{odd!r}: a name with a line break cannot be listed; rename it")
    path = output / f"{name_of(number)}.npy"
    for one in (path, path.with_suffix(".txt")):
        remove_unfinished(one)
    # Embeddings of other images must not be there beside the new names.
    path.unlink(missing_ok=True)
    (output / INDEX_FILE).unlink(missing_ok=True)
    with written_whole(path.with_suffix(".txt"), DataError) as file:
        file.write(os.fsencode("".join(f"{name}\n" for name in names)))
    with written_whole(path, DataError) as file:
        np.save(file, embeddings.astype(np.float32, copy=False))
