"""CASIA-WebFace: faces to train on, a folder per identity or InsightFace's record file.

Yi et al., "Learning Face Representation from Scratch", 2014.
"""

from pathlib import Path

from reid_edge.core.progress import Progress
from reid_edge.data.identity_folders import read_identity_folders
from reid_edge.data.paths import find_base
from reid_edge.data.record_file import extract_record
from reid_edge.data.schema import ReidData

WRAPPINGS = ("casia-webface", "CASIA-WebFace", "faces_webface_112x112")
RECORD = "train.rec"
IMAGES = "images"


def read_casia_webface(root: Path, *, progress: Progress | None = None) -> ReidData:
    """Read CASIA-WebFace; all of it is training set, and there are no cameras.

    Args:
        root: the folder with a folder per identity, or with ``train.rec``, whose images are then
            extracted once into the folder ``images`` beside it; or one that wraps it.
        progress: called while images are extracted.

    Raises:
        DataError: there are no images, or the record file is broken.
    """
    base = find_base(
        root, WRAPPINGS, _is_base, "CASIA-WebFace: a folder per identity, or train.rec"
    )
    if (base / RECORD).is_file():
        folder = base / IMAGES
        if not folder.is_dir():
            extract_record(base / RECORD, folder, progress)
        return read_identity_folders(folder)
    return read_identity_folders(base)


def _is_base(folder: Path) -> bool:
    if (folder / RECORD).is_file():
        return True
    inside = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return len(inside) > 1
