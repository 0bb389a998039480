"""Enrolment: images of named persons become entries of a gallery."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.io import hash_file
from reid_edge.core.progress import Progress
from reid_edge.data.names import group_names, is_junk, is_missing
from reid_edge.data.paths import (
    check_regular,
    existing_folder,
    expand_home,
    images_of,
    inner_folders,
    list_images,
)
from reid_edge.data.readers.market1501 import NAME, SPLITS
from reid_edge.inference.embedder import ImageEmbedder, check_distinct, embed_files, prepare_image
from reid_edge.inference.faiss_index import IndexKind, check_kind
from reid_edge.inference.gallery import (
    Entry,
    Gallery,
    append,
    is_gallery,
    open_gallery,
    save_gallery,
)

DEFAULT_KIND: IndexKind = "flat"
# In Market-1501, -1 is no person, and 0000 are many persons without a name.
NOBODY = frozenset((-1, 0))

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Enrolment:
    """The result of an enrolment.

    Attributes:
        added: number of images that are new in the gallery.
        known: number of images that were there already, or came twice.
        images: number of images in the gallery now.
        persons: number of persons in the gallery now.
        kind: of the index.
    """

    added: int
    known: int
    images: int
    persons: int
    kind: IndexKind


def enrol(
    embedder: ImageEmbedder,
    gallery_folder: Path,
    index_folder: Path,
    *,
    kind: IndexKind | None = None,
    batch_size: int = 32,
    workers: int = 0,
    progress: Progress | None = None,
) -> Enrolment:
    """Append a folder's images to an index, which is created if it does not exist.

    An image with the content of an enrolled image is skipped. Nothing is written unless every
    image could be enrolled.

    Args:
        embedder: the model.
        gallery_folder: images, in a layout of `read_gallery_folder`.
        index_folder: of the index.
        kind: "flat", "hnsw" or "ivf"; by default that of the index, or flat for a new one.
        batch_size: images that go through the model together.
        workers: see `embed_files`.
        progress: called with (images done, images in all).

    Raises:
        DataError: the folder or an image cannot be read, the index is of another kind or model,
            or it cannot be written.
        ModelError: the model fails, or gives the same embedding for every image.
    """
    if is_gallery(index_folder):
        gallery = open_gallery(index_folder, embedder.space)
        if kind not in (None, gallery.kind):
            raise DataError(
                f"{index_folder}: is a {gallery.kind} index, not {kind}; enrol into another folder"
            )
    else:
        gallery = Gallery(embedder.space, str(embedder.path.resolve()), kind or DEFAULT_KIND)
    images = read_gallery_folder(gallery_folder)
    # A number is one person in whatever form it is written; the form enrolled first stays.
    persons = [entry.person for entry in gallery.entries] + [image.person for image in images]
    order = {person: place for place, person in enumerate(dict.fromkeys(persons))}
    first: dict[str, str] = {}
    for forms in group_names(order).values():
        first |= dict.fromkeys(forms, min(forms, key=order.__getitem__))
        if len(forms) > 1:
            one = " and ".join(map(repr, forms))
            _log.warning("%s are one person, enrolled as %r", one, first[forms[0]])
    images = [replace(image, person=first[image.person]) for image in images]
    new = _new_entries(gallery, images, gallery_folder)
    if gallery.index is None:
        # Before the minutes that embedding takes.
        check_kind(gallery.kind, len(new))
    if new:
        paths = [image.path for image, _ in new]
        embeddings = embed_files(
            embedder, paths, batch_size=batch_size, workers=workers, progress=progress
        )
        if len(paths) == 1:  # of several images, `embed_files` compares the embeddings
            check_distinct(embedder, embeddings, prepare_image(paths[0], embedder.space)[None])
        gallery = append(gallery, [entry for _, entry in new], embeddings)
        gallery = save_gallery(index_folder, gallery)
    enrolled = len({entry.person for entry in gallery.entries})
    return Enrolment(len(new), len(images) - len(new), len(gallery.entries), enrolled, gallery.kind)


@dataclass(frozen=True)
class NamedImage:
    """An image of a person who has a name.

    Attributes:
        path: the file.
        person: the name.
    """

    path: Path
    person: str


def _new_entries(
    gallery: Gallery, images: Sequence[NamedImage], folder: Path
) -> list[tuple[NamedImage, Entry]]:
    """Return the images whose content is not in the gallery, with their entries."""
    known = {entry.content_hash: entry.person for entry in gallery.entries}
    new = []
    for image in images:
        check_regular(image.path)
        try:
            content_hash = hash_file(image.path)
        except OSError as error:
            raise DataError(
                f"{image.path}: cannot be read ({error.strerror}); replace the file or remove it"
            ) from error
        if content_hash in known:
            if known[content_hash] != image.person:
                message = "%s: left out, the same image is enrolled as %r"
                _log.warning(message, image.path, known[content_hash])
            continue
        known[content_hash] = image.person
        name = image.path.relative_to(expand_home(folder)).as_posix()
        new.append((image, Entry(image.person, name, content_hash)))
    return new


def read_gallery_folder(folder: Path) -> list[NamedImage]:
    """List the images of a folder with the name of the person on each, sorted by path.

    The folder has one of three layouts:

    - a folder per person, whose name is the person's (``ann/1.jpg``); ``-1`` and
      ``00-1`` are left out;
    - images with Market-1501 names: ``0002_c1s1_000451_03.jpg`` is person ``0002``; junk
      (``-1``) and distractors (``0000``) are left out;
    - other images, whose name without the ending is the person's (``ann.jpg``).

    Raises:
        DataError: there is no such folder, it has no images, the layouts are mixed, or a folder
            within that of a person has images, which would not be read.
    """
    folder = existing_folder(folder)
    if (folder / SPLITS["gallery"]).is_dir():
        raise DataError(
            f"{folder}: a whole data set; give one of its folders, such as "
            f"{folder / SPLITS['gallery']}"
        )
    # A person's folder may have a name like an image's.
    flat = [path for path in list_images(folder) if not path.is_dir()]
    by_person = [
        NamedImage(path, person.name)
        for person in inner_folders(folder)
        if not is_junk(person.name)
        for path in images_of(person, "a person", "put the images of each person into one folder")
    ]
    if flat and by_person:
        raise DataError(
            f"{folder}: images beside folders with images; give a folder per person, or "
            "images alone"
        )
    named = _name_flat(folder, flat) if flat else by_person
    if not named:
        raise DataError(f"{folder}: no images of anybody in it")
    for image in named:
        if is_missing(image.person):
            raise DataError(
                f"{image.path}: {image.person!r} is a missing value and no person; rename it"
            )
    return named


def _name_flat(folder: Path, paths: Sequence[Path]) -> list[NamedImage]:
    """Name the persons of images without folders, by Market-1501's names or by their own."""
    matches = {path: match for path in paths if (match := NAME.match(path.name))}
    if not matches:
        return [NamedImage(path, path.stem) for path in paths]
    if len(matches) < len(paths):
        other = next(path for path in paths if path not in matches)
        raise DataError(
            f"{folder}: some names are Market-1501's, as {next(iter(matches)).name}, and some are "
            f"not, as {other.name}; give a folder per person"
        )
    named = [
        NamedImage(path, match[1]) for path, match in matches.items() if int(match[1]) not in NOBODY
    ]
    if len(named) < len(paths):
        _log.info("%d images of junk and distractors left out", len(paths) - len(named))
    return named
