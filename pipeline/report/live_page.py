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

# A page takes about half a second to write, so that short stages share one.
SECONDS_BETWEEN = 5.0

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

    def write(running: Running | None) -> None:
        try:
            report = collect(config, run)
            records = {n: record for n, record in run.records().items() if n in report.results}
            write_page(run, report, records, running=running)
        except OSError as error:
            logger.warning("%s: the page cannot be written (%s)", run.path, error.strerror)

    def progress(stage: str) -> None:
        nonlocal last
        now = time.monotonic()
        if last is None or now - last > SECONDS_BETWEEN:
            stages = config.stages
            number = 1 + stages.index(stage) if stage in stages else 1
            write(Running(stage, number, len(stages)))
            last = now

    try:
        yield progress
    except BaseException:
        # It is not running any more, and must not say so.
        if last is not None:
            write(None)
        raise
