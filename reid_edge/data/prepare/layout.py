"""From an archive, a folder or Kaggle to a checked folder in the Market-1501 layout."""

import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from reid_edge.core.errors import DataError
from reid_edge.core.io import check_replaceable, written_aside
from reid_edge.core.progress import Progress
from reid_edge.data.identities import split_by_identity
from reid_edge.data.paths import expand_home
from reid_edge.data.prepare.archives import unpack
from reid_edge.data.prepare.kaggle import fetch_from_kaggle
from reid_edge.data.prepare.market_writer import write_market_layout
from reid_edge.data.provenance import (
    Provenance,
    Request,
    Source,
    read_provenance,
    write_provenance,
)
from reid_edge.data.reader import Reader
from reid_edge.data.readers.market1501 import read_market1501
from reid_edge.data.schema import Counts, ReidData, check_evaluable, count_persons
from reid_edge.data.sources import find_reader, read_source

FEWEST_IDENTITIES = 2
# The test set of a data set that has none of its own.
TEST_SHARE, LARGEST_TEST_SHARE = 0.1, 0.4
TEST_SEED = 0

logger = logging.getLogger(__name__)


def prepare(
    reader: Reader | str,
    source: Path | None,
    target: Path,
    *,
    max_ids: int | None = None,
    allow_other_counts: bool = False,
    options: Mapping[str, object] | None = None,
    progress: Callable[[str], Progress] | None = None,
) -> ReidData:
    """Write a data set in the layout of Market-1501: unpack, read, count, cut, write.

    A data set without a test set (faces, one's own list) gets one: a tenth of its identities, or
    two of a few, the same each time. A target that an equal call has made already stays as it is;
    its counts are checked again.

    Args:
        reader: a name in ``reid_edge.data.readers.READERS``, or a declaration, which need not be
            registered.
        source: an archive or a folder; none: fetch it from Kaggle.
        target: where to write the Market-1501 layout; does not exist yet, or is empty.
        max_ids: keep the first so many identities of the training set and of the queries.
        allow_other_counts: only warn if the counts are not the published ones.
        options: for the reader, see `read_source`.
        progress: given the title of a piece of work, returns what to call as it advances.

    Returns:
        What was written.

    Raises:
        DataError: the source is missing, unsafe or broken, the counts are others than the
            published ones, or the target holds something else, or was made from another source.
    """
    reader = find_reader(reader)
    target = expand_home(target)
    if max_ids is not None and max_ids < FEWEST_IDENTITIES:
        raise DataError(f"max_ids {max_ids}: keep {FEWEST_IDENTITIES} identities or more")
    start = progress or (lambda _: lambda _done, _total: None)
    request = Request(reader.name, max_ids, dict(options or {}))
    if target.exists():
        made = read_provenance(target)
        if made.request == request:
            made.check_source(target, source)
            if made.source_counts is not None:
                _check_counts(reader, made.source_counts, allow_other_counts)
            logger.info("is prepared already: %s", target)
            return read_market1501(target)
        if not target.is_dir() or any(target.iterdir()):
            raise DataError(
                f"{target}: holds something else; remove it or give another folder with --to"
            )
        check_replaceable(target)
    with _obtained(reader, source, target, start) as (folder, ours):
        data = read_source(reader, folder, progress=start("extracting"), **request.options)
        if data.labels != "persons":
            raise DataError(
                f"{data.root}: read as {reader.name}, images have no identities to write; a run "
                f"takes the folder as it is: data.root={data.root} data.format={reader.name}"
            )
        found = Counts.of(data)
        _check_counts(reader, found, allow_other_counts)
        if max_ids is not None:
            trained = set(sorted({image.person for image in data.train})[:max_ids])
            asked = set(sorted({image.person for image in data.query})[:max_ids])
            data = replace(
                data,
                train=tuple(image for image in data.train if image.person in trained),
                query=tuple(image for image in data.query if image.person in asked),
                gallery=tuple(image for image in data.gallery if image.person in asked),
            )
        if not data.train:
            raise DataError(f"{data.root}: no images to train on")
        if not (data.query or data.gallery):
            # Pairs of two people need two of them; but the greater part is for training.
            needed = min(FEWEST_IDENTITIES / count_persons(data.train), LARGEST_TEST_SHARE)
            share = max(TEST_SHARE, needed)
            logger.info("no test set: a share of %.2g of the identities becomes one", share)
            data = split_by_identity(data, share, TEST_SEED)
        check_evaluable(data)
        with written_aside(target) as draft:
            write_market_layout(data, draft, link=ours, progress=start("writing"))
            described = None if source is None else Source.of(source)
            provenance = Provenance(
                request, described, True, found, data.protocol, data.has_cameras, Counts.of(data)
            )
            write_provenance(draft, provenance)
    return read_market1501(target)


@contextmanager
def _obtained(
    reader: Reader, source: Path | None, target: Path, start: Callable[[str], Progress]
) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of the data set, and whether its images may be moved."""
    if source is None:
        yield _unwrap(reader, fetch_from_kaggle(reader)), False
        return
    source = expand_home(source)
    if not source.exists():
        raise DataError(f"{source}: no such archive or folder")
    if source.is_dir() or reader.is_file(source):
        yield _unwrap(reader, source), False
        return
    unpacked = target.with_name(f".{target.name}.{uuid4().hex[:12]}.unpacked")
    try:
        unpack(source, unpacked, progress=start("unpacking"))
        yield _unwrap(reader, unpacked), True
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)


def _unwrap(reader: Reader, folder: Path) -> Path:
    """Go down while a folder has nothing in it but one folder that is no part of the data set."""
    while folder.is_dir() and not reader.looks_like(folder):
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
        if len(inside) != 1 or not inside[0].is_dir():
            break
        folder = inside[0]
    return folder


def _check_counts(reader: Reader, found: Counts, allow_other_counts: bool) -> None:
    """Refuse counts that are not the published ones, or warn of them."""
    difference = reader.differing_counts(found)
    if difference is None:
        return
    if not allow_other_counts:
        raise DataError(f"{difference}; is the copy whole? --allow-other-counts takes it as it is")
    logger.warning("%s", difference)
