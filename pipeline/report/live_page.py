"""The page of a run while it runs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.config import Config
from pipeline.report.contents import collect
from pipeline.report.page import Running, write_page
from pipeline.run_dir import RunDir
from reid_edge.core.errors import reason_of

# A page takes about a second to write: short stages share one, and epochs do not wait for it.
BETWEEN_STAGES, BETWEEN_EPOCHS = 5.0, 30.0  # seconds

logger = logging.getLogger(__name__)


@contextmanager
def live_page(config: Config, run: RunDir) -> Iterator[Callable[[str], None]]:
    """Write ``report.html`` as the stages go on; if they fail, once more as it is then.

    Args:
        config: of the run.
        run: its folder.

    Yields:
        A function that :func:`pipeline.engine.run_stages` calls with the stage that runs. A page
        that cannot be written does not stop the run.
    """
    last: float | None = None
    shown = ""

    def write(running: Running | None) -> None:
        if not run.config_path.is_file():
            return  # The folder was removed: with a page alone in it, no run could begin there.
        try:
            report = collect(config, run)
            records = {n: record for n, record in run.records().items() if n in report.results}
            write_page(run, report, records, running=running)
        except Exception as error:
            # Hours of training must not end because of a page.
            logger.warning("%s: the page cannot be written (%s)", run.path, reason_of(error))

    def progress(stage: str) -> None:
        nonlocal last, shown
        now = time.monotonic()
        wait = BETWEEN_EPOCHS if stage == shown else BETWEEN_STAGES
        if last is None or now - last > wait:
            stages = config.stages
            number = 1 + stages.index(stage) if stage in stages else 1
            write(Running(stage, number, len(stages)))
            last, shown = time.monotonic(), stage

    try:
        yield progress
    except BaseException:
        # It is not running any more, and must not say so.
        if last is not None:
            write(None)
        raise
