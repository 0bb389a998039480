"""From an archive, a folder or Kaggle to a checked folder in the Market-1501 layout."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from reid_edge.core.errors import DataError
from reid_edge.core.progress import Progress
from reid_edge.data.archives import unpack
from reid_edge.data.aside import check_replaceable, written_aside
from reid_edge.data.kaggle import fetch_from_kaggle
from reid_edge.data.market1501 import read_market1501
from reid_edge.data.market_writer import write_market_layout
from reid_edge.data.merging import split_by_identity
from reid_edge.data.paths import expand_home
from reid_edge.data.prepared_record import (
    HAS_CAMERAS,
    PROTOCOL,
    RECORD,
    SOURCE,
    SOURCE_COUNTS,
    check_same_source,
    describe_source,
)
from reid_edge.data.published_counts import Counts, count, differing_counts
from reid_edge.data.schema import ReidData, Sample, check_evaluable, count_persons
from reid_edge.data.sources import check_source, looks_like, read_source

FEWEST_IDENTITIES = 2
# What is tested on where a data set has no test set of its own.
TEST_SHARE, LARGEST_TEST_SHARE = 0.1, 0.4
TEST_SEED = 0

logger = logging.getLogger(__name__)


def prepare(
    name: str,
    source: Path | None,
    target: Path,
    *,
    max_ids: int | None = None,
    allow_other_counts: bool = False,
    options: Mapping[str, object] | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> ReidData:
    """Make a data set ready: unpack, read, count, cut, write.

    A data set without a test set (faces, one's own list) gets one: a tenth of its identities, or
    two of a few, the same each time. A target that an equal call has made already is left as it
    is; its counts are checked again.

    Args:
        name: a key of ``reid_edge.data.sources.SOURCES``.
        source: an archive or a folder; none: fetch it from Kaggle.
        target: where to write the Market-1501 layout; does not exist yet, or is empty.
        max_ids: keep the first so many identities of the training set and of the queries.
        allow_other_counts: go on with a warning where the counts are not the published ones.
        options: for the reader, see `read_source`.
        progress: given the title of a piece of work, returns what to call as it goes on.

    Returns:
        What was written.

    Raises:
        DataError: the source is missing, unsafe or broken, the counts are others than the
            published ones, or the target holds something else, or was made from another source.
    """
    check_source(name)
    target = expand_home(target)
    if max_ids is not None and max_ids < FEWEST_IDENTITIES:
        raise DataError(f"max_ids {max_ids}: keep {FEWEST_IDENTITIES} identities or more")
    start = progress or (lambda _: lambda _done, _total: None)
    request = {"data_set": name, "max_ids": max_ids, "options": dict(options or {})}
    record = _record_of(target, request)
    if record is not None:
        check_same_source(target, record, source)
        if SOURCE_COUNTS in record:
            _check_counts(name, Counts(**record[SOURCE_COUNTS]), allow_other_counts)
        logger.info("is prepared already: %s", target)
        return read_market1501(target)
    with _obtained(name, source, target, start) as (folder, ours):
        data = read_source(name, folder, progress=start("extracting"), **dict(options or {}))
        found = count(data)
        _check_counts(name, found, allow_other_counts)
        data = _with_test_set(_cut(data, max_ids))
        check_evaluable(data)
        with written_aside(target) as draft:
            write_market_layout(data, draft, link=ours, progress=start("writing"))
            record = {
                **request,
                SOURCE: describe_source(source),
                SOURCE_COUNTS: asdict(found),
                PROTOCOL: data.protocol,
                HAS_CAMERAS: data.has_cameras,
                "counts": asdict(count(data)),
            }
            (draft / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return read_market1501(target)


def _record_of(target: Path, request: Mapping[str, object]) -> dict[str, Any] | None:
    """Read what an equal request has noted, or return none where the target is still to be made."""
    if not target.exists():
        return None
    try:
        record = dict(json.loads((target / RECORD).read_text(encoding="utf-8")))
        if {key: record[key] for key in request} == request:
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if target.is_dir() and not any(target.iterdir()):
        check_replaceable(target)
        return None
    raise DataError(f"{target}: holds something else; remove it or give another folder with --to")


@contextmanager
def _obtained(
    name: str, source: Path | None, target: Path, start: Callable[[str], Progress]
) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of the data set, and whether it is ours to take images from."""
    if source is None:
        yield _unwrap(name, fetch_from_kaggle(name)), False
        return
    source = expand_home(source)
    if not source.exists():
        raise DataError(f"{source}: no such archive or folder")
    if source.is_dir() or source.suffix.lower() == ".csv":
        yield _unwrap(name, source), False
        return
    unpacked = target.with_name(f".{target.name}.{uuid4().hex[:12]}.unpacked")
    try:
        unpack(source, unpacked, progress=start("unpacking"))
        yield _unwrap(name, unpacked), True
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unwrap(name: str, folder: Path) -> Path:
    """Go down while a folder has nothing in it but one folder that is no part of the data set."""
    while folder.is_dir() and not looks_like(name, folder):
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir():
            break
        folder = inside[0]
    return folder


def _check_counts(name: str, found: Counts, allow_other_counts: bool) -> None:
    difference = differing_counts(name, found)
    if difference is None:
        return
    if not allow_other_counts:
        raise DataError(f"{difference}; is the copy whole? --allow-other-counts takes it as it is")
    logger.warning("%s", difference)


def _cut(data: ReidData, max_ids: int | None) -> ReidData:
    if max_ids is None:
        return data
    trained, asked = _first_persons(data.train, max_ids), _first_persons(data.query, max_ids)
    return replace(
        data,
        train=tuple(image for image in data.train if image.person in trained),
        query=tuple(image for image in data.query if image.person in asked),
        gallery=tuple(image for image in data.gallery if image.person in asked),
    )


def _first_persons(images: tuple[Sample, ...], limit: int) -> set[int]:
    return set(sorted({image.person for image in images})[:limit])


def _with_test_set(data: ReidData) -> ReidData:
    if not data.train:
        raise DataError(f"{data.root}: no images to train on")
    if data.query or data.gallery:
        return data
    # Two people at least, or no pair is of two; but the greater part is for training.
    share = max(TEST_SHARE, min(FEWEST_IDENTITIES / count_persons(data.train), LARGEST_TEST_SHARE))
    logger.info("no test set: a share of %.2g of the identities becomes one", share)
    return split_by_identity(data, share, TEST_SEED)
