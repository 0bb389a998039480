"""CASIA-WebFace: faces to train on, a folder per identity or InsightFace's MXNet file.

Yi et al., "Learning Face Representation from Scratch", 2014.
"""

from pathlib import Path

from reid_edge.core.progress import Progress
from reid_edge.data.paths import find_base
from reid_edge.data.reader import Reader
from reid_edge.data.readers.identity_folders import read_identity_folders
from reid_edge.data.readers.mxnet_rec import extract_rec
from reid_edge.data.schema import Counts, ReidData

WRAPPINGS = ("casia-webface", "CASIA-WebFace", "faces_webface_112x112")
REC_FILE = "train.rec"
IMAGES = "images"


def read_casia_webface(root: Path, *, progress: Progress | None = None) -> ReidData:
    """Read CASIA-WebFace; all of it is training set, and there are no cameras.

    Args:
        root: the folder with a folder per identity, or with ``train.rec``, whose images are then
            extracted once into the folder ``images`` beside it; or one that wraps it.
        progress: called while images are extracted.

    Raises:
        DataError: there are no images, or ``train.rec`` is broken.
    """

    def is_base(folder: Path) -> bool:
        if (folder / REC_FILE).is_file():
            return True
        inside = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
        return len(inside) > 1

    base = find_base(root, WRAPPINGS, is_base, "CASIA-WebFace: a folder per identity, or train.rec")
    if not (base / REC_FILE).is_file():
        return read_identity_folders(base)
    folder = base / IMAGES
    if not folder.is_dir():
        extract_rec(base / REC_FILE, folder, progress)
    return read_identity_folders(folder)


CASIA_WEBFACE = Reader(
    name="casia-webface",
    layout="a folder per identity, or InsightFace's `train.rec`; all of it is training set",
    read=read_casia_webface,
    publication='Yi et al., "Learning Face Representation from Scratch", 2014',
    marks=(REC_FILE,),
    extracts=True,
    # The list of the paper, and InsightFace's, which is cleaned and aligned.
    counts=(Counts(494414, 10575), Counts(490623, 10572)),
    kaggle="ntl0601/casia-webface",
)
