"""Which images of CUHK03 are for training, query and gallery."""

import json
import re
from pathlib import Path
from typing import Any

import scipy.io

from reid_edge.core.errors import DataError
from reid_edge.data.cuhk03_mat import TestSet, read_test_sets

Names = list[str]


def read_new_protocol(base: Path, boxes: str) -> tuple[Names, Names, Names]:
    """Read the names of the images for training, query and gallery.

    Args:
        base: the folder with ``cuhk03_new_protocol_config_<boxes>.mat`` or torchreid's
            ``splits_new_<boxes>.json``.
        boxes: ``"detected"`` or ``"labeled"``.

    Raises:
        DataError: neither file is there, or it cannot be read.
    """
    mat = base / f"cuhk03_new_protocol_config_{boxes}.mat"
    if mat.is_file():
        return _read_protocol_mat(mat)
    splits = base / f"splits_new_{boxes}.json"
    if splits.is_file():
        return _read_torchreid_splits(splits)[0]
    raise DataError(
        f"{base}: neither {mat.name} nor {splits.name}; the first is in "
        "github.com/zhunzhong07/person-re-ranking, folder evaluation/data/CUHK03"
    )


def read_classic_test_sets(base: Path, boxes: str, release: Path | None) -> list[TestSet]:
    """Read the test sets of the classic splits, as (pair of cameras, person), from 1.

    Args:
        base: the folder with torchreid's ``splits_classic_<boxes>.json``, which need not be there.
        boxes: ``"detected"`` or ``"labeled"``.
        release: the file ``cuhk-03.mat``, if it is there.

    Raises:
        DataError: neither file is there, or it cannot be read.
    """
    splits = base / f"splits_classic_{boxes}.json"
    if splits.is_file():
        return [
            frozenset(_pair_and_person(splits, name) for name in query)
            for _, query, _ in _read_torchreid_splits(splits)
        ]
    if release is not None:
        return read_test_sets(release)
    raise DataError(f"{base}: neither cuhk-03.mat nor {splits.name}, which have the classic splits")


def _pair_and_person(splits: Path, name: str) -> tuple[int, int]:
    match = re.match(r"(\d)_(\d{3})_", name)
    if match is None:
        raise DataError(f"{splits}: {name!r} is no image of CUHK03; expected 1_001_1_01.png")
    return int(match[1]), int(match[2])


def _read_protocol_mat(mat: Path) -> tuple[Names, Names, Names]:
    try:
        content = scipy.io.loadmat(mat)
        names = [str(cell.item()) for cell in content["filelist"].ravel()]
        train, query, gallery = (
            # MATLAB counts from 1.
            [names[int(index) - 1] for index in content[key].ravel()]
            for key in ("train_idx", "query_idx", "gallery_idx")
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError, NotImplementedError) as error:
        raise DataError(
            f"{mat}: cannot be read as a protocol of CUHK03 ({error}); download it again"
        ) from error
    return train, query, gallery


def _read_torchreid_splits(path: Path) -> list[tuple[Names, Names, Names]]:
    try:
        splits = json.loads(path.read_text(encoding="utf-8"))
        return [
            (_names(split["train"]), _names(split["query"]), _names(split["gallery"]))
            for split in splits
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read as torchreid's splits of CUHK03") from error


def _names(entries: Any) -> Names:
    # The paths are those of the machine that made the file; only the names mean anything here.
    return [path.replace("\\", "/").rpartition("/")[2] for path, _, _ in entries]
