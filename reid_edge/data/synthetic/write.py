"""Writes a data set as a whole: it is there complete, or it is not there."""

import json
import logging
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from ctypes import c_long
from pathlib import Path
from typing import Any

from reid_edge.core.errors import DataError
from reid_edge.core.io import written_aside
from reid_edge.core.progress import Progress, no_progress
from reid_edge.data.synthetic.camera import Camera
from reid_edge.data.synthetic.manifest import MANIFEST, describe, is_finished
from reid_edge.data.synthetic.market import FOLDERS, Entry, entries
from reid_edge.data.synthetic.studio import draw_entry, make_cameras
from reid_edge.data.synthetic.synthetic_settings import SyntheticSettings

# Fewer images are drawn before more processes have begun.
FEWEST_FOR_A_PROCESS = 256
PATIENCE_S = 0.2

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
            everything = list(entries(settings))
            processes = 1
            if sys.platform == "linux":  # elsewhere a fork is not safe
                most = len(everything) // FEWEST_FOR_A_PROCESS
                processes = max(1, min(len(os.sched_getaffinity(0)), most))
            draw_all(everything, settings, draft, processes, progress or no_progress("drawing"))
            text = json.dumps(describe(settings), indent=2) + "\n"
            (draft / MANIFEST).write_text(text, encoding="utf-8")
    except DataError:
        # Another process may have been faster; its images are as good as ours.
        if not is_finished(folder, settings):
            raise
        logger.info("synthetic images were written meanwhile: %s", folder)
        return
    logger.info("wrote synthetic images: %s", folder)


def draw_all(
    everything: Sequence[Entry],
    settings: SyntheticSettings,
    draft: Path,
    processes: int,
    progress: Progress,
) -> None:
    """Draw and save images, by this process and others that it forks.

    Args:
        everything: the images.
        settings: of the data set.
        draft: folder that they are saved in.
        processes: that share the images out, this one counted.
        progress: called with how many are done and how many there are, with each number once.

    Raises:
        OSError: an image cannot be saved.
    """
    own, *others = (everything[first::processes] for first in range(processes))
    cameras, total = make_cameras(settings), len(everything)
    context: Any = multiprocessing.get_context("fork" if others else None)
    # One number a process: a lock would stay locked if its owner is killed.
    drawn = [context.RawValue(c_long, 0) for _ in others]
    helpers = [
        context.Process(target=_help, args=(share, settings, draft, count, os.getpid()))
        for share, count in zip(others, drawn, strict=True)
    ]
    reported = 0

    def report(done: int) -> None:
        nonlocal reported
        if done > reported:
            reported = done
            progress(done, total)

    try:
        for helper in helpers:
            with suppress(OSError):  # there may be no room for another process
                helper.start()
        for done, entry in enumerate(own, start=1):
            _draw(entry, settings, cameras, draft)
            report(done + sum(count.value for count in drawn))
        for helper, share in zip(helpers, others, strict=True):
            while helper.is_alive():
                helper.join(PATIENCE_S)
                report(len(own) + sum(count.value for count in drawn))
            if helper.exitcode != 0:
                # What went wrong there is raised here, or it goes well here.
                for entry in share:
                    _draw(entry, settings, cameras, draft)
        report(total)
    finally:
        for helper in helpers:
            if helper.pid is not None and helper.is_alive():
                helper.kill()
                helper.join()


def _draw(
    entry: Entry, settings: SyntheticSettings, cameras: Sequence[Camera], draft: Path
) -> None:
    image = draw_entry(entry, settings, cameras)
    image.save(draft / entry.path, quality=cameras[entry.camera].quality)


def _help(
    share: Sequence[Entry], settings: SyntheticSettings, draft: Path, count: Any, parent: int
) -> None:
    """Draw images in a process that ends with its parent, and say nothing of what goes wrong."""
    # Ctrl-C reaches all processes of a terminal; the parent ends this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        cameras = make_cameras(settings)
        for entry in share:
            if os.getppid() != parent:
                break
            _draw(entry, settings, cameras, draft)
            count.value += 1
        else:
            os._exit(0)
    finally:
        os._exit(1)
