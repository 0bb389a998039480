"""Enrolment: pictures of named persons become entries of a gallery."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from reid.data.paths import home_written_out
from reid.errors import DataError
from reid.files import hash_file
from reid.inference.embedder import Embedder, embed_files
from reid.inference.faiss_index import IndexKind, check_kind
from reid.inference.gallery import Entry, Gallery, append
from reid.inference.gallery_folder import is_gallery, open_gallery, save_gallery
from reid.inference.gallery_pictures import NamedPicture, read_gallery_folder
from reid.progress import Progress

DEFAULT_KIND: IndexKind = "flat"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Enrolment:
    """What came of an enrolment.

    Attributes:
        added: pictures that are new in the gallery.
        known: pictures that were there already, or came twice.
        pictures: in the gallery now.
        persons: in the gallery now.
        kind: of the index.
    """

    added: int
    known: int
    pictures: int
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
    """Append a folder's pictures to an index, which is made if it is not there.

    A picture whose file has the content of one that is enrolled is not enrolled again. Nothing is
    written unless every picture could be.

    Args:
        embedder: the model.
        gallery_folder: pictures, laid out as `read_gallery_folder` says.
        index_folder: of the index.
        kind: "flat", "hnsw" or "ivf"; by default that of the index, or flat for a new one.
        batch_size: pictures that go through the model together.
        workers: processes that decode pictures; 0 decodes them in this one.
        progress: called with (pictures done, pictures in all).

    Raises:
        DataError: the folder or a picture cannot be read, the index is of another kind or model,
            or it cannot be written.
        ModelError: the model fails.
    """
    gallery = _open_or_begin(embedder, index_folder, kind)
    pictures = read_gallery_folder(gallery_folder)
    new = _new_entries(gallery, pictures, gallery_folder)
    if gallery.index is None:
        # Before the minutes that embedding takes.
        check_kind(gallery.kind, len(new))
    if new:
        paths = [picture.path for picture, _ in new]
        embeddings = embed_files(
            embedder, paths, batch_size=batch_size, workers=workers, progress=progress
        )
        gallery = append(gallery, [entry for _, entry in new], embeddings)
        gallery = save_gallery(index_folder, gallery)
    persons = len({entry.person for entry in gallery.entries})
    return Enrolment(
        len(new), len(pictures) - len(new), len(gallery.entries), persons, gallery.kind
    )


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
    gallery: Gallery, pictures: Sequence[NamedPicture], folder: Path
) -> list[tuple[NamedPicture, Entry]]:
    known = {entry.content_hash: entry.person for entry in gallery.entries}
    new = []
    for picture in pictures:
        content_hash = _hash(picture.path)
        if content_hash in known:
            if known[content_hash] != picture.person:
                message = "%s: left out, the same picture is enrolled as %r"
                _log.warning(message, picture.path, known[content_hash])
            continue
        known[content_hash] = picture.person
        name = picture.path.relative_to(home_written_out(folder)).as_posix()
        new.append((picture, Entry(picture.person, name, content_hash)))
    return new


def _hash(picture: Path) -> str:
    try:
        return hash_file(picture)
    except OSError as error:
        raise DataError(
            f"{picture}: cannot be read ({error.strerror}); replace the file or remove it"
        ) from error
