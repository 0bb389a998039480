"""The run's folder: who may write in it, which stages are done, where things lie."""

import fcntl
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from reid_edge.core.errors import PipelineError
from reid_edge.core.io import write_bytes, write_json

STAGE_FILE = "stage.json"
CHECKPOINT = "checkpoint.pt"
LAST_MODEL = "last.pt"
INT8_FILE = "int8.pt"
METRICS = "metrics.json"
KEPT = "kept.json"
PLAN = "plan.json"
SUPERSEDED = "superseded"
LOCK = "lock"
RESTART_FILE = "restart.json"
ORPHAN_SECONDS = 20.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StageRecord:
    """What a finished stage says of itself; written last.

    Attributes:
        stage: its name.
        fingerprint: of settings and inputs, see :mod:`pipeline.fingerprint`.
        settings: the settings that count for it.
        inputs: hashes of what it was made from, by name.
        outputs: hashes of the files it made, by file name.
        versions: of the libraries that matter.
        seed: of all draws.
        seconds: wall time.
        result: the row of the closing table.
        continued: it was interrupted; ``seconds`` are those since then.
    """

    stage: str
    fingerprint: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    outputs: dict[str, str]
    versions: dict[str, str]
    seed: int
    seconds: float
    result: dict[str, Any] = field(default_factory=dict)
    continued: bool = False

    @property
    def input_size(self) -> tuple[int, int]:
        """Return (height, width) of the model that the stage made."""
        data = self.settings["data"]
        # Records of earlier versions have no size of their own.
        height, width = self.result.get("input_size", (data["height"], data["width"]))
        return height, width


class RunDir:
    """A run's folder.

    Args:
        path: the folder; it is made by :meth:`create`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def config_path(self) -> Path:
        """The resolved configuration."""
        return self.path / "config.yaml"

    def check(self) -> None:
        """Check that the folder is a run's, or free to become one.

        Raises:
            PipelineError: it holds something else than a run.
        """
        marks = (self.path / LOCK, self.config_path)
        if self.path.is_dir() and any(self.path.iterdir()) and not any(m.exists() for m in marks):
            raise PipelineError(
                f"{self.path}: holds files, but no run; choose a new folder with --run"
            )

    def create(self) -> None:
        """Make the folder, or take it as it is if it is a run's.

        Raises:
            PipelineError: it cannot be made, or holds something else than a run.
        """
        self.check()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PipelineError(
                f"{self.path}: cannot make the run folder ({error.strerror}); choose another --run"
            ) from error

    def stage_dir(self, stage: str) -> Path:
        """Return the folder of a stage."""
        return self.path / stage

    def record(self, stage: str) -> StageRecord | None:
        """Return what a finished stage says of itself, or None if it is not finished.

        A file that cannot be read counts as not there: the stage is made anew, and what it had
        made is set aside.
        """
        path = self.stage_dir(stage) / STAGE_FILE
        if not path.is_file():
            return None
        try:
            return StageRecord(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as error:
            logger.warning("%s: cannot be read (%s); the stage counts as not made", path, error)
            return None

    def finish(self, record: StageRecord) -> None:
        """Write a stage's record, which makes it done."""
        write_json(self.stage_dir(record.stage) / STAGE_FILE, asdict(record))

    def finished_at(self, stage: str) -> int:
        """Return when a stage was finished, in nanoseconds."""
        return (self.stage_dir(stage) / STAGE_FILE).stat().st_mtime_ns

    def restarted_from(self) -> str | None:
        """Return the stage of a --from that was begun and is not done yet."""
        try:
            return str(json.loads((self.path / RESTART_FILE).read_text())["stage"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def mark_restart(self, stage: str | None) -> None:
        """Note that a --from was begun, or that it is done."""
        if stage is None:
            (self.path / RESTART_FILE).unlink(missing_ok=True)
        else:
            write_json(self.path / RESTART_FILE, {"stage": stage})

    def set_aside(self, stage: str) -> Path | None:
        """Move what a stage made out of the way, so that nothing made is lost.

        Returns:
            Where it lies now, or None if there was nothing.
        """
        folder = self.stage_dir(stage)
        if not folder.exists():
            return None
        shelf = self.path / SUPERSEDED
        shelf.mkdir(exist_ok=True)
        names = [re.fullmatch(rf"{stage}-(\d+)", path.name) for path in shelf.iterdir()]
        numbers = [int(name[1]) for name in names if name is not None]
        target = shelf / f"{stage}-{1 + max(numbers, default=0)}"
        folder.rename(target)
        return target

    def write_config(self, text: str) -> None:
        """Write the resolved configuration."""
        write_bytes(self.config_path, text.encode())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out; the lock goes with the process, however it ends.

        Raises:
            PipelineError: another process works in this folder.
        """
        descriptor = os.open(self.path / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            deadline = time.monotonic() + ORPHAN_SECONDS
            while not _try_lock(descriptor):
                owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
                # Loading workers of a killed process hold its lock until they notice its death.
                if _is_alive(owner) or time.monotonic() > deadline:
                    raise PipelineError(
                        f"{self.path}: in use by process {owner}; wait for it, stop it, or choose "
                        "another --run"
                    )
                time.sleep(0.1)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(process: str) -> bool:
    if not process.isdigit():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
