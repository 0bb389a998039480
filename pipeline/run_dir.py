"""The run's folder: who may write in it, which stages are done, where things lie."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from reid.files import write_bytes, write_json

STAGE_FILE = "stage.json"
CHECKPOINT = "checkpoint.pt"
METRICS = "metrics.json"
SUPERSEDED = "superseded"


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

    def create(self) -> None:
        """Make the folder.

        Raises:
            PipelineError: it cannot be made.
        """
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

        Raises:
            PipelineError: its file is damaged.
        """
        path = self.stage_dir(stage) / STAGE_FILE
        if not path.is_file():
            return None
        try:
            return StageRecord(**json.loads(path.read_text()))
        except (ValueError, TypeError) as error:
            raise PipelineError(
                f"{path}: damaged ({error}); run again with --from {stage}"
            ) from error

    def finish(self, record: StageRecord) -> None:
        """Write a stage's record, which makes it done."""
        write_json(self.stage_dir(record.stage) / STAGE_FILE, asdict(record))

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
        number = 1 + sum(1 for _ in shelf.glob(f"{stage}-*"))
        target = shelf / f"{stage}-{number}"
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
        path = self.path / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                owner = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
                raise PipelineError(
                    f"{self.path}: in use by process {owner}; wait for it, stop it, or choose "
                    "another --run"
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)
