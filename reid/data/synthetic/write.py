"""Writes a data set as a whole: it is there complete, or it is not there."""

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from reid.data.synthetic.market import FOLDERS, entries
from reid.data.synthetic.record import RECORD, describe, is_finished
from reid.data.synthetic.settings import SyntheticSettings
from reid.data.synthetic.studio import draw_entry, make_cameras
from reid.progress import Progress

logger = logging.getLogger(__name__)


def write_synthetic_market1501(
    folder: Path, settings: SyntheticSettings, progress: Progress | None = None
) -> None:
    """Write pictures of synthetic pedestrians in the layout and with the names of Market-1501.

    ``folder`` then holds ``bounding_box_train``, ``query``, ``bounding_box_test`` and
    ``synthetic.json``, the record of the settings. A folder that holds just this data set already
    is left as it is. The same settings give the same bytes, wherever the same versions of NumPy
    and Pillow draw them.

    Args:
        folder: where to; it does not exist yet, or is empty, or was written by this function.
        settings: what to draw.
        progress: called after each picture with how many are done and how many there are.

    Raises:
        DataError: the folder holds something else, or was written with other settings.
        OSError: the folder cannot be written.
    """
    folder = folder.resolve()
    if is_finished(folder, settings):
        logger.info("synthetic pictures are there already: %s", folder)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _aside(folder) as draft:
        _write_pictures(draft, settings, progress)
        _write_record(draft, settings)
        _publish(draft, folder, settings)


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Make a folder beside the real one, and remove it if anything goes wrong."""
    draft = folder.with_name(f".{folder.name}.{uuid4().hex[:12]}.unfinished")
    draft.mkdir()
    try:
        yield draft
    finally:
        # After success it is not there any more: it was renamed.
        shutil.rmtree(draft, ignore_errors=True)


def _write_pictures(draft: Path, settings: SyntheticSettings, progress: Progress | None) -> None:
    for name in FOLDERS:
        (draft / name).mkdir()
    cameras = make_cameras(settings)
    everything = list(entries(settings))
    for done, entry in enumerate(everything, start=1):
        picture = draw_entry(entry, settings, cameras)
        picture.save(draft / entry.path, quality=cameras[entry.camera].quality)
        if progress is not None:
            progress(done, len(everything))


def _write_record(draft: Path, settings: SyntheticSettings) -> None:
    text = json.dumps(describe(settings), indent=2) + "\n"
    (draft / RECORD).write_text(text, encoding="utf-8")


def _publish(draft: Path, folder: Path, settings: SyntheticSettings) -> None:
    """Flush, then rename: after a power cut, too, what bears the name is whole."""
    # One sync is hundreds of times faster than thousands of fsyncs. Windows has none.
    if hasattr(os, "sync"):
        os.sync()
    try:
        draft.rename(folder)
    except OSError:
        # Another process may have been faster; its pictures are as good as ours.
        if not is_finished(folder, settings):
            raise
        logger.info("synthetic pictures were written meanwhile: %s", folder)
        return
    logger.info("wrote synthetic pictures: %s", folder)
