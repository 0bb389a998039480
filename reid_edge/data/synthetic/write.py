"""Writes a data set as a whole: it is there complete, or it is not there."""

import json
import logging
from pathlib import Path

from reid_edge.core.errors import DataError
from reid_edge.core.io import written_aside
from reid_edge.core.progress import Progress
from reid_edge.data.synthetic.manifest import MANIFEST, describe, is_finished
from reid_edge.data.synthetic.market import FOLDERS, entries
from reid_edge.data.synthetic.studio import draw_entry, make_cameras
from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings

logger = logging.getLogger(__name__)


def write_synthetic_market1501(
    folder: Path, settings: SyntheticSettings, progress: Progress | None = None
) -> None:
    """Write images of synthetic pedestrians in the layout and with the names of Market-1501.

    ``folder`` then holds ``bounding_box_train``, ``query``, ``bounding_box_test`` and
    ``synthetic.json``, the manifest with the settings. A folder that holds just this data set
    already stays as it is. The same settings give the same bytes, wherever the same versions of
    NumPy and Pillow draw them.

    Args:
        folder: where to; it does not exist yet, or is empty, or was written by this function.
        settings: what to draw.
        progress: called after each image with how many are done and how many there are.

    Raises:
        DataError: the folder holds something else, was written with other settings, or cannot be
            written.
    """
    folder = folder.resolve()
    if is_finished(folder, settings):
        logger.info("synthetic images are there already: %s", folder)
        return
    try:
        with written_aside(folder) as draft:
            for name in FOLDERS:
                (draft / name).mkdir()
            cameras = make_cameras(settings)
            everything = list(entries(settings))
            for done, entry in enumerate(everything, start=1):
                image = draw_entry(entry, settings, cameras)
                image.save(draft / entry.path, quality=cameras[entry.camera].quality)
                if progress is not None:
                    progress(done, len(everything))
            text = json.dumps(describe(settings), indent=2) + "\n"
            (draft / MANIFEST).write_text(text, encoding="utf-8")
    except DataError:
        # Another process may have been faster; its images are as good as ours.
        if not is_finished(folder, settings):
            raise
        logger.info("synthetic images were written meanwhile: %s", folder)
        return
    logger.info("wrote synthetic images: %s", folder)
