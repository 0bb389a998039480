"""Enrolment: images of named persons become entries of a gallery."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.io import hash_file
from reid_edge.core.progress import Progress
from reid_edge.data.paths import expand_home
from reid_edge.inference.embedder import Embedder, embed_files
from reid_edge.inference.faiss_index import IndexKind, check_kind
from reid_edge.inference.gallery import Entry, Gallery, append
from reid_edge.inference.gallery_folder import is_gallery, open_gallery, save_gallery
from reid_edge.inference.gallery_images import NamedImage, read_gallery_folder

DEFAULT_KIND: IndexKind = "flat"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Enrolment:
    """What came of an enrolment.

    Attributes:
        added: images that are new in the gallery.
        known: images that were there already, or came twice.
        images: in the gallery now.
        persons: in the gallery now.
        kind: of the index.
    """

    added: int
    known: int
    images: int
    persons: int
    kind: IndexKind


def enrol(
    embedder: Embedder,
    gallery_folder: Path,
    index_folder: Path,
    *,
    kind: IndexKind | None = None,
    batch_size: int = 32,
    workers: int = 0,
    progress: Progress | None = None,
) -> Enrolment:
    """Append a folder's images to an index, which is made if it is not there.

    An image whose file has the content of one that is enrolled is not enrolled again. Nothing is
    written unless every image could be.

    Args:
        embedder: the model.
        gallery_folder: images, laid out as `read_gallery_folder` says.
        index_folder: of the index.
        kind: "flat", "hnsw" or "ivf"; by default that of the index, or flat for a new one.
        batch_size: images that go through the model together.
        workers: processes that decode images; 0 decodes them in this one.
        progress: called with (images done, images in all).

    Raises:
        DataError: the folder or an image cannot be read, the index is of another kind or model,
            or it cannot be written.
        ModelError: the model fails.
    """
    gallery = _open_or_begin(embedder, index_folder, kind)
    images = read_gallery_folder(gallery_folder)
    new = _new_entries(gallery, images, gallery_folder)
    if gallery.index is None:
        # Before the minutes that embedding takes.
        check_kind(gallery.kind, len(new))
    if new:
        paths = [image.path for image, _ in new]
        embeddings = embed_files(
            embedder, paths, batch_size=batch_size, workers=workers, progress=progress
        )
        gallery = append(gallery, [entry for _, entry in new], embeddings)
        gallery = save_gallery(index_folder, gallery)
    persons = len({entry.person for entry in gallery.entries})
    return Enrolment(len(new), len(images) - len(new), len(gallery.entries), persons, gallery.kind)


def _open_or_begin(embedder: Embedder, folder: Path, kind: IndexKind | None) -> Gallery:
    if not is_gallery(folder):
        return Gallery(embedder.space, str(embedder.path.resolve()), kind or DEFAULT_KIND)
    gallery = open_gallery(folder, embedder.space)
    if kind not in (None, gallery.kind):
        raise DataError(
            f"{folder}: is a {gallery.kind} index, not {kind}; enrol into another folder"
        )
    return gallery


def _new_entries(
    gallery: Gallery, images: Sequence[NamedImage], folder: Path
) -> list[tuple[NamedImage, Entry]]:
    known = {entry.content_hash: entry.person for entry in gallery.entries}
    new = []
    for image in images:
        content_hash = _hash(image.path)
        if content_hash in known:
            if known[content_hash] != image.person:
                message = "%s: left out, the same image is enrolled as %r"
                _log.warning(message, image.path, known[content_hash])
            continue
        known[content_hash] = image.person
        name = image.path.relative_to(expand_home(folder)).as_posix()
        new.append((image, Entry(image.person, name, content_hash)))
    return new


def _hash(image: Path) -> str:
    try:
        return hash_file(image)
    except OSError as error:
        raise DataError(
            f"{image}: cannot be read ({error.strerror}); replace the file or remove it"
        ) from error
