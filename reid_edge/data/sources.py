"""The data sets by name: a plain dictionary from name to reader."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.archives import is_archive
from reid_edge.data.casia_webface import read_casia_webface
from reid_edge.data.csv_list import read_csv_lists
from reid_edge.data.cuhk03 import read_cuhk03, read_cuhk03_classic
from reid_edge.data.duke import read_dukemtmc_reid
from reid_edge.data.identity_folders import read_identity_folders
from reid_edge.data.market1501 import SPLITS, read_market1501
from reid_edge.data.msmt17 import read_msmt17
from reid_edge.data.paths import existing_folder, expand_home
from reid_edge.data.schema import ReidData

Reader = Callable[..., ReidData]

SOURCES: dict[str, Reader] = {
    "market1501": read_market1501,
    "dukemtmc-reid": read_dukemtmc_reid,
    "cuhk03-detected": partial(read_cuhk03, boxes="detected"),
    "cuhk03-labelled": partial(read_cuhk03, boxes="labelled"),
    "cuhk03-classic-detected": partial(read_cuhk03_classic, boxes="detected"),
    "cuhk03-classic-labelled": partial(read_cuhk03_classic, boxes="labelled"),
    "msmt17": read_msmt17,
    "casia-webface": read_casia_webface,
    "csv": read_csv_lists,
    "folders": read_identity_folders,
}

# In the Market-1501 layout either may be missing.
_TRAIN, _GALLERY = SPLITS["train"], SPLITS["gallery"]
# What is found only in a data set's folder, or in the folder that torchreid wraps it in.
MARKS = {
    "market1501": (_TRAIN, _GALLERY, f"Market-1501-v15.09.15/{_TRAIN}",
                   f"Market-1501-v15.09.15/{_GALLERY}"),
    "dukemtmc-reid": (f"DukeMTMC-reID/{_TRAIN}", f"DukeMTMC-reID/{_GALLERY}"),
    "msmt17": ("list_train.txt", "MSMT17_V1/list_train.txt", "MSMT17_V2/list_train.txt"),
    "cuhk03-detected": ("images_detected", "cuhk-03.mat", "cuhk03_release/cuhk-03.mat",
                        f"detected/{_TRAIN}", f"detected/{_GALLERY}"),
    "cuhk03-labelled": ("images_labeled", f"labeled/{_TRAIN}", f"labeled/{_GALLERY}"),
    "casia-webface": ("train.rec",),
    "csv": ("*.csv",),
}  # fmt: skip


def check_source(name: str) -> str:
    """Return ``name`` if it is known.

    Raises:
        DataError: it is not; the message names the nearest known one.
    """
    if name not in SOURCES:
        raise DataError(f"unknown data set {name!r}: {_known(name, SOURCES)}")
    return name


def read_source(
    name: str, root: Path, *, progress: Progress | None = None, **options: object
) -> ReidData:
    """Read a data set.

    Args:
        name: a key of ``SOURCES``.
        root: its folder, or one that wraps it.
        progress: called where reading means extracting images first.
        options: what the reader takes beyond the folder, such as ``train_all`` of MSMT17 and
            ``split`` of CUHK03's classic protocol.

    Raises:
        DataError: the name or an option is not known, or the reader's own reasons.
    """
    reader = SOURCES[check_source(name)]
    known = set(inspect.signature(reader).parameters) - {"root", "boxes"}
    for option in options:
        if option not in known:
            hint = _known(option, sorted(known - {"progress"}))
            raise DataError(f"{name} has no option {option!r}: {hint}")
    if "progress" in known:
        options["progress"] = progress
    return reader(root, **options)


def chosen_split(name: str, split: int | None = None) -> int | None:
    """Return which of its splits a data set is read with, or none where it has but one.

    Args:
        name: a key of ``SOURCES``.
        split: the one that was asked for, if any.
    """
    option = inspect.signature(SOURCES[check_source(name)]).parameters.get("split")
    if option is None or split is not None:
        return split
    return int(option.default)


def looks_like(name: str, folder: Path) -> bool:
    """Tell whether something lies in a folder that only that of this data set has."""
    return any(any(folder.glob(mark)) for mark in MARKS.get(name, ()))


def recognise_source(root: Path) -> str:
    """Tell by what lies in a folder which data set it is: the first of `recognise_sources`.

    Raises:
        DataError: it does not look like any.
    """
    return recognise_sources(root)[0]


def recognise_sources(root: Path) -> list[str]:
    """Tell by what lies in a folder which data sets it can be read as.

    Args:
        root: the data set's folder.

    Returns:
        Keys of ``SOURCES``, the one that it is read as first. There are several where, say,
        CUHK03's images of both kinds of boxes are there.

    Raises:
        DataError: it does not look like any.
    """
    root = expand_home(root)
    if root.is_file() and root.suffix == ".csv":
        return ["csv"]
    if root.is_file() and is_archive(root):
        raise DataError(f"{root}: an archive; unpack it with: reid-edge prepare NAME --from {root}")
    root = existing_folder(root)
    found = [name for name in MARKS if looks_like(name, root)]
    if found:
        return found
    if any(path.is_dir() and not path.name.startswith(".") for path in root.iterdir()):
        return ["folders"]
    raise DataError(
        f"{root}: looks like no data set that is known; name one of {', '.join(SOURCES)}"
    )


def _known(name: str, names: Iterable[str]) -> str:
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known are {', '.join(known)}" if known else "it takes none"
